"""A slot's whole life on virtual time: the real supervisor, actor and files on an engine in memory."""

import itertools
from pathlib import Path

import pytest

from hal0.engine.base import ContainerStatus
from hal0.errors import Hal0Error
from hal0.slots.record import load
from hal0.vocab import Phase, Want
from hal0.wire.jobs import JobState
from tests.factories import container_spec
from tests.fakes.engine import AmnesiacEngine, DeafEngine, FakeEngine, FlakyEngine, Program, StalledEngine
from tests.fakes.world import World
from tests.vloop import until, virtual_time


@pytest.fixture
def world(tmp_path: Path, port_block: range) -> World:
    return World(tmp_path, port_block, FakeEngine())


@virtual_time
async def test_load_goes_through_every_phase_and_is_ready(world: World) -> None:
    async with world.hal0() as hal0:
        assert hal0.phase() is Phase.OFFLINE
        job = await hal0.load()
        assert job.state is JobState.DONE
        assert hal0.phase() is Phase.READY
        assert [c.status for c in world.engine.of_slot("primary")] == [ContainerStatus.RUNNING]
        snapshot = hal0.primary.snapshot()
        assert snapshot.routable
        assert snapshot.model == "one"
        assert (world.folder / "slots/primary/override.env").read_text() == "HAL0_MODEL=one\n"


@virtual_time
async def test_loads_are_joined_not_doubled(world: World) -> None:
    async with world.hal0() as hal0:
        first = await hal0.supervisor.load("primary")
        second = await hal0.supervisor.load("primary")
        assert first is second
        hal0.primary.request_load()
        assert (await first.wait()).state is JobState.DONE
        assert len(world.engine.called("create")) == 1


@virtual_time
async def test_unload_stops_and_removes_the_container_and_gives_back_the_port(world: World) -> None:
    async with world.hal0() as hal0:
        await hal0.load()
        job = await hal0.supervisor.unload("primary")
        assert (await job.wait()).state is JobState.DONE
        assert hal0.phase() is Phase.OFFLINE
        assert world.engine.all == []
        assert hal0.tools.ports.holders() == {}


@virtual_time
async def test_crash_is_restarted_at_once_under_a_new_generation(world: World) -> None:
    async with world.hal0() as hal0:
        await hal0.load()
        world.engine.running[0].end(139)
        await until(lambda: hal0.phase() is not Phase.READY, within_s=1)
        await hal0.reaches(Phase.READY, within_s=5)
        assert len(world.engine.called("create")) == 2
        assert len(world.engine.all) == 1
        assert hal0.primary.life.facts.generation == 2


@virtual_time
async def test_crash_loop_follows_the_restart_curve_and_recovers(world: World) -> None:
    async with world.hal0() as hal0:
        world.engine.program = Program(ready_after_s=None, dies_after_s=0.05, exit_code=137)
        job = await hal0.load()
        assert job.state is JobState.FAILED
        await until(lambda: hal0.primary.life.facts.attempts.count >= 6, within_s=120)
        world.engine.program = Program()
        await hal0.reaches(Phase.READY, within_s=60)
        starts = [c.at for c in world.engine.calls if c.verb == "start"]
        gaps = [b - a for a, b in itertools.pairwise(starts)]
        assert gaps[0] < 1, "the first restart is immediate"
        assert gaps[4] > 4, "later ones wait"


@virtual_time
async def test_permanent_failure_rests_until_somebody_asks(world: World) -> None:
    async with world.hal0() as hal0:
        world.engine.program = Program(
            ready_after_s=None, dies_after_s=0.05, last_words=("cannot load model: corrupt",)
        )
        job = await hal0.load()
        assert job.state is JobState.FAILED
        assert job.error is not None
        assert job.error["code"] == "slot.load_failed"
        assert "corrupt" in job.error["message"]
        count = len(world.engine.called("create"))
        await until_quiet(3600)
        assert len(world.engine.called("create")) == count
        world.engine.program = Program()
        assert (await hal0.load()).state is JobState.DONE


async def until_quiet(seconds: float) -> None:
    import asyncio

    await asyncio.sleep(seconds)


@virtual_time
async def test_swap_replaces_the_model_and_never_shows_offline(world: World) -> None:
    async with world.hal0() as hal0:
        await hal0.load()
        seen: list[Phase] = []
        world_announce = hal0.supervisor.announce

        job = await hal0.supervisor.swap("primary", "two")
        while not job.ended:
            seen.append(hal0.phase())
            await hal0.primary.changed()
        assert job.view.state is JobState.DONE, job.view
        assert Phase.OFFLINE not in seen
        assert hal0.primary.snapshot().model == "two"
        assert (world.folder / "slots/primary/override.env").read_text() == "HAL0_MODEL=two\n"
        assert len(world.engine.all) == 1
        assert world_announce is not None


