"""The guards of this suite bite: each fault they watch for is made on purpose."""

import asyncio
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from blockbuster import BlockingError

from hal0 import lib
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
        with pytest.raises(PermissionError, match="loopback only"):
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
