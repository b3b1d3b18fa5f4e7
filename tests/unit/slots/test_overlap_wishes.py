"""Amid a swap by overlap, on virtual time: whatever is wished for, and wherever hal0 is killed."""

import asyncio
from pathlib import Path
from typing import Any, Final

import pytest

from hal0.slots.record import SwapStep
from hal0.vocab import Phase
from hal0.wire.jobs import JobState
from tests.fakes.engine import Program
from tests.fakes.world import Disk, Running, World
from tests.unit.slots.overlapping import Gaps, step, warming
from tests.unit.slots.rough import RoughEngine, ends, on_disk
from tests.vloop import until, virtual_time


@pytest.fixture
def world(tmp_path: Path, port_block: range, engine: RoughEngine, disk: Disk) -> World:
    slots = {"primary": {"model": "one", "swap": "overlap"}}
    return World(tmp_path, port_block, engine, disk=disk, slots=slots)


MOMENTS: Final = (SwapStep.PULLING, SwapStep.STARTING, SwapStep.WARMING, SwapStep.UNDOING)


async def at(hal0: Running, engine: RoughEngine, moment: SwapStep) -> Any:
    """The overlap from `one` to `two` stands still at this step; the swap's job. `release` lets it go on."""
    await hal0.load()
    if moment is SwapStep.PULLING:
        ensure, going = hal0.world.images.ensure, asyncio.Event()

        async def slowly(key: str, on_progress: Any) -> str:
            if not going.is_set():
                going.set()
                await asyncio.sleep(30)
            return await ensure(key, on_progress)

        hal0.world.images.ensure = slowly  # type: ignore[method-assign]
    elif moment is SwapStep.STARTING:
        engine.stall("start")
    elif moment is SwapStep.WARMING:
        engine.plan(Program(ready_after_s=30))
    else:
        engine.plan(Program(broken="it lists no model"))
        engine.stall("logs")
    job = await hal0.supervisor.swap("primary", "two")
    await until(lambda: step(hal0) is moment, within_s=5)
    await asyncio.sleep(0.05)
    return job


async def wish(what: str, hal0: Running, job: Any) -> Any:
    """Ask for it; the job that comes of it, if one does."""
    supervisor = hal0.supervisor
    verbs = {
        "unload": lambda: supervisor.unload("primary"),
        "back": lambda: supervisor.swap("primary", "one"),
        "third": lambda: supervisor.swap("primary", "bad"),
        "restart": lambda: supervisor.restart("primary"),
        "load": lambda: supervisor.load("primary"),
        "again": lambda: supervisor.swap("primary", "two"),
    }
    if what in verbs:
        return await verbs[what]()
    if what == "cancel":
        hal0.tools.jobs.cancel(job.view.id)
    else:
        slots = {"model": "one", "swap": "overlap", "extra_args": ["--flash-attn", "on"]}
        await supervisor.apply(hal0.world.config(primary=slots))
    return None


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("what", ["unload", "cancel", "back", "third", "restart", "load", "again", "config"])
def test_whatever_is_wished_in_whatever_moment_is_what_comes(
    world: World, engine: RoughEngine, what: str, moment: SwapStep
) -> None:
    """What the swap's job becomes, and the model that serves in the end (None: nothing does)."""

    failed = moment is SwapStep.UNDOING and what != "cancel"
    ends_as, model = {
        "unload": (JobState.CANCELLED, None),
        "cancel": (JobState.CANCELLED, "one"),
        "back": (JobState.SUPERSEDED, "one"),
        "third": (JobState.SUPERSEDED, "bad"),
        "restart": (JobState.DONE, "one" if failed else "two"),
        "load": (JobState.DONE, "one" if failed else "two"),
        "again": (JobState.DONE, "two"),
        "config": (JobState.DONE, "one" if failed else "two"),
    }[what]

    @virtual_time
    async def story() -> None:
        async with world.hal0() as hal0:
            job = await at(hal0, engine, moment)
            async with Gaps(hal0.primary) as gaps:
                other = await wish(what, hal0, job)
                engine.release()
                assert await ends(job, 90) is (JobState.FAILED if failed else ends_as)
                if other is not None and other is not job:
                    assert await ends(other, 90) is JobState.DONE
                await until(lambda: len(engine.all) == (0 if model is None else 1), within_s=60)
            if model is None:
                assert hal0.phase() is Phase.OFFLINE
                assert hal0.primary.life.desired.model == "one", "two never proved itself"
                assert hal0.tools.ports.holders() == {}
                return
            await hal0.reaches(Phase.READY)
            assert hal0.primary.snapshot().model == model
            assert hal0.primary.life.facts.swap is None
            if not (failed and what in ("restart", "config")):  # those are of the old one
                assert gaps.seen == []
            if what == "config":
                assert "--flash-attn" in engine.running[0].spec.argv
                assert hal0.primary.view().stale is None

    story()


