"""Busy is not dead: when silence counts as death, as a table and on virtual time."""

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest

from hal0.slots.pulse import STILL_S, Pulse
from hal0.vocab import Phase
from tests.fakes.engine import DeafEngine, FakeEngine
from tests.fakes.program import Program
from tests.fakes.world import Running, World
from tests.vloop import until, virtual_time


def silent(*cpu_s: float | None, every_s: float = 5.0) -> tuple[Pulse, float]:
    """The pulse after probes that got no answer, one per sample, and the time of the last."""
    pulse, now = Pulse(), 0.0
    for number, used in enumerate(cpu_s):
        now = number * every_s
        pulse = pulse.missed(used, now)
    return pulse, now


@pytest.mark.parametrize(
    ("cpu_s", "quiet", "dead"),
    [
        ((1.0, 1.0), True, False),
        ((1.0, 1.0, 1.0), True, True),
        ((1.0, 9.0, 17.0), True, True),
        ((1.0,) * 12, False, False),  # 55 s without work
        ((1.0,) * 13, False, True),  # 60 s
        (tuple(float(n) for n in range(100)), False, False),
        ((*(float(n) for n in range(100)), *(99.0,) * 12), False, True),
        ((None,) * 100, False, False),  # nobody can tell: not dead
        ((1.0, 1.0, 1.0), False, False),
    ],
)
def test_silence_is_death(cpu_s: tuple[float | None, ...], quiet: bool, dead: bool) -> None:
    pulse, now = silent(*cpu_s)
    assert pulse.dead(now, quiet=quiet) is dead


