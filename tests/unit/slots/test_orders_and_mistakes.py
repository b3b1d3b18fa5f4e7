"""Who asks in which order, our own mistakes, and a configuration that changes, on virtual time."""

import asyncio
import itertools

import pytest
from aiohttp import ClientSession

from hal0.errors import Hal0Error
from hal0.events.bus import Event
from hal0.providers.base import Endpoint, Health
from hal0.slots import happenings as h
from hal0.vocab import By, FailureClass, Phase
from hal0.wire.jobs import JobState
from tests.factories import container_spec
from tests.fakes.engine import Program
from tests.fakes.world import World
from tests.unit.slots.lives import PERMANENT
from tests.unit.slots.rough import REFUSED, RoughEngine, ends
from tests.vloop import until, virtual_time

# -- who asks, and in which order --


@virtual_time
async def test_what_a_watcher_said_about_a_phase_that_is_over_counts_no_more(world: World) -> None:
    """Broken, said of the model before: it must not roll back a swap that has only begun."""
    async with world.hal0() as hal0:
        await hal0.load()
        slot = hal0.primary
        current = slot.life.facts.current
        assert current is not None
        await hal0.supervisor.swap("primary", "two")
        slot._actor._sight._seen(current, Phase.READY, h.Failed(PERMANENT, 1.0))
        await hal0.reaches(Phase.READY)
        assert hal0.primary.snapshot().model == "two"


@virtual_time
async def test_a_request_never_undoes_an_operators_later_wish(world: World) -> None:
    async with world.hal0() as hal0:
        swap = asyncio.create_task(hal0.supervisor.swap("primary", "two"))
        await asyncio.sleep(0)
        hal0.primary.request_load()
        assert await ends(await swap, 30) is JobState.DONE
        assert hal0.primary.snapshot().model == "two"


@virtual_time
async def test_a_request_loads_what_an_operator_unloaded(world: World) -> None:
    async with world.hal0() as hal0:
        await hal0.load()
        await (await hal0.supervisor.unload("primary")).wait()
        hal0.primary.request_load()
        await hal0.reaches(Phase.READY)
        assert hal0.primary.life.desired.by is By.REQUEST


@virtual_time
async def test_a_cancelled_load_ends_as_cancelled_and_an_unload_cannot_be_cancelled(world: World) -> None:
    world.engine.program = Program(ready_after_s=50)
    async with world.hal0() as hal0:
        job = await hal0.supervisor.load("primary")
        await hal0.reaches(Phase.WARMING)
        hal0.tools.jobs.cancel(job.view.id)
        assert await ends(job, 5) is JobState.CANCELLED
        assert job.view.error is not None
        assert job.view.error["code"] == "slot.load_cancelled"
        unload = await hal0.supervisor.unload("primary")
        with pytest.raises(Hal0Error, match="must finish"):
            hal0.tools.jobs.cancel(unload.view.id)
        assert await ends(unload, 30) is JobState.DONE


@virtual_time
async def test_a_cancelled_swap_keeps_the_old_model(world: World) -> None:
    async with world.hal0() as hal0:
        await hal0.load()
        world.engine.program = Program(ready_after_s=50)
        job = await hal0.supervisor.swap("primary", "two")
        await hal0.reaches(Phase.WARMING)
        world.engine.program = Program()
        hal0.tools.jobs.cancel(job.view.id)
        assert await ends(job, 5) is JobState.CANCELLED
        await hal0.reaches(Phase.READY)
        assert hal0.primary.snapshot().model == "one"


@virtual_time
async def test_a_cancelled_restart_that_drains_leaves_the_model_loaded(world: World) -> None:
    async with world.hal0() as hal0:
        await hal0.load()
        with hal0.primary.serving():
            job = await hal0.supervisor.restart("primary")
            await hal0.reaches(Phase.UNLOADING)
            hal0.tools.jobs.cancel(job.view.id)
            assert await ends(job, 5) is JobState.CANCELLED
        await hal0.reaches(Phase.READY)
        assert hal0.primary.snapshot().model == "one"


