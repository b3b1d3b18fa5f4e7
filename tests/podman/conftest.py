"""Live podman for the tests below: one private store and service per run, and nothing left behind by any test."""

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from hal0.engine.podman import PodmanEngine
from tests.beside import Beside
from tests.conftest import SOAK
from tests.guards import still_there
from tests.podman.daemon import Daemon, installed
from tests.podman.service import Podman, running_podman
from tests.podman.store import CPU_IMAGE, SHELL_IMAGE
from tests.tiny import gguf_models

RUN_VARIABLE = "HAL0_TEST_RUN"
_HERE = Path(__file__).parent
_AHEAD = pytest.StashKey[Beside]()
# Their images take minutes and gigabytes; `make test` has the same behind doubles and on the CPU.
collect_ignore = [] if SOAK else ["soak"]


@pytest.fixture(scope="session")
def podman() -> Iterator[Podman]:
    """A live podman of the tests' own."""
    token = secrets.token_hex(8)
    os.environ[RUN_VARIABLE] = token  # inherited by every process of this run, whoever its parent becomes
    try:
        with running_podman() as service:
            yield service
    finally:
        del os.environ[RUN_VARIABLE]
    left = still_there(lambda: _processes_of(token))
    assert not left, f"processes left behind: {left}"


@pytest.fixture(autouse=True)
def no_containers_left(podman: Podman, instance: str) -> Iterator[None]:
    """Containers of this test (by its instance, in a label or in the name) are gone at its end."""
    yield
    left = [one for one in podman.containers() if instance in str(one["Labels"]) or instance in str(one["Names"])]
    for container in left:
        podman.remove(container["Id"])
    assert not left, f"containers left behind: {[(one['Names'], one['State']) for one in left]}"


@pytest.fixture
async def engine(podman: Podman) -> AsyncIterator[PodmanEngine]:
    """An engine on the tests' podman that takes the host for an ordinary one: the service has what it needs."""
    made = PodmanEngine(podman.socket)
    yield made
    await made.aclose()


@pytest.fixture(scope="session")
def cpu_image(podman: Podman) -> str:
    """Image id of the real llama-server."""
    return podman.id_of(CPU_IMAGE)


@pytest.fixture(scope="session")
def shell_image(podman: Podman) -> str:
    """Image id of a static shell; a container's argv is one shell script."""
    return podman.id_of(SHELL_IMAGE)


@pytest.fixture(scope="session")
def tiny_chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chat model with random weights that the real llama-server loads in a blink."""
    return gguf_models.write_chat(tmp_path_factory.mktemp("models") / "tiny-chat.gguf")


def pytest_collection_finish(session: pytest.Session) -> None:
    """What the tests of this folder need is made while those before them run."""
    here = [item.path.is_relative_to(_HERE) for item in session.items]
    if any(here) and not all(here) and not session.config.option.collectonly:
        session.config.stash[_AHEAD] = Beside("tests.podman.ahead")


def pytest_sessionfinish(session: pytest.Session) -> None:
    if (ahead := session.config.stash.get(_AHEAD, None)) is not None:
        ahead.end()


def _processes_of(token: str) -> list[str]:
    """Command lines of living processes, but this one, that carry the token in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if token.encode() in (entry / "environ").read_bytes():
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:  # it ended meanwhile, or is not ours to look at
            continue
    return found


@pytest.fixture
def daemon(podman: Podman, home: Path, port_block: range, cpu_image: str) -> Iterator[Daemon]:
    """An installation with a chat and an embedding model; its process is not started yet."""
    # Ten streams at once that go on for as long as a test needs them.
    config = "[slots.primary]\nparallel = 10\ncontext_size = 65536\n"
    made = Daemon(home, port_block[-1], port_block[:-1], podman, config)
    with installed(made):
        gguf_models.write_chat(made.models / "tiny-chat.gguf", ctx=65536, dim=128, eos_bias=gguf_models.NEVER_ENDS)
        gguf_models.write_chat(made.models / "other-chat.gguf", seed=2)
        gguf_models.write_embed(made.models / "tiny-embed.gguf")
        yield made
