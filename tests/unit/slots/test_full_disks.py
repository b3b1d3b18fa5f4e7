"""When nothing can be written, on virtual time: what is refused, what goes on, and what is made up for."""

import asyncio

import pytest

from hal0.slots.record import SlotRecord
from hal0.vocab import Phase, Want
from hal0.wire.jobs import JobState
from tests.factories import container_spec
from tests.fakes.engine import Program
from tests.fakes.world import Disk, World
from tests.unit.slots.rough import RoughEngine, ends, on_disk
from tests.vloop import until, virtual_time


@virtual_time
async def test_a_full_disk_refuses_a_start_and_the_job_says_why(world: World, disk: Disk) -> None:
    async with world.hal0() as hal0:
        disk.full = True
        job = await hal0.load()
        assert job.state is JobState.FAILED
        assert job.error is not None
        assert job.error["code"] == "state.write_failed"
        assert world.engine.called("create") == []
        assert hal0.primary.view().unsaved
        disk.full = False
        await hal0.reaches(Phase.READY)
        assert not hal0.primary.view().unsaved


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.WARMING, Phase.READY])
def test_a_full_disk_refuses_an_unload_and_the_slot_goes_on(world: World, disk: Disk, phase: Phase) -> None:
    @virtual_time
    async def story() -> None:
        world.engine.program = Program(ready_after_s=5)
        async with world.hal0() as hal0:
            await hal0.supervisor.load("primary")
            await hal0.reaches(phase)
            disk.full = True
            job = await (await hal0.supervisor.unload("primary")).wait()
            assert job.state is JobState.FAILED
            assert job.error is not None
            assert job.error["code"] == "state.write_failed"
            assert hal0.primary.life.desired.want is Want.LOADED
            await hal0.reaches(Phase.READY)
            assert world.engine.called("stop") == []
            disk.full = False
            assert await ends(await hal0.supervisor.unload("primary"), 30) is JobState.DONE

    story()


@virtual_time
async def test_an_idle_unload_waits_for_the_disk_without_a_storm_of_writes(world: World, disk: Disk) -> None:
    writes = []
    async with world.hal0(primary={"model": "one", "unload_after_s": 60}) as hal0:
        await hal0.load()
        disk.full = True
        original = hal0.tools.store.write_record

        async def counted(record: SlotRecord) -> None:
            writes.append(record.phase)
            await original(record)

        hal0.tools.store.write_record = counted  # type: ignore[method-assign]
        await asyncio.sleep(120)
        assert hal0.phase() is Phase.READY
        assert len(writes) < 40, "one try in five seconds"
        disk.full = False
        await hal0.reaches(Phase.OFFLINE, within_s=30)


@virtual_time
async def test_ready_that_cannot_be_written_serves_says_so_and_is_written_later(world: World, disk: Disk) -> None:
    world.engine.program = Program(ready_after_s=5)
    async with world.hal0() as hal0:
        job = await hal0.supervisor.load("primary")
        await hal0.reaches(Phase.WARMING)
        disk.full = True
        assert await ends(job, 10) is JobState.DONE
        assert hal0.primary.snapshot().routable
        assert hal0.primary.view().unsaved
        assert on_disk(world).phase is Phase.WARMING
        disk.full = False
        await until(lambda: on_disk(world).phase is Phase.READY, within_s=6)


@virtual_time
async def test_what_could_not_be_noted_beside_the_record_is_noted_when_there_is_room(world: World, disk: Disk) -> None:
    """The live model, and why it failed last: both are files of their own."""
    folder = world.folder / "slots/primary"
    world.engine.program = Program(ready_after_s=5)
    async with world.hal0() as hal0:
        await hal0.supervisor.load("primary")
        await hal0.reaches(Phase.WARMING)
        disk.full = True
        await hal0.reaches(Phase.READY)
        world.engine.running[0].end(139)
        await hal0.reaches(Phase.ERROR)
        await asyncio.sleep(60)
        assert {folder / "override.env", folder / "last-failure.json"}.isdisjoint(disk.files)
        disk.full = False
        await hal0.reaches(Phase.READY, within_s=200)  # the tries are a minute apart by now
        await until(lambda: folder / "override.env" in disk.files, within_s=6)
        kept = hal0.primary.last_failure
        assert kept is not None
        assert kept.message.encode() in disk.files[folder / "last-failure.json"]


@virtual_time
async def test_an_unload_that_waits_for_a_leaving_container_on_a_full_disk_is_answered(
    world: World, disk: Disk, engine: RoughEngine
) -> None:
    """What is leaving is not stopped before that is on disk; whoever waits for it is told, and it goes on."""
    async with world.hal0(primary={"model": "one", "swap": "overlap"}) as hal0:
        await hal0.load()
        with hal0.primary.serving():
            assert (await hal0.done(await hal0.supervisor.swap("primary", "two"))).state is JobState.DONE
            engine.stall("stop")
            job = await hal0.supervisor.unload("primary", drain_s=1)
            await until(lambda: on_disk(world).phase is Phase.UNLOADING, within_s=5)
            disk.full = True
            engine.place(container_spec(generation=9), running=False)  # a stray: the record has to be written again
            await until(lambda: hal0.primary.view().unsaved, within_s=10)
        engine.release()
        assert await ends(job, 400) is JobState.FAILED
        assert job.view.error is not None
        assert job.view.error["code"] == "state.write_failed"
        disk.full = False
        await hal0.reaches(Phase.OFFLINE)
        await until(lambda: engine.all == [], within_s=70)


