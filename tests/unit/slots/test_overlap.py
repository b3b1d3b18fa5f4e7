"""Swap by overlap, on virtual time: the old container serves until the new one does, whichever of them fails."""

import asyncio
from pathlib import Path
from typing import Final

import pytest

from hal0.errors import Hal0Error
from hal0.slots.record import SwapStep
from hal0.vocab import Phase, Role
from hal0.wire.jobs import JobState
from tests.fakes.engine import Program
from tests.fakes.world import Disk, World
from tests.unit.slots.overlapping import SLOW, Gaps, step, warming
from tests.unit.slots.rough import AWAY, REFUSED, RoughEngine, ends, on_disk
from tests.vloop import until, virtual_time

ROOM_FOR_TWO: Final = 420 * 2**20  # of which a sixteenth is spared; a slot needs some 150 MiB
JUNK: Final = Program(ready_after_s=None, dies_after_s=0.5, last_words=("cannot load model: junk",))


@pytest.fixture
def world(tmp_path: Path, port_block: range, engine: RoughEngine, disk: Disk) -> World:
    slots = {"primary": {"model": "one", "swap": "overlap"}}
    return World(tmp_path, port_block, engine, disk=disk, slots=slots)


def override(disk: Disk) -> str:
    return next(data.decode() for file, data in disk.files.items() if file.name == "override.env")


# -- the way it goes --


@virtual_time
async def test_there_is_no_gap_and_the_old_container_leaves_when_its_requests_have_ended(
    world: World, engine: RoughEngine, disk: Disk
) -> None:
    async with world.hal0() as hal0:
        await hal0.load()
        old = engine.running[0]
        request = hal0.primary.serving()
        engine.plan(SLOW)
        async with Gaps(hal0.primary) as gaps:
            job = await hal0.supervisor.swap("primary", "two")
            await until(lambda: len(engine.running) == 2, within_s=5)
            view = hal0.primary.view()
            assert (view.model, view.swap and view.swap.to_model, view.desired.model) == ("one", "two", "two")
            assert [c.role for c in view.containers] == [Role.CURRENT, Role.NEXT]
            assert len({c.port for c in view.containers}) == 2
            assert "one" in view.message
            assert "two" in view.message
            assert override(disk) == "HAL0_MODEL=one\n"
            assert await ends(job, 30) is JobState.DONE
            assert hal0.phase() is Phase.READY
        assert gaps.seen == []
        assert gaps.models == ["one", "two"]
        assert override(disk) == "HAL0_MODEL=two\n"
        assert (hal0.primary.in_flight, hal0.primary.view().in_flight) == (0, 1)
        await asyncio.sleep(60)
        assert old.running, "a request is still in it"
        request.end()
        await until(lambda: len(engine.all) == 1, within_s=2)
        assert engine.running[0].host_port == hal0.primary.view().port
        assert hal0.tools.ports.holders().keys() == {hal0.primary.view().port}
        assert hal0.primary.view().containers[0].role is Role.CURRENT
        history = on_disk(world).load_history
        assert [load.model for load in history] == ["one", "two"]
        for load in history:
            assert load.create_s is not None
            assert load.load_s is not None
            assert 0 < load.create_s < load.start_s
            assert 0 < load.load_s <= load.warm_s


@virtual_time
async def test_requests_that_do_not_end_are_ended_after_the_drain_and_only_those(
    world: World, engine: RoughEngine
) -> None:
    ended: list[str] = []
    async with world.hal0(primary={"model": "one", "swap": "overlap", "drain_s": 30}) as hal0:
        await hal0.load()
        old = hal0.primary.serving()

        def cut(error: Hal0Error) -> None:
            ended.append(error.code)
            old.end()

        old.on_abort(cut)
        assert (await hal0.done(await hal0.supervisor.swap("primary", "two"))).state is JobState.DONE
        new = hal0.primary.serving()
        new.on_abort(lambda error: ended.append(f"new {error.code}"))
        await asyncio.sleep(29)
        assert ended == []
        await until(lambda: len(engine.all) == 1, within_s=3)
        assert ended == ["slot.draining"]
        assert new.endpoint != old.endpoint
        new.end()


