"""When engine or boot go wrong, on virtual time: each fault by name."""

import asyncio
import os
import socket
from dataclasses import replace
from typing import Any

import pytest

from hal0.engine.base import ContainerStatus
from hal0.errors import Hal0Error
from hal0.slots.record import Swap
from hal0.vocab import SLOT_PORTS, Phase, Want
from hal0.wire.jobs import JobState
from tests.factories import container_spec
from tests.fakes.engine import Program
from tests.fakes.world import World
from tests.unit.slots.lives import container, loaded, record
from tests.unit.slots.rough import AWAY, REFUSED, RoughEngine, ends, on_disk, remember
from tests.vloop import until, virtual_time

# -- the engine --


@virtual_time
async def test_an_unload_that_podman_does_not_do_fails_and_is_done_later(world: World, engine: RoughEngine) -> None:
    async with world.hal0() as hal0:
        await hal0.load()
        engine.fail("stop", *[AWAY] * 1000)
        job = await hal0.supervisor.unload("primary")
        await asyncio.sleep(5)
        progress = hal0.primary.view().progress
        assert progress is not None
        assert "cannot reach podman" in progress.message
        assert await ends(job, 250) is JobState.FAILED
        assert job.view.error is not None
        assert job.view.error["code"] == "engine.unreachable"
        assert hal0.primary.life.desired.want is Want.UNLOADED
        engine._before.clear()
        await hal0.reaches(Phase.OFFLINE, within_s=5)


@virtual_time
async def test_a_load_whose_dead_container_cannot_be_buried_fails_and_recovers(
    world: World, engine: RoughEngine
) -> None:
    engine.plan(Program(ready_after_s=None, dies_after_s=1))
    async with world.hal0() as hal0:
        job = await hal0.supervisor.load("primary")
        await hal0.reaches(Phase.WARMING)
        engine.fail("remove", *[AWAY] * 1000)
        assert await ends(job, 120) is JobState.FAILED
        engine._before.clear()
        await hal0.reaches(Phase.READY, within_s=20)


@virtual_time
async def test_a_container_that_cannot_be_removed_does_not_hold_up_the_boot(world: World, engine: RoughEngine) -> None:
    engine.place(container_spec(generation=1), running=False)
    engine.stall("remove")
    remember(world, record(Phase.STARTING, loaded(), containers=(container(),)))
    async with asyncio.timeout(1), world.hal0() as hal0:
        pass
    async with world.hal0() as hal0:
        await hal0.reaches(Phase.READY)
        engine.release()
        await until(lambda: len(engine.all) == 1, within_s=70)
        assert hal0.tools.ports.holders().keys() == {hal0.primary.view().port}


@virtual_time
async def test_a_stalled_sweep_costs_no_cpu(world: World, engine: RoughEngine) -> None:
    """The next sweep comes due while one still hangs: no timer may fire without end."""
    async with world.hal0() as hal0:
        engine.stall("stop")
        engine.place(container_spec(generation=4), running=False)
        await until(lambda: hal0.primary.life.facts.leaving, within_s=5)
        await asyncio.sleep(200)
        engine.release()
        await until(lambda: engine.all == [], within_s=5)


@virtual_time
async def test_a_create_that_landed_too_late_is_found_and_removed(world: World, engine: RoughEngine) -> None:
    async with world.hal0() as hal0:
        await hal0.load()
        engine.place(container_spec(generation=9), running=False)
        await until(lambda: len(engine.all) == 1, within_s=6)
        assert hal0.phase() is Phase.READY
        assert hal0.primary.life.facts.generation == 9


@virtual_time
async def test_a_port_clash_whose_container_stays_is_quarantined(world: World, engine: RoughEngine) -> None:
    engine.busy_ports.add(world.ports[0])
    engine.fail("remove", REFUSED, REFUSED)
    async with world.hal0() as hal0:
        assert (await hal0.load()).state is JobState.DONE
        await until(lambda: len(engine.all) == 1, within_s=70)


@virtual_time
async def test_a_port_of_the_operators_is_not_replaced_and_a_load_tries_again(world: World) -> None:
    """Ports taken between lease and start: a later load is a real attempt, not the old answer."""
    world.engine.busy_ports.update(world.ports)
    async with world.hal0() as hal0:
        job = await hal0.load()
        assert job.error is not None
        assert job.error["code"] == "slot.no_free_port"
        world.engine.busy_ports.clear()
        assert (await hal0.load()).state is JobState.DONE


