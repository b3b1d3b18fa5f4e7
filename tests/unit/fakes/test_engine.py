"""The fake engine keeps the contract and the real ordering, and each variant has its fault and no other."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from hal0.engine.base import ContainerStatus, Engine, EngineEvent, EventKind
from hal0.engine.errors import ImageMissing, NameTaken, PortTaken
from hal0.errors import Hal0Error
from hal0.providers.base import Endpoint, Exit, HealthState, Provider
from tests.factories import container_spec, launch
from tests.fakes.engine import (
    AmnesiacEngine,
    DeafEngine,
    DyingEngine,
    FakeEngine,
    FlakyEngine,
    SlowEngine,
    StalledEngine,
)
from tests.fakes.program import Program
from tests.fakes.provider import FakeHealth
from tests.vloop import virtual_time

PORT = 21000


class Listener:
    """Collects an engine's events while it is open."""

    def __init__(self, engine: FakeEngine) -> None:
        self._events: AsyncIterator[EngineEvent] = engine.events({})
        self.kinds: list[EventKind] = []

    async def __aenter__(self) -> "Listener":
        self._task = asyncio.create_task(self._collect())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _collect(self) -> None:
        async for event in self._events:
            self.kinds.append(event.kind)


async def started(engine: FakeEngine, program: Program | None = None, port: int = PORT) -> str:
    if program:
        engine.plan(program)
    container = await engine.create(container_spec(port=port))
    await engine.start(container)
    return container


def test_the_fakes_keep_their_contracts() -> None:
    engine: Engine = FakeEngine()
    provider: Provider = FakeHealth(FakeEngine())
    assert {engine, provider}


@virtual_time
async def test_a_life_is_told_after_the_fact_in_order() -> None:
    engine = FakeEngine()
    async with Listener(engine) as heard:
        container = await started(engine)
        assert heard.kinds == [EventKind.RESYNC]
        await engine.stop(container, timeout_s=10)
        await engine.remove(container)
        await asyncio.sleep(1)
    assert heard.kinds == [EventKind.RESYNC, EventKind.STARTED, EventKind.DIED, EventKind.REMOVED]


@virtual_time
async def test_created_does_not_run_and_running_has_a_process() -> None:
    engine = FakeEngine()
    container = await engine.create(container_spec(port=PORT))
    made = await engine.inspect(container)
    assert made is not None
    assert (made.status, made.pid, made.host_port) == (ContainerStatus.CREATED, 0, PORT)
    await engine.start(made.name)
    running = await engine.inspect(made.name)
    assert running is not None
    assert running.status is ContainerStatus.RUNNING
    assert running.pid > 0


@virtual_time
async def test_verbs_are_idempotent() -> None:
    engine = FakeEngine()
    container = await started(engine)
    await engine.start(container)
    for _ in range(2):
        await engine.stop(container, timeout_s=1)
    for _ in range(2):
        await engine.remove(container)
    assert await engine.inspect(container) is None
    await engine.stop(container, timeout_s=1)


@virtual_time
async def test_names_images_and_ports_are_refused() -> None:
    engine = FakeEngine()
    await started(engine)
    with pytest.raises(NameTaken):
        await engine.create(container_spec(port=PORT + 1))
    with pytest.raises(ImageMissing):
        await engine.create(container_spec(generation=2, image="2" * 64))
    second = await engine.create(container_spec(generation=2, port=PORT))
    with pytest.raises(PortTaken):
        await engine.start(second)
    left = await engine.inspect(second)
    assert left is not None
    assert left.status is ContainerStatus.CREATED


@virtual_time
async def test_a_port_of_a_stranger_is_refused() -> None:
    engine = FakeEngine()
    engine.busy_ports.add(PORT)
    with pytest.raises(PortTaken):
        await started(engine)


@pytest.mark.parametrize(
    ("program", "timeout_s", "exit_code", "took_s"),
    [
        (Program(stops_after_s=0.5), 10, 0, 0.52),
        (Program(ignores_sigterm=True), 10, 137, 10.02),
        (Program(stops_after_s=60), 10, 137, 10.02),
    ],
)
@virtual_time
async def test_stop_is_sigterm_then_sigkill(program: Program, timeout_s: float, exit_code: int, took_s: float) -> None:
    engine = FakeEngine()
    container = await started(engine, program)
    loop = asyncio.get_running_loop()
    before = loop.time()
    await engine.stop(container, timeout_s=timeout_s)
    ended = await engine.inspect(container)
    assert ended is not None
    assert ended.exit_code == exit_code
    assert loop.time() - before == pytest.approx(took_s, abs=0.01)


@virtual_time
async def test_an_end_of_its_own_is_noticed_by_watch_exit_with_its_log() -> None:
    engine = FakeEngine()
    container = await started(engine, Program(dies_after_s=3, exit_code=1, last_words=("cannot load model x",)))
    info = await engine.inspect(container)
    assert info is not None
    await engine.watch_exit(info)
    ended = await engine.inspect(container)
    assert ended is not None
    assert (ended.status, ended.exit_code) == (ContainerStatus.EXITED, 1)
    assert [line.text async for line in engine.logs(container)] == ["loading model", "cannot load model x"]
    assert [line.text async for line in engine.logs(container, tail=1)] == ["cannot load model x"]