@virtual_time
async def test_there_are_never_three(world: World, engine: RoughEngine) -> None:
    """A second overlap waits until the container of the first has left."""
    async with world.hal0() as hal0:
        await hal0.load()
        request = hal0.primary.serving()
        assert (await hal0.done(await hal0.supervisor.swap("primary", "two"))).state is JobState.DONE
        async with Gaps(hal0.primary) as gaps:
            job = await hal0.supervisor.swap("primary", "one")
            await asyncio.sleep(20)
            assert (step(hal0), len(engine.all)) == (SwapStep.WAITING, 2)
            assert "waiting for room" in hal0.primary.view().message
            request.end()
            assert await ends(job, 10) is JobState.DONE
        assert gaps.seen == []


@virtual_time
async def test_what_podman_will_not_remove_does_not_hold_up_the_next_overlap(world: World, engine: RoughEngine) -> None:
    async with world.hal0() as hal0:
        await hal0.load()
        engine.fail("remove", *[REFUSED] * 2)
        assert (await hal0.done(await hal0.supervisor.swap("primary", "two"))).state is JobState.DONE
        assert (await hal0.done(await hal0.supervisor.swap("primary", "one"))).state is JobState.DONE
        await until(lambda: len(engine.all) == 1, within_s=70)


# -- no room --


@pytest.mark.parametrize("fixed", [True, False], ids=["fixed", "none free"])
def test_without_a_second_port_the_old_one_leaves_first_and_the_job_says_so(
    world: World, engine: RoughEngine, fixed: bool
) -> None:
    @virtual_time
    async def story() -> None:
        if not fixed:
            world.ports = world.ports[:1]
        async with world.hal0() as hal0:
            if fixed:
                config = hal0.primary.config.model_copy(update={"port": world.ports[3]})
                await hal0.primary.reconfigure(config, hal0.provider)
            await hal0.load()
            seen = []
            job = await hal0.supervisor.swap("primary", "two")
            while not job.ended:
                seen.append((hal0.phase(), len(engine.running)))
                await hal0.primary.changed()
            assert job.view.state is JobState.DONE
            assert job.view.note is not None
            assert job.view.note.startswith("without overlap: cannot ")
            assert (Phase.UNLOADING, 1) in seen
            assert max(running for _, running in seen) == 1
            assert hal0.primary.snapshot().model == "two"

    story()


@virtual_time
async def test_without_memory_for_both_the_old_one_leaves_first_and_the_job_says_so(
    world: World, engine: RoughEngine
) -> None:
    async with world.hal0(embed={"model": "one"}) as hal0:
        await hal0.load()
        await hal0.load("embed")
        world.ram_bytes = ROOM_FOR_TWO
        job = await hal0.done(await hal0.supervisor.swap("primary", "two"))
        assert job.state is JobState.DONE
        assert job.note is not None
        assert job.note.startswith("without overlap: ")
        assert hal0.phase("embed") is Phase.READY, "nobody else leaves for it"
        assert len(engine.all) == 2
        world.ram_bytes = 64 * 2**30
        assert (await hal0.done(await hal0.supervisor.swap("primary", "one"))).note is None


@virtual_time
async def test_ports_that_others_take_meanwhile_are_passed_over_and_in_the_end_there_is_no_overlap(
    world: World, engine: RoughEngine
) -> None:
    async with world.hal0() as hal0:
        await hal0.load()
        engine.busy_ports = set(world.ports[1:2])
        assert (await hal0.done(await hal0.supervisor.swap("primary", "two"))).note is None
        assert hal0.primary.view().port == world.ports[2]
        engine.busy_ports = set(world.ports) - {world.ports[2]}
        job = await hal0.done(await hal0.supervisor.swap("primary", "one"))
        assert (job.state, job.note) == (JobState.DONE, "without overlap: cannot start: 5 ports in a row were taken")
        assert len(engine.all) == 1


# -- the new one fails --


