"""The guards of this suite bite: each fault they watch for is made on purpose."""

import asyncio
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from blockbuster import BlockingError

from hal0 import lib
from hal0.lib.aside import in_a_thread
from hal0.paths import Paths
from tests.guards import loopback_only, no_new_descriptors, no_tasks_left, quiet_loop
from tests.ports import BLOCK, PORTS, lease_block


def leave_a_socket_open(kept: list[socket.socket]) -> None:
    with no_new_descriptors():
        kept.append(socket.socket())


def test_an_open_socket_is_reported() -> None:
    kept: list[socket.socket] = []
    with pytest.raises(AssertionError, match=r"left open: .*socket:"):
        leave_a_socket_open(kept)
    kept[0].close()


async def test_what_a_thread_aside_still_holds_is_waited_for() -> None:
    def hold() -> None:
        with socket.socket():
            time.sleep(0.05)

    with no_new_descriptors():
        in_a_thread(hold)
        await asyncio.sleep(0.01)


async def test_what_a_thread_aside_is_about_to_open_is_waited_for() -> None:
    kept: list[socket.socket] = []

    def open_late() -> None:
        time.sleep(0.05)
        kept.append(socket.socket())

    async def leave_it_behind() -> None:
        with no_new_descriptors():
            in_a_thread(open_late)
            await asyncio.sleep(0.01)

    with pytest.raises(AssertionError, match=r"left open: .*socket:"):
        await leave_it_behind()
    kept[0].close()


async def test_a_task_left_behind_is_reported() -> None:
    task = asyncio.create_task(asyncio.Event().wait(), name="forgotten")
    with pytest.raises(AssertionError, match="forgotten"):
        await no_tasks_left()
    task.cancel()


async def test_an_error_nobody_took_is_reported() -> None:
    loop = asyncio.get_running_loop()

    async def fail_in_a_callback() -> None:
        with quiet_loop(loop):
            loop.call_soon([].pop)
            await asyncio.sleep(0)

    with pytest.raises(AssertionError, match="nobody handled"):
        await fail_in_a_callback()


def test_hosts_beyond_loopback_are_refused() -> None:
    with loopback_only(), socket.socket() as sock:
        sock.settimeout(1)
        with pytest.raises(PermissionError, match="this machine only"):
            sock.connect(("192.0.2.1", 80))
        with pytest.raises(ConnectionRefusedError):
            sock.connect(("127.0.0.1", 1))


@pytest.fixture
def module_of_hal0(tmp_path: Path) -> Iterator[Callable[[str], ModuleType]]:
    """Builds a module that the guard takes for one of hal0's own."""

    def build(source: str) -> ModuleType:
        module = ModuleType("hal0.lib.pretended")
        code = compile(source, str(Path(lib.__file__).with_name("pretended.py")), "exec")
        exec(code, module.__dict__)
        return module

    yield build
    sys.modules.pop("hal0.lib.pretended", None)


@pytest.mark.parametrize(
    "body",
    [
        "import time\ndef act(path): time.sleep(0.001)",
        "def act(path): path.read_text()",
        "def act(path): path.exists()",
        "import os\ndef act(path):\n with path.open() as f: os.fsync(f.fileno())",
    ],
)
async def test_a_blocking_call_of_hal0_is_caught(
    body: str, tmp_path: Path, module_of_hal0: Callable[[str], ModuleType]
) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    act = module_of_hal0(body).act
    with pytest.raises(BlockingError):
        act(file)
    await asyncio.to_thread(act, file)
    assert file.read_text() == "x"  # the test's own calls are its own business


OFFENDERS = """
import asyncio, socket, warnings

KEPT = []

async def test_forgets_a_task():
    KEPT.append(asyncio.create_task(asyncio.sleep(60)))

def test_forgets_a_socket():
    KEPT.append(socket.socket())

async def test_forgets_a_transport():
    async def serve(reader, writer):
        writer.close()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    KEPT.append(await asyncio.open_connection(*server.sockets[0].getsockname()[:2]))
    server.close()

async def test_fails_in_a_callback():
    asyncio.get_running_loop().call_soon([].pop)
    await asyncio.sleep(0)

def test_warns():
    warnings.warn("not for me", DeprecationWarning)

async def test_forgets_to_await():
    asyncio.sleep(1)

def test_is_good():
    pass
"""


def test_offending_tests_fail_in_this_suite(tmp_path: Path) -> None:
    file = tmp_path / "test_offenders.py"
    file.write_text(OFFENDERS)
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-c", str(root / "pyproject.toml")]
    command += ["--rootdir", str(root), "-p", "no:cacheprovider", "-rA", str(file)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300, check=False)
    caught = set(re.findall(r"^(?:FAILED|ERROR) \S*::(\w+)", done.stdout, re.MULTILINE))
    offending = set(re.findall(r"def (test_\w+)", OFFENDERS)) - {"test_is_good"}
    assert caught == offending, done.stdout


def test_two_leases_never_share_a_port() -> None:
    with lease_block() as one, lease_block() as two:
        assert len(one) == len(two) == BLOCK
        assert not set(one) & set(two)
        assert set(one) | set(two) <= set(PORTS)


def test_a_home_of_its_own_can_bind_its_sockets(home: Path, paths: Paths) -> None:
    assert paths.run_dir == home / "run"
    paths.run_dir.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(paths.run_dir / "engine.sock"))