def is_bound(stranger: socket.socket, port: int) -> bool:
    try:
        stranger.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True


@virtual_time
async def test_who_has_the_operators_port_is_named(world: World) -> None:
    with socket.socket() as stranger:
        port = next(port for port in reversed(SLOT_PORTS) if is_bound(stranger, port))
        stranger.listen()
        async with world.hal0(primary={"model": "one", "port": port}) as hal0:
            job = await hal0.load()
    assert job.error is not None
    assert job.error["code"] == "slot.port_taken"
    assert f"(pid {os.getpid()}) listens there" in job.error["message"]


@virtual_time
async def test_a_fetch_that_does_not_end_when_told_to_keeps_no_verb_waiting(world: World) -> None:
    """What it has under its hands is on a share that hangs; a slot's next fetch begins after its end."""
    released, begun = asyncio.Event(), 0
    ensure = world.images.ensure

    async def hanging(key: str, on_progress: Any) -> str:
        nonlocal begun
        begun += 1
        try:
            await asyncio.sleep(3600)
        finally:
            await released.wait()
        return await ensure(key, on_progress)

    world.images.ensure = hanging  # type: ignore[method-assign]
    async with world.hal0() as hal0:
        await hal0.supervisor.load("primary")
        await until(lambda: begun == 1, within_s=5)
        async with asyncio.timeout(5):
            assert await ends(await hal0.supervisor.unload("primary"), 5) is JobState.DONE
        world.images.ensure = ensure  # type: ignore[method-assign]
        job = await hal0.supervisor.load("primary")
        await asyncio.sleep(10)
        assert hal0.phase() is Phase.PULLING
        released.set()
        assert await ends(job, 5) is JobState.DONE


@virtual_time
async def test_a_slot_without_a_port_takes_none_from_one_that_swaps_or_restarts(world: World) -> None:
    """All ports are in use, and the slot without one asks again and again."""
    world.ports = world.ports[:2]
    ensure = world.images.ensure

    async def slowly(key: str, on_progress: Any) -> str:
        await asyncio.sleep(3)
        return await ensure(key, on_progress)

    world.images.ensure = slowly  # type: ignore[method-assign]
    async with world.hal0(embed={"model": "one"}, other={"model": "one"}) as hal0:
        await hal0.load()
        await hal0.load("embed")
        job = await hal0.load("other")
        assert job.error is not None
        assert job.error["code"] == "slot.no_free_port"
        for model in ("two", "one", "two"):
            assert (await hal0.done(await hal0.supervisor.swap("embed", model))).state is JobState.DONE
            assert (await hal0.done(await hal0.supervisor.restart("embed"))).state is JobState.DONE
            world.engine.running[-1].end(137)
            await until(lambda: hal0.phase("embed") is not Phase.READY, within_s=5)
            await hal0.reaches(Phase.READY, "embed")
        attempts = hal0.supervisor.slot("other").life.facts.attempts.count
        assert await ends(await hal0.supervisor.unload("embed"), 30) is JobState.DONE
        await hal0.reaches(Phase.READY, "other", within_s=400)
        assert attempts > 3, "it had never stopped asking"


@virtual_time
async def test_a_slot_that_rests_in_error_holds_no_port(world: World, engine: RoughEngine) -> None:
    engine.plan(Program(ready_after_s=None, dies_after_s=0.1, last_words=("cannot load model: junk",)))
    async with world.hal0() as hal0:
        assert (await hal0.load()).state is JobState.FAILED
        assert hal0.tools.ports.holders() == {}


@virtual_time
async def test_death_while_draining_is_no_failure_of_the_swap(world: World, engine: RoughEngine) -> None:
    phases: list[Phase] = []
    async with world.hal0() as hal0:
        await hal0.load()
        with hal0.primary.serving():
            job = await hal0.supervisor.swap("primary", "two")
            await hal0.reaches(Phase.UNLOADING)
            engine.running[0].end(137)
            hal0.primary.suspect()
            await asyncio.sleep(1)
        while not job.ended:
            phases.append(hal0.phase())
            await hal0.primary.changed()
        assert job.view.state is JobState.DONE
        assert Phase.ERROR not in phases


# -- boot --


@virtual_time
async def test_an_engine_that_died_together_with_its_monitor_while_hal0_was_away_is_made_anew(
    world: World, engine: RoughEngine
) -> None:
    """Podman believes for ever that it runs."""
    async with world.hal0() as hal0:
        await hal0.load()
    engine.running[0].lose()
    async with world.hal0() as hal0:
        await until(lambda: hal0.primary.life.facts.generation == 2, within_s=5)
        await hal0.reaches(Phase.READY, within_s=5)
        assert hal0.primary.last_failure is not None
        assert hal0.primary.last_failure.exit_code is None, "nobody was there to read it"
        assert [c.spec.name for c in engine.all] == [c.name for c in hal0.primary.life.facts.containers]