@virtual_time
async def test_an_unload_refused_after_an_unsaved_swap_leaves_the_swap_done(world: World, disk: Disk) -> None:
    async with world.hal0() as hal0:
        await hal0.load()
        world.engine.program = Program(ready_after_s=5)
        swap = await hal0.supervisor.swap("primary", "two")
        await hal0.reaches(Phase.WARMING)
        disk.full = True
        assert await ends(swap, 10) is JobState.DONE
        assert await ends(await hal0.supervisor.unload("primary"), 10) is JobState.FAILED
        assert hal0.primary.view().swap is None
        disk.full = False
        assert (await hal0.load()).state is JobState.DONE
        assert hal0.primary.snapshot().model == "two"


@virtual_time
async def test_a_wish_that_changes_no_phase_survives_a_kill(world: World, engine: RoughEngine) -> None:
    async with world.hal0() as hal0:
        await hal0.load()
        engine.stall("stop")
        await hal0.supervisor.unload("primary")
        await hal0.reaches(Phase.UNLOADING)
        await hal0.supervisor.load("primary")
        await asyncio.sleep(0.1)
        assert hal0.phase() is Phase.UNLOADING
    engine.release()
    async with world.hal0() as hal0:
        await hal0.reaches(Phase.READY)


async def _hangs(key: str, on_progress: object) -> str:
    """No image comes."""
    await asyncio.sleep(3600)
    return ""


@pytest.mark.parametrize("phase", [Phase.PULLING, Phase.ERROR, Phase.UNLOADING])
def test_an_unload_that_only_memory_knows_is_not_called_done(
    world: World, disk: Disk, engine: RoughEngine, phase: Phase
) -> None:
    """Killed before the disk has room, hal0 would load it again: who wished it away has to hear that."""

    @virtual_time
    async def story() -> None:
        async with world.hal0() as hal0:
            if phase is Phase.PULLING:
                world.images.ensure = _hangs  # type: ignore[method-assign]
                await hal0.supervisor.load("primary")
            elif phase is Phase.ERROR:
                world.images.missing = True
                await hal0.supervisor.load("primary")
            else:
                await hal0.load()
                engine.stall("stop")
                await hal0.supervisor.restart("primary")
            await hal0.reaches(phase)
            await asyncio.sleep(0.05)
            disk.full = True
            job = await hal0.supervisor.unload("primary")
            engine.release()
            assert await ends(job, 60) is JobState.FAILED
            assert job.view.error is not None
            assert job.view.error["code"] == "state.write_failed"
            assert hal0.phase() is Phase.OFFLINE
            assert on_disk(world).desired.want is Want.LOADED
            again = await hal0.supervisor.unload("primary")
            assert await ends(again, 60) is JobState.FAILED, "nor is the second wish, as long as the disk does not know"
            disk.full = False
            await until(lambda: on_disk(world).desired.want is Want.UNLOADED, within_s=6)
            assert await ends(await hal0.supervisor.unload("primary"), 5) is JobState.DONE

    story()


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.WARMING])
def test_a_full_disk_refuses_a_cancel_and_the_job_says_so(
    world: World, disk: Disk, engine: RoughEngine, phase: Phase
) -> None:
    """The load goes on: its job must not say that it was given up."""

    @virtual_time
    async def story() -> None:
        world.engine.program = Program(ready_after_s=5)
        async with world.hal0() as hal0:
            engine.stall("start")
            job = await hal0.supervisor.load("primary")
            await hal0.reaches(Phase.STARTING)
            if phase is Phase.WARMING:
                engine.release()
            await hal0.reaches(phase)
            await asyncio.sleep(0.05)
            disk.full = True
            hal0.tools.jobs.cancel(job.view.id)
            assert await ends(job, 30) is JobState.FAILED
            assert job.view.error is not None
            assert job.view.error["code"] == "state.write_failed"
            engine.release()
            await hal0.reaches(Phase.READY)

    story()


@virtual_time
async def test_a_slot_that_is_configured_no_more_waits_for_the_disk_without_a_storm(world: World, disk: Disk) -> None:
    """A job for every refusal would push all others out of the log, and write without end."""
    async with world.hal0(spare={"model": "two"}) as hal0:
        await hal0.load("spare")
        disk.full = True
        await hal0.supervisor.apply(world.config())
        await asyncio.sleep(60)
        assert len(world.engine.running) == 1
        assert len(hal0.tools.jobs.views()) < 30, "one try in a few seconds"
        disk.full = False
        await until(lambda: hal0.supervisor.get("spare") is None, within_s=30)


@virtual_time
async def test_a_changed_configuration_that_a_full_disk_refused_is_applied_when_there_is_room(
    world: World, disk: Disk
) -> None:
    async with world.hal0() as hal0:
        await hal0.load()
        disk.full = True
        await hal0.supervisor.apply(world.config(primary={"model": "one", "extra_args": ["--mlock"]}))
        await asyncio.sleep(30)
        assert hal0.primary.life.facts.generation == 1
        disk.full = False
        await until(lambda: hal0.primary.life.facts.generation == 2, within_s=30)
        await hal0.reaches(Phase.READY)