@virtual_time
async def test_an_unload_ends_the_requests_of_both_and_is_done_when_nothing_runs(
    world: World, engine: RoughEngine
) -> None:
    async with world.hal0() as hal0:
        await hal0.load()
        requests = [hal0.primary.serving()]
        assert (await hal0.done(await hal0.supervisor.swap("primary", "two"))).state is JobState.DONE
        requests.append(hal0.primary.serving())
        for request in requests:
            request.on_abort(lambda _error, request=request: request.end())  # type: ignore[misc]
        engine.running[0].change(stops_after_s=9)
        job = await hal0.supervisor.unload("primary", drain_s=3)
        assert await ends(job, 25) is JobState.DONE
        assert engine.all == []


@virtual_time
async def test_an_unused_slot_is_not_unloaded_amid_a_swap(world: World, engine: RoughEngine) -> None:
    async with world.hal0(primary={"model": "one", "swap": "overlap", "unload_after_s": 60}) as hal0:
        await hal0.load()
        await asyncio.sleep(50)
        engine.plan(Program(ready_after_s=30))
        job = await hal0.supervisor.swap("primary", "two")
        assert await ends(job, 40) is JobState.DONE
        await asyncio.sleep(55)
        assert hal0.phase() is Phase.READY, "it counts from the turn"
        await hal0.reaches(Phase.OFFLINE, within_s=10)


# -- killed --


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("meanwhile", ["nothing", "old dies", "new dies", "both die", "new is ready"])
def test_killed_amid_an_overlap_it_goes_on_or_back_and_one_is_left(
    world: World, engine: RoughEngine, moment: SwapStep, meanwhile: str
) -> None:
    @virtual_time
    async def story() -> None:
        async with world.hal0() as hal0:
            await at(hal0, engine, moment)
        served = engine.running[0]
        if meanwhile in ("old dies", "both die"):
            served.end(139)
        for other in engine.running[1:] if meanwhile in ("new dies", "both die") else ():
            other.end(137)
        if meanwhile == "new is ready":
            for other in engine.running[1:]:
                other.change(ready_after_s=0.0, broken=None)
        engine.release()
        async with world.hal0() as hal0:
            if served.running:
                assert hal0.primary.snapshot().routable
            await hal0.reaches(Phase.READY, within_s=60)
            await until(lambda: len(engine.all) == 1 and step(hal0) is None, within_s=60)
            assert hal0.primary.snapshot().routable
            model = hal0.primary.snapshot().model
            assert on_disk(world).desired.model == model
            if moment is SwapStep.UNDOING:
                assert model == "one"
            elif meanwhile in ("nothing", "new is ready"):
                assert model == "two"

    story()


@virtual_time
async def test_while_podman_is_silent_at_boot_the_old_one_serves_amid_an_overlap(
    world: World, engine: RoughEngine
) -> None:
    async with world.hal0() as hal0:
        await warming(hal0, engine, Program(ready_after_s=30))
    engine.stall("containers")
    async with world.hal0() as hal0:
        assert hal0.primary.snapshot().model == "one"
        assert hal0.primary.snapshot().routable
        engine.release()
        await until(lambda: hal0.primary.snapshot().model == "two", within_s=60)
        assert hal0.primary.snapshot().routable
        assert len(engine.called("create")) == 2