@virtual_time
async def test_a_cancel_that_comes_too_late_hits_no_other_job(world: World) -> None:
    world.engine.program = Program(ready_after_s=5)
    async with world.hal0() as hal0:
        first = await hal0.supervisor.load("primary")
        later = asyncio.create_task(hal0.supervisor.swap("primary", "two"))
        await asyncio.sleep(0)
        hal0.tools.jobs.cancel(first.view.id)  # still running now, superseded when the cancel is read
        assert await ends(await later, 60) is JobState.DONE
        assert first.view.state is JobState.SUPERSEDED


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.WARMING, Phase.UNLOADING])
def test_restart_in_any_phase_ends_in_a_new_container(world: World, engine: RoughEngine, phase: Phase) -> None:
    @virtual_time
    async def story() -> None:
        async with world.hal0() as hal0:
            if phase is Phase.UNLOADING:
                await hal0.load()
                engine.stall("stop")
                await hal0.supervisor.unload("primary")
            else:
                engine.plan(Program(ready_after_s=3))
                await hal0.supervisor.load("primary")
            await hal0.reaches(phase)
            job = await hal0.supervisor.restart("primary")
            engine.release()
            assert await ends(job, 60) is JobState.DONE
            assert hal0.primary.life.facts.generation == 2
            assert len(engine.all) == 1

    story()


@virtual_time
async def test_load_while_unloading_loads_again(world: World) -> None:
    async with world.hal0() as hal0:
        await hal0.load()
        unload = await hal0.supervisor.unload("primary")
        await hal0.reaches(Phase.UNLOADING)
        assert (await hal0.load()).state is JobState.DONE
        assert unload.view.state is JobState.SUPERSEDED


# -- our own mistakes --


