"""Images and language models on one GPU that does not hold both: who leaves, who is told what, who comes back."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import pytest

from hal0.errors import Hal0Error
from hal0.slots.adopt import LABEL_SLOT
from hal0.slots.arbiter import Mode
from hal0.slots.slot import Slot
from hal0.vocab import By, Capability, Phase, SlotName
from hal0.wire.jobs import JobState
from tests.fakes.program import Program
from tests.fakes.world import Disk, Running, World
from tests.unit.slots.rough import REFUSED, RoughEngine
from tests.vloop import until, virtual_time

MIB: Final = 2**20
GPU: Final = {"device": "vulkan"}
IMG: Final = {"model": "sd", "provider": "comfyui"} | GPU
SLOTS: Final[dict[str, Any]] = {
    "primary": {"model": "one", "priority": 60} | GPU,
    "coder": {"model": "two"} | GPU,
    "embed": {"model": "two", "device": "cpu"},
    "img": IMG,
}
SET: Final = ("primary", "coder")


@pytest.fixture
def world(world: World) -> World:
    """An APU that holds both language models (215 MiB each), or images (420 MiB)."""
    sizes = {"one": 100 * MIB, "two": 100 * MIB, "sd": 200 * MIB}
    world.models.add(world.folder / "models", "sd")
    for name, size in sizes.items():
        world.models.known[name] = replace(world.models.known[name], size_bytes=size)
    image = frozenset({Capability.IMAGE})
    world.models.known["sd"] = replace(world.models.known["sd"], capabilities=image)
    world.gtt_bytes = 500 * MIB
    world.slots = SLOTS
    world.idle_restore_min = 1
    return world


def slot(hal0: Running, name: str) -> Slot:
    return hal0.supervisor.slot(name)


def stays(engine: RoughEngine, name: str) -> None:
    """Podman will not remove the slot's container, until its quarantine is over."""
    refuse, refusals = engine._fault, iter([REFUSED] * 8)

    async def fault(verb: str, target: str) -> None:
        found = engine._find(target) if verb in ("stop", "remove") else None
        if found is not None and found.spec.labels[LABEL_SLOT] == name and (refusal := next(refusals, None)):
            raise refusal
        await refuse(verb, target)

    engine._fault = fault  # type: ignore[method-assign]


def mode(hal0: Running) -> str:
    [view] = hal0.supervisor.gpus()
    return view.mode


async def language(hal0: Running) -> None:
    for name in SET:
        assert (await hal0.load(name)).state is JobState.DONE


async def images(hal0: Running) -> None:
    await language(hal0)
    assert (await hal0.load("img")).state is JobState.DONE
    await until(lambda: mode(hal0) == Mode.IMAGES, within_s=4)


async def back(hal0: Running, within_s: float = 20) -> None:
    await until(lambda: mode(hal0) == Mode.LLM, within_s=within_s)
    assert all(hal0.phase(name) is Phase.READY for name in SET)
    assert hal0.phase("img") is Phase.OFFLINE


@virtual_time
async def test_the_set_leaves_for_images_and_comes_back_when_images_are_done(world: World) -> None:
    async with world.hal0() as hal0:
        await hal0.load("embed")
        await images(hal0)
        assert [hal0.phase(name) for name in SET] == [Phase.OFFLINE] * 2
        assert all(slot(hal0, name).life.desired.by is By.ARBITER for name in SET)
        assert "made way for images" in hal0.primary.view().message
        assert hal0.phase("embed") is Phase.READY  # the processor is nobody's rival
        [view] = hal0.supervisor.gpus()
        assert view.comes_back == list(SET)
        await asyncio.sleep(50)
        assert mode(hal0) == Mode.IMAGES
        await back(hal0, within_s=30)


@virtual_time
async def test_the_way_there_is_told_and_open_answers_end_by_themselves(world: World) -> None:
    async with world.hal0() as hal0:
        await language(hal0)
        with slot(hal0, "coder").serving() as serving:
            cut: list[Hal0Error] = []
            serving.on_abort(cut.append)
            await hal0.supervisor.load("img")
            told = "waiting for the GPU: coder is being unloaded"
            await until(lambda: slot(hal0, "img").view().message == told, within_s=5)
            await asyncio.sleep(60)
            assert (mode(hal0), cut) == (Mode.CLEARING, [])
        await hal0.reaches(Phase.READY, "img", within_s=15)