@pytest.mark.parametrize(
    ("program", "code", "words"),
    [
        (JUNK, "slot.load_failed", "junk"),
        (Program(ready_after_s=None, dies_after_s=0.2, exit_code=137), "slot.exited", "killed"),
        (Program(broken="it lists no model"), "slot.load_failed", "lists no model"),
        (Program(ready_after_s=None), "slot.deadline", "warming"),
    ],
    ids=["exits", "killed", "broken", "never ready"],
)
def test_a_new_one_that_fails_is_removed_and_the_old_one_never_stopped_serving(
    world: World, engine: RoughEngine, disk: Disk, program: Program, code: str, words: str
) -> None:
    @virtual_time
    async def story() -> None:
        async with world.hal0() as hal0:
            await hal0.load()
            engine.plan(program)
            with hal0.primary.serving():
                async with Gaps(hal0.primary) as gaps:
                    job = await hal0.done(await hal0.supervisor.swap("primary", "two"))
                    await until(lambda: len(engine.all) == 1, within_s=2)
            assert (gaps.seen, gaps.models) == ([], ["one"])
            assert job.state is JobState.FAILED
            assert job.error is not None
            assert job.error["code"] == code
            assert words in job.error["message"]
            assert job.note == "one never stopped serving"
            facts = hal0.primary.life.facts
            assert (facts.attempts.count, facts.swap, facts.fault) == (0, None, None)
            assert (on_disk(world).desired.model, override(disk)) == ("one", "HAL0_MODEL=one\n")
            assert hal0.primary.last_failure is not None
            assert hal0.primary.last_failure.code == code
            assert any(words in note for note in hal0.primary.view().notes)
            assert hal0.tools.ports.holders().keys() == {hal0.primary.view().port}
            assert (await hal0.done(await hal0.supervisor.swap("primary", "two"))).state is JobState.DONE

    story()


@virtual_time
async def test_files_that_are_missing_are_noticed_while_the_old_one_serves(world: World, engine: RoughEngine) -> None:
    async with world.hal0() as hal0:
        await hal0.load()
        job = await hal0.done(await hal0.supervisor.swap("primary", "bad"))
        assert job.state is JobState.DONE
        world.models.known["two"].files[0].unlink()
        async with Gaps(hal0.primary) as gaps:
            job = await hal0.done(await hal0.supervisor.swap("primary", "two"))
        assert job.error is not None
        assert job.error["code"] == "model.not_downloaded"
        assert gaps.seen == []


@pytest.mark.parametrize("verb", ["create", "start", "inspect", "stop", "remove", "logs"])
@pytest.mark.parametrize("after", [False, True], ids=["refused", "answer lost"])
def test_whatever_podman_refuses_the_old_one_serves_and_nothing_is_left(
    world: World, engine: RoughEngine, verb: str, after: bool
) -> None:
    @virtual_time
    async def story() -> None:
        async with world.hal0() as hal0:
            await hal0.load()
            engine.plan(JUNK)
            engine.fail(verb, *[AWAY] * 3, after=after)
            async with Gaps(hal0.primary) as gaps:
                assert await ends(await hal0.supervisor.swap("primary", "two"), 60) is JobState.FAILED
                engine._before.clear()
                engine._after.clear()
                await until(lambda: len(engine.all) == 1, within_s=70)
            assert gaps.seen == []
            assert hal0.primary.snapshot().model == "one"

    story()


@pytest.mark.parametrize("verb", ["create", "start", "stop", "remove", "inspect"])
def test_a_podman_that_hangs_ends_the_job_and_not_the_service(world: World, engine: RoughEngine, verb: str) -> None:
    @virtual_time
    async def story() -> None:
        async with world.hal0() as hal0:
            await hal0.load()
            engine.plan(Program(broken="it lists no model"))
            async with Gaps(hal0.primary) as gaps:
                job = await hal0.supervisor.swap("primary", "two")
                engine.stall(verb)
                assert await ends(job, 150) is JobState.FAILED
                engine.release()
                await until(lambda: len(engine.all) == 1, within_s=90)
            assert gaps.seen == []

    story()


