"""What has failed for good rests until something changes: a wish, the configuration, its image or its model."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hal0.config.defaults import ModelDefaults
from hal0.errors import Hal0Error
from hal0.providers.base import NOBODY
from hal0.slots import model_files
from hal0.slots.slot import Slot
from hal0.vocab import FailureClass, Phase
from tests.fakes.engine import FakeEngine, Program
from tests.fakes.provider import FakeHealth
from tests.fakes.world import Running, World
from tests.vloop import EPOCH, LoopClock, virtual_time

JUNK = Program(ready_after_s=None, dies_after_s=0.1, last_words=("cannot load model: junk",))


class Times:
    """When each file has changed, on the story's clock."""

    def __init__(self) -> None:
        self.of: dict[str, float] = {}

    def __call__(self, file: Path) -> float | None:
        return self.of.get(file.stem, EPOCH - 1000) if file.is_file() else None

    def touch(self, model: str) -> None:
        self.of[model] = LoopClock().now()


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Times:
    made = Times()
    monkeypatch.setattr(model_files, "_changed_at", made)
    return made


@pytest.fixture
def world(tmp_path: Path, port_block: range) -> World:
    return World(tmp_path, port_block, FakeEngine())


async def rests(hal0: Running, seconds: float) -> Slot:
    """It has failed for good, and stays so for so long without another try."""
    await hal0.reaches(Phase.ERROR)
    await asyncio.sleep(1)
    fault, made = hal0.primary.failure, len(hal0.world.engine.called("create"))
    assert fault is not None
    assert fault.failure_class is FailureClass.PERMANENT
    await asyncio.sleep(seconds)
    assert hal0.primary.failure == fault
    assert len(hal0.world.engine.called("create")) == made
    return hal0.primary


@asynccontextmanager
async def resting(world: World, seconds: float) -> AsyncIterator[Running]:
    """A model that its engine cannot read, loaded once, and left alone for so long."""
    world.engine.plan(JUNK)
    async with world.hal0() as hal0:
        await hal0.load()
        await rests(hal0, seconds)
        yield hal0


@virtual_time
async def test_a_model_that_was_mended_is_loaded_again(world: World, times: Times) -> None:
    async with resting(world, 600) as hal0:
        times.touch("one")
        await hal0.reaches(Phase.READY, within_s=20)


@virtual_time
async def test_a_model_that_is_still_being_copied_is_not_tried_before_it_is_whole(world: World, times: Times) -> None:
    async with resting(world, 30) as hal0:
        for _ in range(120):
            times.touch("one")
            await asyncio.sleep(1)
        assert hal0.phase() is Phase.ERROR
        assert len(world.engine.called("create")) == 1
        await hal0.reaches(Phase.READY, within_s=20)


@virtual_time
async def test_a_mended_model_that_fails_again_rests_again(world: World, times: Times) -> None:
    world.engine.program = JUNK
    async with world.hal0() as hal0:
        await hal0.load()
        times.touch("one")
        await asyncio.sleep(30)
        await rests(hal0, 600)
        assert len(world.engine.called("create")) == 2


@virtual_time
async def test_an_image_that_comes_is_used(world: World, times: Times) -> None:
    world.images.missing = True
    async with world.hal0() as hal0:
        await hal0.load()
        await rests(hal0, 600)
        world.images.missing = False
        await hal0.reaches(Phase.READY, within_s=15)


@virtual_time
async def test_another_image_under_the_same_name_is_tried(world: World, times: Times) -> None:
    async with resting(world, 600) as hal0:
        world.images.id = "a-new-build"
        await hal0.reaches(Phase.READY, within_s=15)


@virtual_time
async def test_a_device_that_comes_is_used(world: World, times: Times) -> None:
    world.fits.faults["cpu"] = Hal0Error("device.missing", "cannot run on cpu: nothing here computes")
    async with world.hal0(primary={"model": "one", "device": "cpu"}) as hal0:
        await hal0.load()
        await rests(hal0, 600)
        world.fits.faults.clear()
        await hal0.reaches(Phase.READY, within_s=15)


@virtual_time
async def test_other_defaults_of_its_model_are_tried(world: World, times: Times) -> None:
    def say(words: str) -> None:
        world.models.known["one"] = replace(world.models.require("one"), defaults=ModelDefaults(extra_args=words))
        world.models.version += 1

    async with world.hal0() as hal0:
        say("--host ::")
        await hal0.load()
        await rests(hal0, 600)
        say("--mlock")
        await hal0.reaches(Phase.READY, within_s=15)
        assert world.engine.all[0].spec.argv[-1] == "--mlock"
        say("--no-mmap")
        assert await hal0.primary.judge() == "the configuration has changed since it was started"


@virtual_time
async def test_a_new_hal0_knows_since_when_it_rests(world: World, times: Times) -> None:
    async with resting(world, 30):
        pass
    async with world.hal0() as hal0:
        await rests(hal0, 600)
        times.touch("one")
        await hal0.reaches(Phase.READY, within_s=20)


@virtual_time
async def test_what_was_unloaded_meanwhile_stays_so(world: World, times: Times) -> None:
    world.engine.plan(JUNK)
    async with world.hal0() as hal0:
        await hal0.load()
        await hal0.done(await hal0.supervisor.unload("primary"))
        times.touch("one")
        await asyncio.sleep(60)
        assert hal0.phase() is Phase.OFFLINE


@virtual_time
async def test_what_nobody_could_read_is_tried_again_once_somebody_can(
    world: World, times: Times, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No time tells: the file's own do not change with the permissions of a folder around it."""
    monkeypatch.setattr(FakeHealth, "user", NOBODY)
    model = world.models.known["one"].files[0]
    model.chmod(0o200)
    async with world.hal0() as hal0:
        await hal0.load()
        await rests(hal0, 60)
        assert times.of == {}
        model.chmod(0o644)
        await hal0.reaches(Phase.READY, within_s=20)