def test_bytes_are_work() -> None:
    pulse = Pulse()
    for number in range(100):
        pulse = pulse.missed(1.0, 5.0 * number, answered=number // 10)
    assert not pulse.dead(500.0, quiet=False)
    for number in range(100, 113):
        pulse = pulse.missed(1.0, 5.0 * number, answered=9)
    assert pulse.dead(560.0, quiet=False)


@pytest.mark.parametrize(
    ("cut_off", "lost"),
    [
        ((True, True, True, True, True), False),  # 4 s
        ((True, True, True, True, True, True), True),  # 5 s
        ((True, True, False, True, True, True), False),  # it was reached in between
        ((False,) * 100, False),
    ],
)
def test_a_port_is_lost_after_five_seconds_whatever_the_engine_works_on(cut_off: tuple[bool, ...], lost: bool) -> None:
    pulse = Pulse()
    for now, seen in enumerate(cut_off):
        pulse = pulse.missed(float(now), float(now), cut_off=seen)
    assert pulse.port_lost(len(cut_off) - 1.0) is lost
    assert not pulse.dead(len(cut_off) - 1.0, quiet=False)


@pytest.fixture
def world(tmp_path: Path, port_block: range) -> World:
    return World(tmp_path, port_block, FakeEngine())


@virtual_time
async def test_a_quiet_engine_that_hangs_is_replaced(world: World) -> None:
    async with world.hal0() as hal0:
        await hal0.load()
        world.engine.running[0].change(hangs=True)
        began = hal0.tools.clock.now()
        await until(lambda: hal0.primary.life.facts.generation == 2, within_s=60)
        assert hal0.tools.clock.now() - began < 30
        await hal0.reaches(Phase.READY)


@virtual_time
async def test_an_engine_that_works_on_a_request_is_never_taken_for_dead(world: World) -> None:
    async with world.hal0() as hal0:
        await hal0.load()
        world.engine.running[0].change(hangs=True, busy_cores=0.5)
        with hal0.primary.serving():
            await asyncio.sleep(600)
            assert hal0.primary.life.facts.generation == 1


@virtual_time
async def test_an_engine_that_hangs_on_a_request_is_replaced_after_a_minute(world: World) -> None:
    async with world.hal0() as hal0:
        await hal0.load()
        ended: list[str] = []
        world.engine.running[0].change(hangs=True)
        with hal0.primary.serving() as request:
            request.on_abort(lambda error: ended.append(error.code))
            await until(lambda: bool(ended), within_s=STILL_S + 60)
        await until(lambda: hal0.primary.life.facts.generation == 2, within_s=60)
        await hal0.reaches(Phase.READY)


@virtual_time
async def test_an_engine_that_answers_no_probe_while_it_sends_is_never_taken_for_dead(world: World) -> None:
    """FLM: the NPU works, the processor hardly, and nobody else is listened to meanwhile."""
    async with world.hal0() as hal0:
        await hal0.load()
        world.engine.running[0].change(hangs=True)
        began = hal0.tools.clock.now()
        with hal0.primary.serving() as request:
            request.on_abort(
                lambda error: pytest.fail(error.message), lambda: int(hal0.tools.clock.now() - began) // 20
            )
            await asyncio.sleep(600)
            assert hal0.primary.life.facts.generation == 1


async def waits_in_vain(hal0: Running, wait_s: float = 600.0) -> bool:
    """A request without a byte of an answer, until its timeout; whether hal0 took the engine for dead."""
    ended: list[str] = []
    with hal0.primary.serving() as request:
        request.on_abort(lambda error: ended.append(error.code), lambda: 0)
        await asyncio.sleep(wait_s)
        hal0.primary.suspect(silent_s=wait_s)
    await asyncio.sleep(1)
    return hal0.primary.life.facts.generation > 1 or hal0.phase() is not Phase.READY


async def answered(hal0: Running) -> None:
    with hal0.primary.serving() as request:
        request.on_abort(lambda error: pytest.fail(error.message), lambda: 100)
        await asyncio.sleep(1)


@virtual_time
async def test_an_engine_that_answers_probes_and_does_nothing_else_is_replaced(world: World) -> None:
    async with world.hal0() as hal0:
        await hal0.load()
        await answered(hal0)
        assert await waits_in_vain(hal0)
        await hal0.reaches(Phase.READY)
        assert "no byte of an answer" in hal0.primary.last_failure.message  # type: ignore[union-attr]


@virtual_time
async def test_a_long_prompt_is_no_death_but_two_of_them_without_a_byte_between_are(world: World) -> None:
    """A processor that spins proves nothing: a GPU that hangs is waited for just so."""
    async with world.hal0() as hal0:
        await hal0.load()
        world.engine.running[0].change(busy_cores=1.0)
        assert not await waits_in_vain(hal0)
        await answered(hal0)
        assert not await waits_in_vain(hal0)
        await asyncio.sleep(3600)
        assert hal0.primary.life.facts.generation == 1, "an engine with nothing to do is not dead"
        assert await waits_in_vain(hal0)


@virtual_time
async def test_many_that_wait_for_the_same_long_prompt_are_no_proof_of_its_death(world: World) -> None:
    async with world.hal0() as hal0:
        await hal0.load()
        world.engine.running[0].change(busy_cores=1.0)
        late = asyncio.create_task(waits_in_vain(hal0, 590.0))
        assert not await waits_in_vain(hal0)
        assert not await late


@virtual_time
async def test_one_answer_that_flows_vouches_for_all(world: World) -> None:
    async with world.hal0() as hal0:
        await hal0.load()
        with hal0.primary.serving() as other:
            other.on_abort(lambda error: pytest.fail(error.message), lambda: int(hal0.tools.clock.now()))
            for _ in range(3):
                assert not await waits_in_vain(hal0)


LOST = {"refused": {"listens_after_s": math.inf}, "leads nowhere": {"port_lost": True}}


@pytest.mark.parametrize("how", LOST.values(), ids=LOST)
def test_a_lost_port_is_noticed_while_the_engine_works_and_open_requests_go_on(
    world: World, how: dict[str, Any]
) -> None:
    @virtual_time
    async def story() -> None:
        async with world.hal0() as hal0:
            await hal0.load()
            before = world.engine.running[0]
            before.change(busy_cores=1.0, **how)
            began = hal0.tools.clock.now()
            with hal0.primary.serving() as request:
                request.on_abort(lambda error: pytest.fail(error.message))
                await hal0.reaches(Phase.UNLOADING)
                assert hal0.tools.clock.now() - began < 20
                assert not hal0.primary.snapshot().routable
                await asyncio.sleep(30)
                assert before.running, "what was open before may end by itself"
            await until(lambda: hal0.primary.life.facts.generation == 2, within_s=5)
            await hal0.reaches(Phase.READY)
            kept = hal0.primary.last_failure
            assert kept is not None
            assert kept.code == "slot.port_lost"

    story()


@virtual_time
async def test_a_port_that_leads_nowhere_from_the_start_is_noticed_when_the_engine_has_loaded(world: World) -> None:
    world.engine.plan(Program(ready_after_s=30.0, port_lost=True))
    async with world.hal0() as hal0:
        began = hal0.tools.clock.now()
        job = await hal0.supervisor.load("primary", None)
        await hal0.reaches(Phase.WARMING)
        first = world.engine.running[0]
        await until(lambda: not first.running, within_s=60)
        assert 30 < hal0.tools.clock.now() - began < 50, "not while it loads, and soon when it has"
        assert (await hal0.done(job)).state == "done"
        kept = hal0.primary.last_failure
        assert kept is not None
        assert kept.code == "slot.port_lost"


@virtual_time
async def test_a_request_that_is_refused_has_the_port_looked_at_at_once(world: World) -> None:
    async with world.hal0() as hal0:
        await hal0.load()
        await asyncio.sleep(60.5)
        world.engine.running[0].change(listens_after_s=math.inf)
        began = hal0.tools.clock.now()
        hal0.primary.suspect()
        await hal0.reaches(Phase.UNLOADING)
        assert hal0.tools.clock.now() - began < 5.5


@virtual_time
async def test_a_death_that_only_a_probe_noticed_is_told_as_a_death(tmp_path: Path, port_block: range) -> None:
    engine = DeafEngine()
    world = World(tmp_path, port_block, engine)
    async with world.hal0() as hal0:
        await hal0.load()
        engine.running[0].end(139)
        await until(lambda: hal0.primary.life.facts.generation == 2, within_s=5)
        await hal0.reaches(Phase.READY)
        kept = hal0.primary.last_failure
        assert kept is not None
        assert kept.exit_code == 139
