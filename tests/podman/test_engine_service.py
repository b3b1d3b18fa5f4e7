"""The podman service hal0 starts for itself: its life, its end, and what survives it."""

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing, closing
from pathlib import Path

import pytest

from hal0.engine import spawn
from hal0.engine.base import LABEL_PREFIX, ContainerSpec, ContainerStatus, EventKind
from hal0.engine.host import HostFacts, containers_conf, read_facts
from hal0.engine.podman import PodmanEngine
from hal0.engine.probe import HostProbe
from hal0.engine.service import PodmanService, Source, candidates
from hal0.paths import Paths
from tests.podman.service import Podman

PATIENCE_S = 20.0


@pytest.fixture
def facts() -> HostFacts:
    return read_facts(os.environ, uid=os.getuid())


def own_service(facts: HostFacts, podman: Podman, paths: Paths) -> PodmanService:
    """A service of its own on the tests' store: no other socket is to be found from this environment."""
    socket = paths.run_dir / "engine.sock"
    return PodmanService(facts, podman.environ, run_dir=paths.run_dir, own_socket=socket, sockets=())


def process_gone(pid: int, timeout_s: float = PATIENCE_S) -> bool:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    with closing(os.fdopen(fd, closefd=True)) as pidfd:
        return bool(select.select([pidfd], [], [], timeout_s)[0])


async def test_a_service_of_its_own_answers_and_leaves_nothing_behind(
    facts: HostFacts, podman: Podman, paths: Paths
) -> None:
    async with own_service(facts, podman, paths) as service:
        status = service.status
        assert status.source is Source.OWN
        assert status.problem is None
        assert status.pid is not None
        assert os.getsid(status.pid) == status.pid
        engine = PodmanEngine(service.socket)
        assert await engine.ping() == status.version
        await engine.aclose()
    assert process_gone(status.pid, 0)
    assert not service.socket.exists()
    assert not (paths.run_dir / "engine.pid").exists()


async def test_a_killed_service_is_back_at_once_and_its_containers_never_noticed(
    facts: HostFacts, podman: Podman, paths: Paths, instance: str, shell_image: str
) -> None:
    mine = {LABEL_PREFIX + "instance": instance}
    spec = ContainerSpec(
        name=f"hal0-{instance}-primary-1",
        image=shell_image,
        argv=("while true; do sleep 1; done",),
        labels=mine,
        network="none",
    )
    async with own_service(facts, podman, paths) as service:
        engine = PodmanEngine(service.socket)
        container = await engine.create(spec)
        try:
            await engine.start(container)
            before = await engine.inspect(container)
            async with aclosing(engine.events(mine)) as events, asyncio.timeout(PATIENCE_S):
                assert (await anext(events)).kind is EventKind.RESYNC
                killed = service.status.pid
                assert killed is not None
                os.kill(killed, signal.SIGKILL)
                while (await anext(events)).kind is not EventKind.RESYNC:
                    pass  # what happened before the gap may be told again
                assert await engine.inspect(container) == before
                assert service.status.restarts == 1
                assert service.status.pid != killed
                assert before is not None
                os.kill(before.pid, signal.SIGKILL)
                while (await anext(events)).kind is not EventKind.DIED:
                    pass
        finally:
            await engine.remove(container)
            await engine.aclose()


async def test_a_death_while_no_service_ran_is_seen_afterwards(
    facts: HostFacts, podman: Podman, paths: Paths, instance: str, shell_image: str
) -> None:
    spec = ContainerSpec(
        name=f"hal0-{instance}-primary-1",
        image=shell_image,
        argv=("while true; do sleep 1; done",),
        labels={LABEL_PREFIX + "instance": instance},
        network="none",
    )
    async with own_service(facts, podman, paths) as service:
        engine = PodmanEngine(service.socket)
        container = await engine.create(spec)
        await engine.start(container)
        info = await engine.inspect(container)
        await engine.aclose()
    assert info is not None
    os.kill(info.pid, signal.SIGKILL)
    async with own_service(facts, podman, paths) as service:
        engine = PodmanEngine(service.socket)
        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    now = await engine.inspect(container)
                    assert now is not None
                    if now.status is ContainerStatus.EXITED:
                        break
                    await asyncio.sleep(0.02)
            assert now.exit_code == 137
        finally:
            await engine.remove(container)
            await engine.aclose()


