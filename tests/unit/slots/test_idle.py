"""When a slot that nobody uses leaves: idleness counts only while nothing is open and nothing waits."""

import asyncio

import pytest

from hal0.slots.adopt import Configured, adopt
from hal0.slots.logbook import opened
from hal0.slots.record import Attempts
from hal0.slots.state import RETRY_CAP_S
from hal0.vocab import Phase, SlotState
from tests.fakes.engine import Program
from tests.fakes.world import Disk, World
from tests.unit.slots.lives import NOW, TRANSIENT, loaded, record
from tests.vloop import virtual_time

LEAVES = {"model": "one", "unload_after_s": 60, "idle_timeout_s": 30}


@virtual_time
async def test_an_open_stream_is_use_and_the_time_counts_from_its_end(world: World) -> None:
    async with world.hal0(primary=LEAVES) as hal0:
        await hal0.load()
        with hal0.primary.serving():
            await asyncio.sleep(3600)
            assert hal0.primary.view().state is SlotState.SERVING
        await asyncio.sleep(29)
        assert hal0.primary.view().state is SlotState.READY
        await asyncio.sleep(2)
        assert hal0.primary.view().state is SlotState.IDLE
        await asyncio.sleep(28)
        assert hal0.phase() is Phase.READY
        await hal0.reaches(Phase.OFFLINE, within_s=2)


@virtual_time
async def test_who_waits_at_the_gate_keeps_the_slot_loaded_and_leaves_no_trace_of_use(world: World) -> None:
    async with world.hal0(primary=LEAVES) as hal0:
        await hal0.load()
        await asyncio.sleep(50)
        hal0.primary.queued(1)
        await asyncio.sleep(50)
        assert hal0.phase() is Phase.READY
        hal0.primary.queued(0)
        await hal0.reaches(Phase.OFFLINE, within_s=1)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"unload_after_s": 60}),
        ({"unload_after_s": 3600}, {"unload_after_s": 60}),
        ({"unload_after_s": 60, "pinned": True}, {"unload_after_s": 60}),
    ],
    ids=["begins", "shorter", "unpinned"],
)
def test_a_changed_configuration_counts_from_the_last_use_too(
    world: World, before: dict[str, object], after: dict[str, object]
) -> None:
    @virtual_time
    async def story() -> None:
        async with world.hal0(primary={"model": "one", **before}) as hal0:
            await hal0.load()
            await asyncio.sleep(300)
            assert hal0.phase() is Phase.READY
            await hal0.supervisor.apply(world.config(primary={"model": "one", **after}))
            await hal0.reaches(Phase.OFFLINE, within_s=1)

    story()


@pytest.mark.parametrize(
    "after", [{"unload_after_s": 0}, {"unload_after_s": 60, "pinned": True}, {"unload_after_s": 7200}]
)
def test_a_configuration_that_ends_the_wait_ends_it(world: World, after: dict[str, object]) -> None:
    @virtual_time
    async def story() -> None:
        async with world.hal0(primary=LEAVES) as hal0:
            await hal0.load()
            await asyncio.sleep(50)
            await hal0.supervisor.apply(world.config(primary={"model": "one", **after}))
            await asyncio.sleep(3600)
            assert hal0.phase() is Phase.READY

    story()


# -- the clock was set back while hal0 was away: what the record remembers lies ahead --


def test_a_use_in_the_future_was_just_now() -> None:
    assert opened(record(Phase.READY, last_used=NOW + 1e9), Phase.READY, NOW).last_used == NOW
    assert opened(record(Phase.READY, last_used=NOW - 5), Phase.READY, NOW).last_used == NOW - 5


@pytest.mark.parametrize("forgotten", [False, True], ids=["recorded", "lost"])
def test_a_load_that_ended_while_hal0_was_away_counts_as_use(
    world: World,
    disk: Disk,
    forgotten: bool,
) -> None:
    """Else it would leave at once, for its last use was long ago, or never."""

    @virtual_time
    async def story() -> None:
        world.engine.program = Program(ready_after_s=5)
        async with world.hal0(primary=LEAVES) as hal0:
            await hal0.load()
            await hal0.reaches(Phase.OFFLINE, within_s=70)
            await asyncio.sleep(1000)
            await hal0.supervisor.load("primary")
            await hal0.reaches(Phase.WARMING)
            await asyncio.sleep(0.1)
        await asyncio.sleep(10)
        if forgotten:
            del disk.files[world.folder / "slots/primary/state.json"]
        async with world.hal0(primary=LEAVES) as hal0:
            await asyncio.sleep(50)
            assert hal0.phase() is Phase.READY
            await hal0.reaches(Phase.OFFLINE, within_s=15)

    story()


@pytest.mark.parametrize(("next_at", "due"), [(NOW + 1e9, NOW + RETRY_CAP_S), (NOW + 9, NOW + 9), (NOW - 9, NOW - 9)])
def test_the_next_attempt_is_never_further_away_than_the_curve_goes(next_at: float, due: float) -> None:
    past = record(Phase.ERROR, loaded(), failure=TRANSIENT, attempts=Attempts(9, NOW, next_at))
    placed = adopt(past, [], Configured(autoload=False, seed_model="one"), NOW)
    assert (placed.facts.retry_at, placed.facts.attempts.next_at) == (due, due)