@virtual_time
async def test_a_watcher_that_makes_a_mistake_looks_again(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Who warms does not stand still until the load's deadline, and who serves does not hang unnoticed."""
    world.engine.program = Program(ready_after_s=1)
    async with world.hal0() as hal0:
        health, mistakes = hal0.provider.health, iter(range(2))

        async def mistaken(endpoint: Endpoint, launch_model: str, session: ClientSession) -> Health:
            if next(mistakes, None) is not None:
                raise KeyError("Id")
            return await health(endpoint, launch_model, session)

        hal0.provider.health = mistaken  # type: ignore[method-assign]
        async with asyncio.timeout(10):
            assert (await hal0.load()).state is JobState.DONE
        assert "watcher health met a mistake" in caplog.text
        mistakes = iter(range(1))
        await asyncio.sleep(20)
        world.engine.running[0].program = Program(hangs=True)
        await until(lambda: hal0.primary.life.facts.generation == 2, within_s=60)


@virtual_time
async def test_an_actor_that_fails_starts_again_from_its_record(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.engine.program = Program(ready_after_s=20)
    async with world.hal0() as hal0:
        job = await hal0.supervisor.load("primary")
        await hal0.reaches(Phase.WARMING)
        hal0.primary.post(object())  # type: ignore[arg-type]
        assert await ends(job, 1) is JobState.FAILED
        assert job.view.error is not None
        assert job.view.error["code"] == "system.internal"
        with pytest.raises(Hal0Error):
            await hal0.supervisor.unload("primary")
        await hal0.reaches(Phase.READY, within_s=40)
        assert len(world.engine.called("create")) == 1, "the container went on meanwhile"
        assert await ends(await hal0.supervisor.unload("primary"), 30) is JobState.DONE
        assert "mistake" in caplog.text


@virtual_time
async def test_whoever_waits_when_hal0_ends_is_told(world: World) -> None:
    async with world.hal0() as hal0:
        waiting = asyncio.create_task(hal0.supervisor.load("primary"))
        await asyncio.sleep(0)
        await hal0.supervisor.close()
    with pytest.raises(Hal0Error) as told:
        await waiting
    assert told.value.code == "server.stopping"


# -- configuration --


@virtual_time
async def test_a_slot_that_is_configured_no_more_is_unloaded_and_forgotten(world: World) -> None:
    async with world.hal0(extra={"model": "two"}) as hal0:
        world.engine.program = Program(ready_after_s=5)
        job = await hal0.supervisor.load("extra")
        await hal0.reaches(Phase.WARMING, "extra")
        await hal0.supervisor.apply(world.config())
        assert await ends(job, 5) is JobState.CANCELLED
        await until(lambda: hal0.supervisor.get("extra") is None, within_s=30)
        assert world.engine.of_slot("extra") == []


@virtual_time
async def test_a_slot_that_cannot_be_unloaded_holds_up_no_configuration(world: World, engine: RoughEngine) -> None:
    async with world.hal0(extra={"model": "two"}) as hal0:
        await hal0.load("extra")
        engine.stall("stop")
        async with asyncio.timeout(1):
            await hal0.supervisor.apply(world.config())
        await hal0.reaches(Phase.UNLOADING, "extra")
        await hal0.supervisor.apply(world.config(extra={"model": "two"}))  # it comes back before it has left
        engine.release()
        await hal0.reaches(Phase.OFFLINE, "extra")
        assert (await hal0.load("extra")).state is JobState.DONE


@virtual_time
async def test_a_changed_configuration_ends_a_permanent_failure_and_touches_nothing_else(world: World) -> None:
    async with world.hal0(extra={"model": "two"}) as hal0:
        await hal0.load("primary")
        world.engine.plan(Program(ready_after_s=None, dies_after_s=0.05, last_words=("cannot load model: no",)))
        assert (await hal0.load("extra")).state is JobState.FAILED
        failure = hal0.supervisor.slot("extra").failure
        assert failure is not None
        assert failure.failure_class is FailureClass.PERMANENT
        await hal0.supervisor.apply(world.config(extra={"model": "two", "context_size": 1024}))
        await hal0.reaches(Phase.READY, "extra")
        assert len(world.engine.called("stop")) == 0
        assert hal0.phase("primary") is Phase.READY


@virtual_time
async def test_a_container_of_no_configured_slot_is_removed(world: World, engine: RoughEngine) -> None:
    """By force where podman refuses to stop it, as it does when a container's monitor was killed."""
    engine.place(container_spec("ghost", generation=3, port=world.ports[9]))
    engine.fail("stop", *[REFUSED] * 1000)
    async with world.hal0():
        await until(lambda: engine.all == [], within_s=4)


@virtual_time
async def test_one_that_will_not_stop_delays_no_other(world: World, engine: RoughEngine) -> None:
    stubborn, meek = (container_spec("ghost", generation=number, port=world.ports[number]) for number in (8, 9))
    engine.place(stubborn, Program(ignores_sigterm=True))
    engine.place(meek)
    async with world.hal0():
        await until(lambda: [one.spec.name for one in engine.all] == [stubborn.name], within_s=4)
        await until(lambda: engine.all == [], within_s=25)


# -- announcements --


@virtual_time
async def test_every_phase_of_a_crash_is_announced(world: World, engine: RoughEngine) -> None:
    seen: list[str] = []
    async with world.hal0() as hal0:
        await hal0.load()
        async with hal0.supervisor._bus.listen() as listening:
            engine.running[0].end(139)
            await until(lambda: hal0.primary.life.facts.generation == 2 and hal0.phase() is Phase.READY, within_s=10)
            while "ready" not in seen:
                events = [event for event in await listening.next() if isinstance(event, Event)]
                seen += [event.value["state"] for event in events if event.id == "primary" and event.value is not None]
    assert [state for state, _ in itertools.groupby(seen)] == ["error", "starting", "warming", "ready"]


@virtual_time
async def test_nothing_new_is_not_announced(world: World) -> None:
    async with world.hal0() as hal0:
        await hal0.load()
        await asyncio.sleep(15)  # what it takes of memory is news, once
        version, seq = hal0.supervisor.version, hal0.supervisor._bus.last_seq
        await asyncio.sleep(60)
        assert (hal0.supervisor.version, hal0.supervisor._bus.last_seq) == (version, seq)


@virtual_time
async def test_a_model_that_arrives_is_seen_without_any_other_change(world: World) -> None:
    async with world.hal0(primary={"model": "later"}) as hal0:
        assert hal0.primary.snapshot().model_missing is not None
        world.models.add(world.folder / "models", "later")
        assert hal0.primary.snapshot().model_missing is None


@virtual_time
async def test_a_slot_never_loaded_follows_its_configuration(world: World) -> None:
    async with world.hal0(embed={}) as hal0:
        assert hal0.supervisor.slot("embed").snapshot().model is None
        await hal0.supervisor.apply(world.config(embed={"model": "two"}))
        assert hal0.supervisor.slot("embed").snapshot().model == "two"
    async with world.hal0(embed={"model": "one"}) as hal0:
        assert hal0.supervisor.slot("embed").snapshot().model == "one"
        assert (await hal0.load("embed")).state is JobState.DONE
        await (await hal0.supervisor.unload("embed")).wait()
        await hal0.supervisor.apply(world.config(embed={"model": "two"}))
        assert hal0.supervisor.slot("embed").snapshot().model == "one", "from the first load on only a swap changes it"