@virtual_time
async def test_while_images_have_the_gpu_a_model_is_refused_with_the_time_that_is_left(world: World) -> None:
    async with world.hal0() as hal0:
        await images(hal0)
        await asyncio.sleep(30)
        refusal = hal0.supervisor.barred(SlotName("primary"))
        assert refusal is not None
        assert (refusal.code, refusal.status) == ("gpu.image_mode", 503)
        assert refusal.retry_after_s is not None
        assert 20 < refusal.retry_after_s <= 30
        assert hal0.supervisor.barred(SlotName("embed")) is None
        view = await hal0.load("primary")
        assert view.error is not None
        assert view.error["code"] == "gpu.image_mode"
        assert hal0.phase("img") is Phase.READY
        await hal0.done(await hal0.supervisor.unload("img"))
        await back(hal0)


@virtual_time
async def test_both_stay_when_both_fit(world: World) -> None:
    world.gtt_bytes = 2000 * MIB
    async with world.hal0() as hal0:
        await language(hal0)
        assert (await hal0.load("img")).state is JobState.DONE
        assert mode(hal0) == Mode.LLM
        assert all(hal0.phase(name) is Phase.READY for name in SET)


@virtual_time
async def test_turns_are_not_taken_with_images(world: World) -> None:
    """`fits_together` is what turns rest on; between images and models the arbiter decides."""
    async with world.hal0() as hal0:
        both = frozenset({SlotName("primary"), SlotName("img")})
        assert hal0.supervisor.fits_together(both)
        world.gtt_bytes = 300 * MIB
        await hal0.tools.steward.look()
        assert not hal0.supervisor.fits_together(both)  # images alone do not fit
        assert not hal0.supervisor.fits_together(frozenset(map(SlotName, SET)))


@virtual_time
async def test_nobody_is_sent_away_for_images_that_can_never_fit(world: World) -> None:
    world.gtt_bytes = 450 * MIB
    world.models.known["sd"] = replace(world.models.known["sd"], size_bytes=400 * MIB)
    async with world.hal0() as hal0:
        await language(hal0)
        view = await hal0.load("img")
        assert view.error is not None
        assert view.error["code"] == "slot.memory_budget"
        assert all(hal0.phase(name) is Phase.READY for name in SET)


@virtual_time
async def test_a_pinned_model_stays_and_images_are_told_so(world: World) -> None:
    world.slots = SLOTS | {"coder": SLOTS["coder"] | {"pinned": True}}
    async with world.hal0() as hal0:
        await language(hal0)
        view = await hal0.load("img")
        assert "coder is pinned" in str(view.error)
        assert all(hal0.phase(name) is Phase.READY for name in SET)


@virtual_time
async def test_pinned_images_stay_until_they_are_unloaded(world: World) -> None:
    world.slots = SLOTS | {"img": IMG | {"pinned": True}}
    async with world.hal0() as hal0:
        await images(hal0)
        await asyncio.sleep(200)
        assert hal0.phase("img") is Phase.READY
        await hal0.done(await hal0.supervisor.unload("img"))
        await back(hal0)


@virtual_time
async def test_images_that_do_not_start_give_the_gpu_back(world: World, engine: RoughEngine) -> None:
    async with world.hal0() as hal0:
        await language(hal0)
        dies = Program(ready_after_s=None, dies_after_s=1.0, memory_bytes=0)
        engine.plan(*[dies] * 20, slot="img")
        view = await hal0.load("img")
        assert view.state is JobState.FAILED
        await back(hal0, within_s=60)
        await asyncio.sleep(100)
        assert hal0.phase("primary") is Phase.READY  # nobody has asked for images since
        engine._planned.clear()
        assert slot(hal0, "img").last_failure is not None
        assert (await hal0.load("img")).state is JobState.DONE  # whoever wants them may try again


@virtual_time
async def test_images_that_crash_once_keep_the_gpu(world: World, engine: RoughEngine) -> None:
    async with world.hal0() as hal0:
        await images(hal0)
        [container] = [c for c in engine.running if c.spec.labels[LABEL_SLOT] == "img"]
        container.end(139)
        await hal0.reaches(Phase.ERROR, "img", within_s=1)
        await hal0.reaches(Phase.READY, "img", within_s=15)
        assert mode(hal0) == Mode.IMAGES


@virtual_time
async def test_a_model_that_will_not_leave_brings_the_others_back(world: World, engine: RoughEngine) -> None:
    async with world.hal0() as hal0:
        await language(hal0)
        stays(engine, "coder")
        view = await hal0.load("img")
        assert "coder does not go" in str(view.error)
        assert hal0.phase("primary") is Phase.READY
        await hal0.reaches(Phase.READY, "img", within_s=300)  # the wish stands: when the quarantine is over they come