@virtual_time
async def test_failed_swap_brings_the_old_model_back_and_says_why(world: World) -> None:
    async with world.hal0() as hal0:
        await hal0.load()
        world.engine.plan(Program(ready_after_s=None, dies_after_s=0.05, last_words=("cannot load model: junk",)))
        job = await hal0.done(await hal0.supervisor.swap("primary", "bad"))
        assert job.state is JobState.FAILED
        assert job.error is not None
        assert "junk" in job.error["message"]
        assert job.note == "one serves again"
        assert hal0.phase() is Phase.READY
        assert hal0.primary.snapshot().model == "one"
        assert (world.folder / "slots/primary/override.env").read_text() == "HAL0_MODEL=one\n"


@virtual_time
async def test_a_second_hal0_adopts_what_runs(world: World) -> None:
    async with world.hal0() as hal0:
        await hal0.load()
    async with world.hal0() as hal0:
        assert hal0.phase() is Phase.READY
        assert hal0.primary.snapshot().routable
        assert len(world.engine.called("create")) == 1


@virtual_time
async def test_restart_replaces_the_container(world: World) -> None:
    async with world.hal0() as hal0:
        await hal0.load()
        job = await hal0.done(await hal0.supervisor.restart("primary"))
        assert job.state is JobState.DONE
        assert hal0.primary.life.facts.generation == 2
        assert len(world.engine.all) == 1


@virtual_time
async def test_a_taken_port_is_passed_over(world: World) -> None:
    world.engine.busy_ports.add(world.ports[0])
    async with world.hal0() as hal0:
        assert (await hal0.load()).state is JobState.DONE
        assert hal0.primary.view().port != world.ports[0]
        assert len(world.engine.all) == 1


@virtual_time
async def test_unload_during_the_load_cancels_it(world: World) -> None:
    world.engine.program = Program(ready_after_s=50)
    async with world.hal0() as hal0:
        load = await hal0.supervisor.load("primary")
        await hal0.reaches(Phase.WARMING)
        unload = await hal0.supervisor.unload("primary")
        assert (await load.wait()).state is JobState.CANCELLED
        assert (await unload.wait()).state is JobState.DONE
        assert world.engine.all == []


@virtual_time
async def test_a_lost_container_is_noticed_by_the_tick_alone(tmp_path: Path, port_block: range) -> None:
    class DeafAmnesiac(DeafEngine, AmnesiacEngine):
        pass

    engine = DeafAmnesiac()
    world = World(tmp_path, port_block, engine)
    async with world.hal0() as hal0:
        await hal0.load()
        engine.forget(engine.running[0])
        await until(lambda: hal0.phase() is not Phase.READY, within_s=5)
        await hal0.reaches(Phase.READY, within_s=10)
        assert len(engine.all) == 1


@virtual_time
async def test_a_stalled_engine_does_not_touch_a_ready_slot_and_converges_after(
    tmp_path: Path, port_block: range
) -> None:
    engine = StalledEngine()
    world = World(tmp_path, port_block, engine)
    async with world.hal0() as hal0:
        await hal0.load()
        engine.stall("containers", "inspect", "stop", "remove", "create", "start")
        await until_quiet(60)
        assert hal0.primary.snapshot().routable
        await hal0.supervisor.unload("primary")
        engine.release()
        await hal0.reaches(Phase.OFFLINE, within_s=5)


@virtual_time
async def test_a_container_that_podman_will_not_remove_is_quarantined(tmp_path: Path, port_block: range) -> None:
    engine = FlakyEngine()
    world = World(tmp_path, port_block, engine)
    async with world.hal0() as hal0:
        await hal0.load()
        error = Hal0Error("engine.failed", "cannot remove: it will not go")
        engine.fail("remove", error, error)
        job = await hal0.done(await hal0.supervisor.restart("primary"))
        assert job.state is JobState.DONE
        await until(lambda: not hal0.primary.life.facts.leaving, within_s=120)
        assert len(engine.all) == 1


@virtual_time
async def test_two_running_without_a_swap_keep_the_records(world: World) -> None:
    async with world.hal0() as hal0:
        await hal0.load()
        current = hal0.primary.life.facts.current
        assert current is not None
    world.engine.place(container_spec(generation=7, port=world.ports[5]))
    async with world.hal0() as hal0:
        assert hal0.primary.life.facts.current is not None
        assert hal0.primary.life.facts.current.name == current.name
        await until(lambda: len(world.engine.all) == 1, within_s=30)
        assert hal0.primary.life.facts.generation == 7


@virtual_time
async def test_record_on_disk_equals_memory(world: World) -> None:
    async with world.hal0() as hal0:
        await hal0.load()
        record = load((world.folder / "slots/primary/state.json").read_bytes())
        assert record.phase is Phase.READY
        assert record.desired.want is Want.LOADED
        assert record.containers[0] == hal0.primary.life.facts.current