@pytest.fixture
def parent(podman: Podman, paths: Paths) -> Iterator["subprocess.Popen[str]"]:
    """A process that holds a PodmanService open and prints the child's pid."""
    code = (
        "import asyncio, os, sys\n"
        "from pathlib import Path\n"
        "from hal0.engine.host import read_facts\n"
        "from hal0.engine.service import PodmanService\n"
        "async def main():\n"
        "    run = Path(sys.argv[1])\n"
        "    facts = read_facts(os.environ, uid=os.getuid())\n"
        "    service = PodmanService(facts, os.environ, run_dir=run, own_socket=run / 'engine.sock', sockets=())\n"
        "    async with service:\n"
        "        print(service.status.pid, flush=True)\n"
        "        await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(paths.run_dir)],
        env={**podman.environ, "PYTHONPATH": root},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_the_service_dies_with_its_parent_however_that_dies(parent: "subprocess.Popen[str]") -> None:
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert not process_gone(child, 0)
    parent.kill()
    assert process_gone(child)


async def test_after_a_killed_parent_the_next_one_serves_within_a_second(
    parent: "subprocess.Popen[str]", facts: HostFacts, podman: Podman, paths: Paths
) -> None:
    assert parent.stdout is not None
    child = int(await asyncio.to_thread(parent.stdout.readline))
    parent.kill()
    loop = asyncio.get_running_loop()
    begun = loop.time()
    async with own_service(facts, podman, paths) as service:
        took = loop.time() - begun
        engine = PodmanEngine(service.socket)
        assert await engine.ping()
        await engine.aclose()
    assert await asyncio.to_thread(process_gone, child)
    assert took < 1.5


def test_a_command_whose_parent_died_before_the_signal_was_set_does_not_start(tmp_path: Path) -> None:
    witness = tmp_path / "started"
    command = [sys.executable, "-I", "-S", str(spawn.__file__), "1", "touch", str(witness)]
    assert subprocess.run(command, timeout=PATIENCE_S, check=False).returncode == 0
    assert not witness.exists()


async def test_a_living_service_of_an_earlier_hal0_is_used_again(
    facts: HostFacts, podman: Podman, paths: Paths
) -> None:
    first = own_service(facts, podman, paths)
    async with first, own_service(facts, podman, paths) as second:
        assert second.status.pid == first.status.pid
        assert second.status.restarts == 0
        assert second.status.problem is None


async def test_two_instances_keep_apart_on_one_store(
    facts: HostFacts, podman: Podman, paths: Paths, instance: str, shell_image: str
) -> None:
    async with own_service(facts, podman, paths) as service:
        one, other = PodmanEngine(podman.socket), PodmanEngine(service.socket)
        made = []
        try:
            for engine, who in ((one, f"{instance}-a"), (other, f"{instance}-b")):
                spec = ContainerSpec(
                    name=f"hal0-{who}-primary-1",
                    image=shell_image,
                    argv=("exit 0",),
                    labels={LABEL_PREFIX + "instance": who},
                    network="none",
                )
                made.append(await engine.create(spec))
            for engine, who, container in ((one, f"{instance}-a", made[0]), (other, f"{instance}-b", made[1])):
                found = await engine.containers({LABEL_PREFIX + "instance": who})
                assert [info.id for info in found] == [container]
        finally:
            for container in made:
                await one.remove(container)
            await one.aclose()
            await other.aclose()


async def test_a_configured_socket_is_used_and_no_child_is_started(
    facts: HostFacts, podman: Podman, paths: Paths
) -> None:
    service = PodmanService(
        facts,
        podman.environ,
        run_dir=paths.run_dir,
        own_socket=paths.run_dir / "engine.sock",
        sockets=candidates(f"unix://{podman.socket}", podman.environ),
    )
    async with service:
        assert (service.socket, service.status.source, service.status.pid) == (podman.socket, Source.CONFIG, None)
        assert service.status.problem is None


async def test_the_child_gets_what_this_host_needs_and_the_configuration_in_force_does_not_say(
    facts: HostFacts, podman: Podman, paths: Paths, instance: str, shell_image: str, tmp_path: Path
) -> None:
    needs = ("default_ulimits", "cgroup_manager", "events_logger", "runtime =")
    lines = Path(podman.environ["CONTAINERS_CONF"]).read_text().splitlines()  # noqa: ASYNC240
    bare = tmp_path / "bare.conf"
    bare.write_text("\n".join(line for line in lines if not line.startswith(needs)))
    wanted = containers_conf(facts, bare.read_text())
    socket = paths.run_dir / "engine.sock"
    environ = {**podman.environ, "CONTAINERS_CONF": str(bare)}
    spec = ContainerSpec(
        name=f"hal0-{instance}-primary-1",
        image=shell_image,
        argv=("exit 0",),
        labels={LABEL_PREFIX + "instance": instance},
        network="none",
    )
    async with PodmanService(facts, environ, run_dir=paths.run_dir, own_socket=socket, sockets=()):
        written = paths.run_dir / "containers.conf"
        assert (written.read_text() if written.exists() else None) == wanted
        engine = PodmanEngine(socket)
        container = await engine.create(spec)
        try:
            await engine.start(container)
        finally:
            await engine.remove(container)
            await engine.aclose()


async def test_this_host_is_probed_once_and_remembered(
    facts: HostFacts, podman: Podman, paths: Paths, cpu_image: str, instance: str
) -> None:
    paths.run_dir.mkdir(parents=True)
    cache = paths.run_dir / "host.json"
    engine = PodmanEngine(podman.socket)
    try:
        first = HostProbe(facts, cache, instance=instance)
        profile = await first.profile(engine.transport, cpu_image)
        assert first.result is not None
        assert first.result.problem is None
        await first.warm(engine.transport)
        assert first.result.engine["storage"] == "overlay"
        written = cache.stat().st_mtime_ns
        again = HostProbe(facts, cache, instance=instance)
        assert await again.profile(engine.transport, "0" * 64) == profile  # an image that could not be probed with
        assert cache.stat().st_mtime_ns == written
        assert await engine.containers({LABEL_PREFIX + "probe": instance}) == []
    finally:
        await engine.aclose()
