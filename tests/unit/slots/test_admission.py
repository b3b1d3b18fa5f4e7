"""Loads on a machine whose memory does not hold all of them: who comes in, who leaves, who is told what."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from hal0.errors import Hal0Error
from hal0.slots.slot import Slot
from hal0.slots.state import NEVER
from hal0.vocab import By, Device, FailureClass, Phase, SlotName, Want
from hal0.wire.jobs import JobState
from tests.fakes.program import Program
from tests.fakes.provider import FakeHealth
from tests.fakes.world import Running, World
from tests.unit.slots.rough import REFUSED, RoughEngine, on_disk
from tests.vloop import until, virtual_time

MIB = 2**20
ROOM_FOR_ONE = 300 * MIB  # of which a sixteenth is spared; a slot needs some 150 MiB
EMBED = {"model": "two"}
UNLOADING = "waiting for memory: embed is being unloaded"


def embed(hal0: Running) -> Slot:
    return hal0.supervisor.slot("embed")


async def crowded(hal0: Running) -> None:
    """The embed slot is loaded, and there is no room beside it."""
    hal0.world.ram_bytes = ROOM_FOR_ONE
    assert (await hal0.load("embed")).state is JobState.DONE


def figures(error: dict[str, Any] | None) -> dict[str, Any]:
    assert error is not None
    assert error["code"] == "slot.memory_budget"
    details: dict[str, Any] = error["details"]
    return details


@virtual_time
async def test_the_idle_one_leaves_and_the_wait_is_told(world: World, engine: RoughEngine) -> None:
    async with world.hal0(embed=EMBED) as hal0:
        engine.plan(Program(stops_after_s=5), slot="embed")
        await crowded(hal0)
        job = await hal0.supervisor.load("primary")
        await until(lambda: hal0.primary.view().message == UNLOADING, within_s=2)
        assert hal0.phase() is Phase.STARTING
        assert (await job.wait()).state is JobState.DONE
        assert hal0.phase("embed") is Phase.OFFLINE
        assert embed(hal0).life.desired.by is By.EVICTED


@virtual_time
async def test_a_wait_for_one_who_takes_long_to_leave_outlasts_the_deadline_of_a_start(
    world: World, engine: RoughEngine
) -> None:
    async with world.hal0(embed=EMBED) as hal0:
        await crowded(hal0)
        engine.stall("stop")
        job = await hal0.supervisor.load("primary")
        await asyncio.sleep(60)
        assert hal0.primary.view().message == UNLOADING
        engine.release()
        assert (await job.wait()).state is JobState.DONE


@virtual_time
async def test_one_who_never_leaves_is_not_waited_for_without_end(world: World, engine: RoughEngine) -> None:
    async with world.hal0(embed=EMBED) as hal0:
        await crowded(hal0)
        engine.stall("stop")
        view = await (await hal0.supervisor.load("primary")).wait()
        assert figures(view.error)["blocked_by"] == ["embed"]
        assert "embed does not go" in str(view.error)
        engine.release()
        await hal0.reaches(Phase.READY, within_s=400)  # by itself, when the other has left


@virtual_time
async def test_who_answers_is_not_cut_and_the_load_is_told_the_arithmetic(world: World) -> None:
    async with world.hal0(embed=EMBED) as hal0:
        await crowded(hal0)
        with embed(hal0).serving():
            view = await hal0.load("primary")
            details = figures(view.error)
            assert details["blocked_by"] == ["embed"]
            assert details["need_bytes"] - details["free_bytes"] == details["short_bytes"] > 0
            assert sum(term["bytes"] for term in details["terms"]) == details["need_bytes"]
            assert [h["slot"] for h in details["holders"]] == ["embed"]
            assert "while embed is answering" in view.error["message"]  # type: ignore[index]
            assert embed(hal0).snapshot().routable
            fault = hal0.primary.life.facts.fault
            assert fault is not None
            assert fault.failure_class is FailureClass.TRANSIENT
        await hal0.reaches(Phase.READY, within_s=10)  # the operator's wish stands: now the other is idle
        assert hal0.phase("embed") is Phase.OFFLINE


@virtual_time
async def test_when_somebody_leaves_the_refused_load_does_not_wait_for_its_next_try(world: World) -> None:
    async with world.hal0(embed=EMBED) as hal0:
        await crowded(hal0)
        with embed(hal0).serving():
            await hal0.load("primary")
            await asyncio.sleep(200)  # the tries are minutes apart by now
            assert hal0.phase() is Phase.ERROR
        await hal0.done(await hal0.supervisor.unload("embed"))
        await hal0.reaches(Phase.READY, within_s=5)


@virtual_time
async def test_too_large_for_the_machine_rests_until_something_changes(world: World) -> None:
    world.ram_bytes = 100 * MIB
    async with world.hal0() as hal0:
        view = await hal0.load()
        assert figures(view.error)["blocked_by"] == []
        assert hal0.primary.life.facts.retry_at == NEVER
        await asyncio.sleep(1000)
        assert hal0.phase() is Phase.ERROR
        world.ram_bytes = ROOM_FOR_ONE
        assert (await hal0.load()).state is JobState.DONE


@virtual_time
async def test_the_operators_limit_counts_and_a_new_one_is_tried_at_once(world: World) -> None:
    world.memory_limit = 200 * MIB
    async with world.hal0(embed=EMBED) as hal0:
        await hal0.load("embed")
        with embed(hal0).serving():
            details = figures((await hal0.load("primary")).error)
            assert details["total_bytes"] == 200 * MIB
            world.memory_limit = 400 * MIB
            await hal0.supervisor.apply(world.config(embed=EMBED))
            await hal0.reaches(Phase.READY, within_s=1)


@virtual_time
async def test_after_a_reboot_slots_load_again_by_priority(world: World, engine: RoughEngine) -> None:
    """What was loaded before does not fit any more: who matters more comes, and stays until somebody asks."""
    slots: dict[str, dict[str, Any]] = {
        "primary": {"model": "one", "priority": 10},
        "embed": {**EMBED, "priority": 90},
    }
    async with world.hal0(**slots) as hal0:
        await hal0.load()
        await hal0.load("embed")
    for box in list(engine.all):
        await engine.remove(box.spec.name)
    world.ram_bytes = ROOM_FOR_ONE
    engine.plan(Program(ready_after_s=5), slot="embed")
    async with world.hal0(**slots) as hal0:
        await hal0.reaches(Phase.READY, "embed")
        await asyncio.sleep(600)
        assert embed(hal0).snapshot().routable
        fault = hal0.primary.life.facts.fault
        assert fault is not None
        assert (fault.code, fault.failure_class) == ("slot.memory_budget", FailureClass.TRANSIENT)
        assert "embed matters more" in fault.message
        hal0.primary.queued(1)
        await hal0.reaches(Phase.READY, within_s=400)
        assert hal0.phase("embed") is Phase.OFFLINE


@virtual_time
async def test_a_pinned_slot_never_leaves(world: World) -> None:
    async with world.hal0(embed=EMBED | {"pinned": True}) as hal0:
        await crowded(hal0)
        view = await hal0.load("primary")
        assert figures(view.error)["blocked_by"] == []
        assert "embed is pinned" in str(view.error)
        assert embed(hal0).snapshot().routable


@virtual_time
async def test_a_slot_that_no_request_loads_again_never_leaves_for_one(world: World) -> None:
    async with world.hal0(embed=EMBED | {"load_on_request": False}) as hal0:
        await crowded(hal0)
        hal0.primary.request_load()
        await hal0.reaches(Phase.ERROR)
        await hal0.supervisor.switch(SlotName("primary"), [SlotName("embed")])
        await asyncio.sleep(30)
        fault = hal0.primary.life.facts.fault
        assert fault is not None
        assert "embed is loaded by hand only" in fault.message
        assert embed(hal0).snapshot().routable


@pytest.mark.parametrize("verb", ["load", "swap"])
@virtual_time
async def test_what_serves_is_not_given_up_for_a_model_that_can_never_fit(world: World, verb: str) -> None:
    world.models.known["two"] = replace(world.models.known["two"], size_bytes=ROOM_FOR_ONE)
    async with world.hal0() as hal0:
        world.ram_bytes = ROOM_FOR_ONE
        await hal0.load()
        ask = hal0.supervisor.load if verb == "load" else hal0.supervisor.swap
        with pytest.raises(Hal0Error, match=r"cannot load primary: it needs 0\.8 GB of RAM") as refused:
            await ask("primary", "two")
        assert refused.value.code == "slot.memory_budget"
        assert refused.value.details["short_bytes"] > 0
        assert hal0.primary.snapshot().routable
        assert hal0.primary.life.desired.model == "one"


@virtual_time
async def test_a_model_that_only_has_to_wait_for_somebody_is_not_refused_beforehand(world: World) -> None:
    world.ram_bytes = 400 * MIB
    world.models.known["two"] = replace(world.models.known["two"], size_bytes=60 * MIB)
    async with world.hal0(coder={"model": "one"}) as hal0:
        await hal0.load()
        await hal0.load("coder")
        with hal0.supervisor.slot("coder").serving():
            job = await hal0.supervisor.swap("primary", "two")
            assert (await job.wait()).state is JobState.FAILED
            await hal0.reaches(Phase.READY)  # the old one is back


@pytest.mark.parametrize("verb", ["unload", "cancel"])
@virtual_time
async def test_giving_up_while_waiting_ends_at_once_and_gives_the_room_back(
    world: World, engine: RoughEngine, verb: str
) -> None:
    async with world.hal0(embed=EMBED, coder={"model": "one"}) as hal0:
        await crowded(hal0)
        engine.stall("stop")
        job = await hal0.supervisor.load("primary")
        await until(lambda: hal0.primary.view().message == UNLOADING, within_s=2)
        if verb == "cancel":
            hal0.tools.jobs.cancel(job.view.id)
        else:
            await hal0.supervisor.unload("primary")
        async with asyncio.timeout(0.5):
            assert (await job.wait()).state is JobState.CANCELLED
            await hal0.reaches(Phase.OFFLINE)
        engine.release()
        await hal0.reaches(Phase.OFFLINE, "embed")
        assert (await hal0.load("coder")).state is JobState.DONE


@virtual_time
async def test_two_loads_at_once_never_get_the_same_bytes(world: World, engine: RoughEngine) -> None:
    world.ram_bytes = ROOM_FOR_ONE
    async with world.hal0(embed=EMBED) as hal0:
        jobs = await asyncio.gather(*(hal0.supervisor.load(slot) for slot in ("primary", "embed")))
        await asyncio.gather(*(job.wait() for job in jobs))
        assert len(engine.called("create")) == 1
        ready = [slot.name for slot in hal0.supervisor.all() if slot.snapshot().routable]
        assert len(ready) == 1


@virtual_time
async def test_another_model_wished_while_waiting_is_looked_for_and_measured_anew(
    world: World, engine: RoughEngine
) -> None:
    async with world.hal0(embed=EMBED) as hal0:
        await crowded(hal0)
        engine.stall("stop")
        await hal0.supervisor.load("primary")
        await until(lambda: hal0.primary.view().message == UNLOADING, within_s=2)
        job = await hal0.supervisor.swap("primary", "two")
        engine.release()
        assert (await job.wait()).state is JobState.DONE
        current = hal0.primary.life.facts.current
        assert current is not None
        assert current.model == "two"


@virtual_time
async def test_a_container_that_podman_does_not_remove_keeps_its_memory(world: World, engine: RoughEngine) -> None:
    async with world.hal0(embed=EMBED) as hal0:
        await crowded(hal0)
        engine.fail("stop", REFUSED)
        engine.fail("remove", *[REFUSED] * 4)
        await hal0.done(await hal0.supervisor.unload("embed"))
        assert engine.running
        view = await hal0.load("primary")
        assert "embed does not go" in str(view.error)
        await hal0.reaches(Phase.READY, within_s=200)  # the quarantine is tried again every minute


@pytest.mark.parametrize("device", ["npu", "auto"])
@virtual_time
async def test_one_language_model_at_a_time_on_the_npu(
    world: World, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeHealth, "devices", (Device.NPU,))  # as FLM's: `auto` has no other choice
    npu = {"device": device}
    async with world.hal0(embed=EMBED | npu, coder={"model": "one"} | npu) as hal0:
        await hal0.load("embed")
        view = await hal0.load("coder")
        assert view.error is not None
        assert (view.error["code"], view.error["details"]["holder"]) == ("slot.npu_exclusive", "embed")
        await hal0.done(await hal0.supervisor.unload("embed"))
        await hal0.reaches(Phase.READY, "coder", within_s=5)


@virtual_time
async def test_a_request_gets_room_as_an_operator_does(world: World) -> None:
    async with world.hal0(embed=EMBED) as hal0:
        await crowded(hal0)
        hal0.primary.request_load()
        await hal0.reaches(Phase.READY)
        assert embed(hal0).life.desired.want is Want.UNLOADED
        assert not hal0.supervisor.fits_together(frozenset({SlotName("primary"), SlotName("embed")}))


@virtual_time
async def test_what_a_load_took_is_remembered_and_believed_the_next_time(world: World, engine: RoughEngine) -> None:
    engine.program = Program(memory_bytes=40 * MIB)
    async with world.hal0() as hal0:
        await hal0.load()
        await asyncio.sleep(30)  # it is measured now and then
        shown = hal0.primary.view().memory
        assert shown is not None
        assert shown.actual_bytes == 40 * MIB < shown.predicted_bytes == shown.need_bytes
        assert sum(term.bytes for term in shown.terms) == shown.need_bytes
        [used] = on_disk(world).memory_history
        assert (used.actual_bytes, used.predicted_bytes) == (40 * MIB, shown.predicted_bytes)
    async with world.hal0() as hal0:  # what a restart remembers decides as well
        await hal0.done(await hal0.supervisor.restart("primary"))
        again = hal0.primary.view().memory
        assert again is not None
        assert (again.need_bytes, again.predicted_bytes) == (40 * MIB, shown.predicted_bytes)


@virtual_time
async def test_a_sample_of_a_load_that_is_not_ready_teaches_nothing(world: World, engine: RoughEngine) -> None:
    engine.plan(Program(ready_after_s=60, memory_bytes=MIB))
    async with world.hal0() as hal0:
        await hal0.supervisor.load("primary")
        await asyncio.sleep(50)
        assert hal0.primary.life.facts.memory_bytes == MIB
        assert hal0.primary.shown().book.memory == ()