@pytest.mark.parametrize("verb", ["unload", "cancel"])
@virtual_time
async def test_giving_up_images_on_the_way_brings_the_set_back(world: World, engine: RoughEngine, verb: str) -> None:
    async with world.hal0() as hal0:
        await language(hal0)
        engine.stall("stop")
        job = await hal0.supervisor.load("img")
        await until(lambda: mode(hal0) == Mode.CLEARING, within_s=2)
        if verb == "cancel":
            hal0.tools.jobs.cancel(job.view.id)
        else:
            await hal0.supervisor.unload("img")
        engine.release()
        await back(hal0)


@virtual_time
async def test_who_is_unloaded_by_the_operator_meanwhile_does_not_come_back(world: World) -> None:
    async with world.hal0() as hal0:
        await images(hal0)
        await hal0.done(await hal0.supervisor.unload("coder"))
        await hal0.done(await hal0.supervisor.unload("img"))
        await until(lambda: mode(hal0) == Mode.LLM, within_s=10)
        assert (hal0.phase("primary"), hal0.phase("coder")) == (Phase.READY, Phase.OFFLINE)


@virtual_time
async def test_a_slot_that_is_configured_no_more_does_not_hold_up_the_others(world: World) -> None:
    async with world.hal0() as hal0:
        await images(hal0)
        world.slots = {name: table for name, table in SLOTS.items() if name not in ("coder", "img")}
        await hal0.supervisor.apply(world.config())
        await hal0.reaches(Phase.READY, "primary", within_s=60)
        await until(lambda: hal0.supervisor.gpus() == [], within_s=10)


@virtual_time
async def test_images_asked_for_on_their_way_out_come_again(world: World, engine: RoughEngine) -> None:
    async with world.hal0() as hal0:
        await images(hal0)
        engine.plan(Program(stops_after_s=10), slot="img")
        await hal0.done(await hal0.supervisor.restart("img"))
        await until(lambda: mode(hal0) == Mode.RETURNING, within_s=100)
        await hal0.reaches(Phase.UNLOADING, "img", within_s=1)
        slot(hal0, "img").request_load()
        await hal0.reaches(Phase.READY, "img", within_s=30)
        await until(lambda: mode(hal0) != Mode.STARTING, within_s=4)
        assert mode(hal0) == Mode.IMAGES
        assert hal0.phase("primary") is Phase.OFFLINE


MOMENTS: Final[dict[str, Callable[[Running], bool]]] = {
    "clearing": lambda hal0: mode(hal0) == Mode.CLEARING,
    "starting": lambda hal0: mode(hal0) == Mode.STARTING,
    "images": lambda hal0: mode(hal0) == Mode.IMAGES,
}


@pytest.mark.parametrize("moment", MOMENTS)
@virtual_time
async def test_a_restart_of_hal0_goes_on_where_it_was(world: World, engine: RoughEngine, moment: str) -> None:
    async with world.hal0() as hal0:
        await language(hal0)
        await hal0.supervisor.load("img")
        await until(lambda: MOMENTS[moment](hal0), within_s=10)
    async with world.hal0() as hal0:
        await hal0.reaches(Phase.READY, "img", within_s=60)
        await until(lambda: mode(hal0) == Mode.IMAGES, within_s=5)
        assert [hal0.phase(name) for name in SET] == [Phase.OFFLINE] * 2
        await hal0.done(await hal0.supervisor.unload("img"))
    async with world.hal0() as hal0:  # and on the way back
        await back(hal0)


@virtual_time
async def test_nobody_leaves_when_the_set_cannot_be_remembered(world: World, disk: Disk) -> None:
    async with world.hal0() as hal0:
        await language(hal0)
        disk.full = True
        view = await hal0.load("img")
        assert view.error is not None
        assert view.error["code"] == "state.write_failed"
        assert all(hal0.phase(name) is Phase.READY for name in SET)
        disk.full = False
        await hal0.reaches(Phase.READY, "img", within_s=60)


@virtual_time
async def test_a_disk_that_fills_up_on_the_way_brings_the_set_back(world: World, disk: Disk) -> None:
    async with world.hal0() as hal0:
        await language(hal0)
        disk.seen = lambda path, _data: setattr(disk, "full", path.name == "gpu.json")
        job = await hal0.supervisor.load("img")
        await until(lambda: mode(hal0) == Mode.CLEARING, within_s=2)
        disk.seen = lambda _path, _data: None
        await asyncio.sleep(30)
        disk.full = False
        await until(lambda: job.ended and hal0.phase("img") is Phase.READY, within_s=60)
