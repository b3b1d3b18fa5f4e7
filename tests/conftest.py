"""The ground every test stands on: a home, a name and ports of its own, and guards that fail what misbehaves."""

import asyncio
import inspect
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import hypothesis
import pytest
from blockbuster import BlockBuster, BlockBusterFunction
from hypothesis.configuration import set_hypothesis_home_dir

from hal0 import paths as hal0_paths
from hal0.paths import MAX_SOCKET_PATH_BYTES, Paths
from tests.beside import standing_still
from tests.guards import loopback_only, no_new_descriptors, no_tasks_left, quiet_loop
from tests.ports import lease_block
from tests.steady import SteadyLoop

SOAK = os.environ.get("HAL0_SOAK", "0") not in ("", "0")
# Folders whose tests reach nothing but loopback.
OFFLINE = [Path(__file__).with_name(name) for name in ("unit", "functional", "contract")]
# Others build the images of the last meanwhile.
FOLDERS = [Path(__file__).with_name(name) for name in ("contract", "unit", "functional", "podman")]
LONGEST_SOCKET = "/run/engine.sock"

set_hypothesis_home_dir(Path(tempfile.gettempdir()) / f"hal0-hypothesis-{os.getuid()}")
# No deadline: other work on the machine must not turn a slow example into a failure.
hypothesis.settings.register_profile("short", max_examples=60, deadline=None, derandomize=True, database=None)
hypothesis.settings.register_profile("soak", max_examples=3000, deadline=None, database=None, print_blob=True)
hypothesis.settings.load_profile("soak" if SOAK else "short")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: [folder in item.path.parents for folder in FOLDERS], reverse=True)


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """What a test waits for on its loop does not end because the machine stood still."""
    return {"steady": SteadyLoop}


@pytest.fixture
def soak_scale() -> Callable[[int, int], int]:
    """`soak_scale(short, full)`: how often, or how long; the full figure with HAL0_SOAK=1."""
    return lambda short, full: full if SOAK else short


@pytest.fixture
def machine_alone() -> Iterator[None]:
    """Of this test run, at least, nothing goes on beside the test."""
    with standing_still():
        yield


@pytest.fixture
def instance() -> str:
    """An instance id that no other test has."""
    return secrets.token_hex(4)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """HAL0_HOME of this test alone; its sockets can be bound where they are."""
    root = tmp_path / "h"
    short = len(os.fsencode(f"{root}{LONGEST_SOCKET}")) <= MAX_SOCKET_PATH_BYTES
    if not short:
        root = Path(tempfile.mkdtemp(prefix="h0-", dir="/tmp"))
    monkeypatch.setenv("HAL0_HOME", str(root))
    yield root
    if not short:
        shutil.rmtree(root)


@pytest.fixture
def paths(home: Path) -> Paths:
    """hal0's paths below `home`; nothing is created."""
    return hal0_paths.resolve({"HAL0_HOME": str(home)})


@pytest.fixture
def port_block() -> Iterator[range]:
    """Consecutive TCP ports, free now, leased to this test among all runs on this machine."""
    with lease_block() as block:
        yield block


@pytest.fixture
def free_port(port_block: range) -> int:
    return port_block[0]


@pytest.fixture
def descriptor_guard() -> Iterator[None]:
    with no_new_descriptors():
        yield


@pytest.fixture(autouse=True)
def guards(request: pytest.FixtureRequest, descriptor_guard: None, blocking_calls: None) -> Iterator[None]:
    """Descriptors and hosts for every test, tasks and unhandled errors for those that run a loop.

    The order matters: descriptors are counted before the loop is made, and the loop is looked at after every
    fixture of the test is gone.
    """
    if inspect.iscoroutinefunction(getattr(request, "function", None)):
        request.getfixturevalue("loop_guard")
    if any(request.path.is_relative_to(folder) for folder in OFFLINE):
        with loopback_only():
            yield
    else:
        yield


@pytest.fixture
async def loop_guard() -> AsyncIterator[None]:
    with quiet_loop(asyncio.get_running_loop()):
        yield
        await no_tasks_left()


@pytest.fixture(scope="session")
def blocking_calls() -> Iterator[None]:
    """A blocking call on an event loop raises where hal0 or aiohttp make it; tests may read their files themselves.

    Nothing is allowed beyond blockbuster's own list (imports, the interpreter's line cache, binding Unix sockets).
    """
    guard = BlockBuster(["hal0", "aiohttp"])
    for name in ("os.fsync", "os.fdatasync", "os.truncate", "socket.getaddrinfo"):  # not on blockbuster's list
        guard.functions[name] = BlockBusterFunction(None, name, scanned_modules=["hal0", "aiohttp"])
    guard.activate()
    yield
    guard.deactivate()
