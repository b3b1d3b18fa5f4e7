"""A container that differs from what would be started now: shown, never stopped for it, replaced when asked."""

import asyncio
from pathlib import Path

import pytest

from hal0.config.root import RootConfig
from hal0.slots.lookout import TICK_S
from hal0.vocab import Phase
from hal0.wire.jobs import JobState
from tests.fakes.engine import FakeEngine, StalledEngine
from tests.fakes.world import World
from tests.vloop import until, virtual_time


@pytest.fixture
def world(tmp_path: Path, port_block: range) -> World:
    return World(tmp_path, port_block, FakeEngine())


@virtual_time
async def test_a_newer_image_makes_it_stale_and_stops_nothing(world: World) -> None:
    async with world.hal0() as hal0:
        await hal0.load()
        assert hal0.primary.view().stale is None
        world.images.id = "2" * 64
        await until(lambda: hal0.primary.view().stale is not None, within_s=90)
        assert "image" in (hal0.primary.view().stale or "")
        assert hal0.phase() is Phase.READY
        assert len(world.engine.called("create")) == 1
        world.images.id = None
        await asyncio.sleep(90)
        assert hal0.primary.view().stale is None, "without an image nobody can tell"


@virtual_time
async def test_a_new_hal0_adopts_a_stale_container_and_says_so(world: World) -> None:
    async with world.hal0() as hal0:
        await hal0.load()
    async with world.hal0(primary={"model": "one", "env": {"MORE": "1"}}) as hal0:
        assert hal0.phase() is Phase.READY
        await until(lambda: hal0.primary.view().stale is not None, within_s=5)
        assert "configuration" in (hal0.primary.view().stale or "")
        assert len(world.engine.called("create")) == 1
        assert (await hal0.done(await hal0.supervisor.restart("primary"))).state is JobState.DONE
        assert hal0.primary.view().stale is None


@virtual_time
async def test_a_saved_change_replaces_only_what_it_changes(world: World) -> None:
    slots = {"primary": {"model": "one"}, "embed": {"model": "two"}}
    async with world.hal0(**slots) as hal0:
        await hal0.load()
        await hal0.load("embed")
        calm = {**slots, "primary": {"model": "one", "idle_timeout_s": 30}}
        await hal0.supervisor.apply(RootConfig.model_validate({"slots": calm}))
        await asyncio.sleep(5)
        assert len(world.engine.called("create")) == 2
        changed = {**calm, "primary": {"model": "one", "env": {"MORE": "1"}}}
        await hal0.supervisor.apply(RootConfig.model_validate({"slots": changed}))
        await until(lambda: hal0.primary.life.facts.generation == 2, within_s=10)
        await hal0.reaches(Phase.READY)
        assert hal0.supervisor.slot("embed").life.facts.generation == 1


@virtual_time
async def test_an_unload_may_bring_its_own_drain_time(world: World) -> None:
    async with world.hal0() as hal0:
        await hal0.load()
        ended: list[str] = []
        with hal0.primary.serving() as request:
            request.on_abort(lambda error: ended.append(error.code))
            began = hal0.tools.clock.now()
            await hal0.supervisor.unload("primary", drain_s=3)
            await until(lambda: bool(ended), within_s=10)
            assert 3 <= hal0.tools.clock.now() - began < 4
        await hal0.reaches(Phase.OFFLINE)
        assert ended == ["slot.draining"]


@virtual_time
async def test_a_change_saved_while_podman_is_silent_is_made_when_it_speaks(tmp_path: Path, port_block: range) -> None:
    engine = StalledEngine()
    world = World(tmp_path, port_block, engine)
    async with world.hal0() as hal0:
        await hal0.load()
    engine.stall("containers")
    async with world.hal0() as hal0:
        assert hal0.primary.snapshot().routable, "it serves on its record's word"
        changed = world.config(primary={"model": "one", "env": {"MORE": "1"}})
        await hal0.supervisor.apply(changed)
        await asyncio.sleep(10)
        assert hal0.primary.snapshot().routable
        engine.release()
        await until(lambda: hal0.primary.life.facts.generation == 2, within_s=10)
        await hal0.reaches(Phase.READY)


@virtual_time
async def test_a_slot_taken_out_while_others_are_still_placed_comes_to_no_life(
    tmp_path: Path, port_block: range
) -> None:
    engine = StalledEngine()
    world = World(tmp_path, port_block, engine)
    async with world.hal0(spare={}) as hal0:
        await hal0.load()
    engine.stall("containers")
    engine.running[0].change(hangs=True)  # it is asked for longer than the other slot needs
    async with world.hal0(spare={}) as hal0:
        await hal0.supervisor.apply(world.config())
        await asyncio.sleep(TICK_S - 0.5)  # just before it is tried again to take it out
        engine.release()
        await until(lambda: hal0.supervisor.get("spare") is None, within_s=20)
        await asyncio.sleep(10)
        assert "supervisor-spare" not in {task.get_name() for task in asyncio.all_tasks()}