@virtual_time
async def test_boot_without_podman_serves_what_answers_and_says_so_to_everyone_else(
    world: World, engine: RoughEngine
) -> None:
    async with world.hal0(embed={"model": "two"}) as hal0:
        await hal0.load()
    engine.stall("containers", "inspect", "stop")
    async with world.hal0(embed={"model": "two"}) as hal0:
        assert hal0.primary.snapshot().routable
        with hal0.primary.serving():
            pass
        assert not hal0.supervisor.engine_up
        with pytest.raises(Hal0Error) as refused:
            await hal0.supervisor.unload("primary")
        assert refused.value.code == "engine.unreachable"
        engine.release()
        await until(lambda: hal0.supervisor.engine_up, within_s=10)
        assert (await hal0.load("embed")).state is JobState.DONE
        assert len(engine.called("create")) == 2, "primary was adopted, not made again"


@virtual_time
async def test_an_adopted_container_that_never_answers_has_a_deadline(world: World, engine: RoughEngine) -> None:
    """Warming for ever after a boot is what users have met elsewhere."""
    spec = container_spec(generation=1, port=world.ports[0])
    engine.place(replace(spec, labels={**spec.labels, "dev.hal0.model": "one"}), Program(ready_after_s=None))
    remember(world, record(Phase.WARMING, loaded(), containers=(container(port=world.ports[0]),)))
    async with world.hal0() as hal0:
        assert hal0.phase() is Phase.WARMING
        await until(lambda: len(engine.called("create")) == 1, within_s=300)
        await hal0.reaches(Phase.READY)


STEPS_OF_A_SWAP = {
    "before the stop": (Phase.UNLOADING, 1, ContainerStatus.RUNNING),
    "after the stop": (Phase.UNLOADING, 1, ContainerStatus.EXITED),
    "after the removal": (Phase.UNLOADING, 1, None),
    "looking for files": (Phase.PULLING, None, None),
    "before the create": (Phase.STARTING, 2, None),
    "after the create": (Phase.STARTING, 2, ContainerStatus.CREATED),
    "after the start": (Phase.STARTING, 2, ContainerStatus.RUNNING),
    "while it warms": (Phase.WARMING, 2, ContainerStatus.RUNNING),
}


@pytest.mark.parametrize("step", STEPS_OF_A_SWAP.values(), ids=STEPS_OF_A_SWAP)
@pytest.mark.parametrize("works", [True, False], ids=["works", "fails"])
def test_a_swap_killed_at_any_step_is_finished_or_rolled_back(
    world: World, engine: RoughEngine, step: tuple[Phase, int | None, ContainerStatus | None], works: bool
) -> None:
    phase, generation, status = step

    @virtual_time
    async def story() -> None:
        model = "one" if generation == 1 else "two"
        boxes = (container(generation, model, port=world.ports[0]),) if generation else ()
        past = record(phase, loaded("two"), swap=Swap("one", "two"), containers=boxes, generation=generation or 1)
        remember(world, past)
        words = ("cannot load model: junk",)
        alone = generation == 2 and status is ContainerStatus.RUNNING  # it decides what becomes of the swap
        if status is not None and generation is not None:
            spec = container_spec(generation=generation, port=world.ports[0])
            spec = replace(spec, labels={**spec.labels, "dev.hal0.model": model})
            program = Program(ready_after_s=None, last_words=words) if alone else Program()
            placed = engine.place(spec, program, running=status is not ContainerStatus.CREATED)
            if status is ContainerStatus.EXITED:
                placed.end(0)
            elif alone:
                then = (lambda: placed.change(ready_after_s=0.1)) if works else placed.end
                asyncio.get_running_loop().call_later(1, then)
        if not works and not alone:
            engine.plan(Program(ready_after_s=None, dies_after_s=1, last_words=words))
        async with world.hal0() as hal0:
            wanted = "two" if works else "one"
            await until(lambda: hal0.phase() is Phase.READY and hal0.primary.snapshot().model == wanted, within_s=60)
            await until(lambda: len(engine.all) == 1, within_s=5)
            assert hal0.primary.life.facts.swap is None
            assert on_disk(world).desired.model == wanted

    story()