@virtual_time
async def test_followed_logs_end_with_the_container() -> None:
    engine = FakeEngine()
    container = await started(engine, Program(dies_after_s=3, last_words=("bye",)))
    assert [line.text async for line in engine.logs(container, follow=True)] == ["loading model", "bye"]


@virtual_time
async def test_a_caller_that_leaves_does_not_take_the_start_back() -> None:
    engine = FakeEngine()
    container = await engine.create(container_spec())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await engine.start(container)
    await asyncio.sleep(1)
    assert len(engine.running) == 1


@virtual_time
async def test_containers_are_found_by_all_their_labels() -> None:
    engine = FakeEngine()
    await engine.create(container_spec("primary"))
    await engine.create(container_spec("embed"))
    found = await engine.containers({"dev.hal0.slot": "embed", "dev.hal0.instance": "0badcafe"})
    assert [info.name for info in found] == ["hal0-0badcafe-embed-1"]
    assert await engine.containers({"dev.hal0.slot": "embed", "dev.hal0.instance": "other"}) == []


@virtual_time
async def test_health_follows_the_program() -> None:
    engine = FakeEngine()
    provider = FakeHealth(engine)
    where = Endpoint("127.0.0.1", PORT, "secret")

    async def state() -> HealthState:
        return (await provider.health(where, "tiny-chat", None)).state  # type: ignore[arg-type]

    assert await state() is HealthState.NOT_LISTENING
    await started(engine, Program(listens_after_s=1, ready_after_s=5))
    assert await state() is HealthState.NOT_LISTENING
    await asyncio.sleep(1)
    assert await state() is HealthState.LOADING
    await asyncio.sleep(4)
    assert await state() is HealthState.READY
    engine.all[0].change(broken="wrong secret")
    assert await state() is HealthState.BROKEN


def test_the_fake_provider_tells_permanent_from_transient() -> None:
    provider = FakeHealth(FakeEngine())

    def verdict(code: int, *log: str) -> tuple[str, str]:
        found = provider.classify(Exit(code, oom_killed=False, wanted=False, warmed=False, log_tail=log))
        return found.failure_class.value, found.code

    assert verdict(1, "cannot load model: no such file") == ("permanent", "slot.load_failed")
    assert verdict(132) == ("permanent", "slot.load_failed")
    assert verdict(137) == ("transient", "slot.exited")
    assert provider.start_cmd(launch()) == ["--model", "/models/tiny-chat.gguf", "--port", "8080"]


@virtual_time
async def test_a_slow_engine_takes_its_time() -> None:
    engine = SlowEngine(factor=100)
    before = asyncio.get_running_loop().time()
    await started(engine)
    assert asyncio.get_running_loop().time() - before > 10


@virtual_time
async def test_containers_of_a_dying_engine_die() -> None:
    engine = DyingEngine(after_s=5, exit_code=137)
    await started(engine)
    await asyncio.sleep(4.9)
    assert engine.running
    await asyncio.sleep(0.2)
    assert not engine.running


@virtual_time
async def test_a_deaf_engine_tells_nothing() -> None:
    engine = DeafEngine()
    async with Listener(engine) as heard:
        container = await started(engine)
        info = await engine.inspect(container)
        assert info is not None
        engine.running[0].signal("SIGKILL")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await engine.watch_exit(info)
    assert heard.kinds == [EventKind.RESYNC]


@virtual_time
async def test_an_amnesiac_engine_loses_containers_without_a_word() -> None:
    engine = AmnesiacEngine()
    async with Listener(engine) as heard:
        container = await started(engine)
        await asyncio.sleep(1)
        engine.forget(engine.all[0])
        await asyncio.sleep(1)
    assert await engine.inspect(container) is None
    assert heard.kinds == [EventKind.RESYNC, EventKind.STARTED]


@virtual_time
async def test_a_stalled_engine_hangs_until_released() -> None:
    engine = StalledEngine()
    engine.stall("create")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(600):
            await started(engine)
    assert not engine.all
    asyncio.get_running_loop().call_later(600, engine.release)
    await started(engine)
    assert engine.running


@virtual_time
async def test_a_flaky_engine_fails_as_scripted_then_works() -> None:
    engine = FlakyEngine()
    engine.fail("create", Hal0Error("engine.failed", "cannot create: once"))
    engine.fail("start", Hal0Error("engine.timeout", "cannot wait longer: podman took too long"), after=True)
    with pytest.raises(Hal0Error, match="once"):
        await started(engine)
    with pytest.raises(Hal0Error, match="too long"):
        await started(engine)
    assert engine.running


@virtual_time
async def test_what_was_there_before_is_long_ready() -> None:
    engine = FakeEngine()
    engine.place(container_spec(port=PORT))
    health = await FakeHealth(engine).health(Endpoint("127.0.0.1", PORT, ""), "tiny-chat", None)  # type: ignore[arg-type]
    assert health.state is HealthState.READY


@virtual_time
async def test_images_are_pulled_and_not_removed_while_in_use() -> None:
    engine = FakeEngine()
    fractions: list[float | None] = []
    with pytest.raises(ImageMissing):
        await engine.image_pull("example/none", lambda _: None)
    used = next(iter(engine.images.values()))
    engine.registry["example/one"] = used
    await engine.image_pull("example/one", lambda p: fractions.append(p.fraction))
    assert fractions == [0.25, 0.5, 0.75, 1.0]
    await engine.create(container_spec())
    with pytest.raises(Hal0Error, match="uses it"):
        await engine.image_remove(used.id)