@virtual_time
async def test_a_full_disk_refuses_the_second_container_and_the_old_one_serves(
    world: World, engine: RoughEngine, disk: Disk
) -> None:
    async with world.hal0() as hal0:
        await hal0.load()
        disk.full = True
        async with Gaps(hal0.primary) as gaps:
            job = await hal0.done(await hal0.supervisor.swap("primary", "two"))
            assert job.error is not None
            assert job.error["code"] == "state.write_failed"
        assert gaps.seen == []
        assert len(engine.called("create")) == 1
        disk.full = False
        assert (await hal0.done(await hal0.supervisor.swap("primary", "two"))).state is JobState.DONE


@virtual_time
async def test_the_old_one_is_stopped_only_when_the_turn_is_on_disk(
    world: World, engine: RoughEngine, disk: Disk
) -> None:
    async with world.hal0() as hal0:
        job = await warming(hal0, engine)
        disk.full = True
        assert await ends(job, 10) is JobState.DONE
        await asyncio.sleep(30)
        assert (hal0.primary.snapshot().model, len(engine.running)) == ("two", 2)
        disk.full = False
        await until(lambda: len(engine.all) == 1, within_s=10)


# -- the old one fails --


@virtual_time
async def test_the_old_one_dies_and_the_new_one_takes_its_place_without_a_second_launch(
    world: World, engine: RoughEngine
) -> None:
    async with world.hal0() as hal0:
        job = await warming(hal0, engine)
        engine.running[0].end(139)
        await until(lambda: not hal0.primary.snapshot().routable, within_s=1)
        assert hal0.primary.snapshot().model == "two", "who waits now waits for this"
        assert await ends(job, 10) is JobState.DONE
        assert hal0.primary.snapshot().model == "two"
        assert len(engine.called("create")) == 2
        assert len(engine.all) == 1


@virtual_time
async def test_the_old_one_hangs_and_the_new_one_takes_its_place(world: World, engine: RoughEngine) -> None:
    async with world.hal0() as hal0:
        job = await warming(hal0, engine, Program(ready_after_s=60))
        engine.running[0].change(hangs=True)
        await until(lambda: hal0.phase() is not Phase.READY, within_s=40)
        assert await ends(job, 90) is JobState.DONE
        assert len(engine.called("create")) == 2


@virtual_time
async def test_the_old_one_dies_before_the_new_one_was_started(world: World, engine: RoughEngine) -> None:
    async with world.hal0() as hal0:
        await hal0.load()
        engine.stall("create")
        job = await hal0.supervisor.swap("primary", "two")
        await until(lambda: step(hal0) is SwapStep.STARTING, within_s=5)
        engine.running[0].end(139)
        engine.release()
        assert await ends(job, 20) is JobState.DONE
        await until(lambda: len(engine.all) == 1, within_s=10)
        assert hal0.primary.snapshot().model == "two"


@virtual_time
async def test_both_fail_and_the_model_that_served_comes_back(world: World, engine: RoughEngine) -> None:
    async with world.hal0() as hal0:
        job = await warming(hal0, engine, Program(ready_after_s=None, dies_after_s=1, exit_code=137))
        engine.running[0].end(139)
        assert await ends(job, 20) is JobState.FAILED
        assert job.view.note == "one serves again"
        assert hal0.primary.snapshot().model == "one"
        await until(lambda: len(engine.all) == 1, within_s=5)
        assert hal0.primary.life.facts.swap is None


@virtual_time
async def test_the_old_one_dies_while_the_failed_new_one_is_removed(world: World, engine: RoughEngine) -> None:
    async with world.hal0() as hal0:
        await hal0.load()
        engine.plan(Program(broken="it lists no model", ready_after_s=1))
        engine.stall("stop")
        job = await hal0.supervisor.swap("primary", "two")
        await until(lambda: step(hal0) is SwapStep.UNDOING, within_s=5)
        engine.running[0].end(139)
        await until(lambda: hal0.phase() is not Phase.READY, within_s=5)
        engine.release()
        assert await ends(job, 20) is JobState.FAILED
        await hal0.reaches(Phase.READY)
        assert hal0.primary.snapshot().model == "one"
        await until(lambda: len(engine.all) == 1, within_s=10)
