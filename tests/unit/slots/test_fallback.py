"""Fallbacks: which one follows as a table, and how they are taken, kept, shown and left on virtual time."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hal0.config.defaults import ModelDefaults
from hal0.config.profiles import ProfileConfig, laid_over
from hal0.config.slots import SlotConfig
from hal0.errors import Hal0Error
from hal0.slots import failure as failures
from hal0.slots.fallback import Fitting, following, left_by, words
from hal0.slots.record import Failure, Fallback
from hal0.vocab import Device, Phase
from hal0.wire.jobs import JobState
from tests.fakes.engine import FakeEngine, Program
from tests.fakes.world import World
from tests.unit.slots.lives import NOW, PERMANENT, TRANSIENT
from tests.unit.slots.rough import AWAY
from tests.vloop import until, virtual_time

FIRST = Fallback(1, "it ended", NOW)
LAST = Fallback(2, "it ended", NOW)
CANNOT = Program(ready_after_s=None, dies_after_s=0.1, last_words=("not enough memory for the context",))
JUNK = Program(ready_after_s=None, dies_after_s=0.1, last_words=("cannot load model: junk",))
TABLE = {"model": "one", "fallbacks": [{"context_size": 2048}, {"device": "cpu", "context_size": 1024}]}


def of_error(code: str) -> Failure:
    return failures.of_error(Hal0Error(code, "cannot"), NOW)


@pytest.mark.parametrize(
    ("active", "failed", "failure", "total", "then"),
    [
        (None, 1, TRANSIENT, 2, None),  # once may be chance
        (None, 2, TRANSIENT, 2, 1),
        (None, 1, PERMANENT, 2, 1),  # the same start would fail the same way
        (FIRST, 1, TRANSIENT, 2, 2),
        (FIRST, 1, PERMANENT, 2, 2),
        (LAST, 1, TRANSIENT, 2, None),  # the last one stays
        (LAST, 1, PERMANENT, 2, None),
        (None, 9, TRANSIENT, 0, None),
        (None, 9, replace(PERMANENT, curable=False), 2, None),
        (None, 1, of_error("slot.memory_budget"), 2, 1),
        (None, 1, of_error("image.missing"), 2, 1),
        (None, 1, of_error("device.permission"), 2, 1),
        (None, 9, of_error("model.not_downloaded"), 2, None),
        (None, 9, of_error("model.not_found"), 2, None),
        (None, 9, of_error("slot.no_free_port"), 2, None),
        (None, 9, of_error("state.write_failed"), 2, None),
        (None, 9, of_error("system.internal"), 2, None),
        (None, 9, failures.of_error(AWAY, NOW), 2, None),
        (None, 2, failures.of_deadline(Phase.WARMING, 180, NOW), 2, 1),
        (None, 9, failures.vanished(NOW), 2, None),
    ],
)
def test_what_follows_a_failed_start(
    active: Fallback | None, failed: int, failure: Failure, total: int, then: int | None
) -> None:
    assert following(active, failed, failure, total) == then


def test_a_fallback_replaces_the_fields_that_it_names_and_nothing_else() -> None:
    fitting = Fitting(SlotConfig.model_validate({**TABLE, "context_size": 8192, "parallel": 2}))
    assert fitting.to(None, "one", None) is fitting.own
    fitted = fitting.to(LAST, "one", None)
    assert (fitted.context_size, fitted.device, fitted.parallel) == (1024, Device.CPU, 2)
    assert fitting.to(LAST, "one", None) is fitted
    assert fitting.to(Fallback(3, "a file that was edited meanwhile", NOW), "one", None) == fitting.own
    assert words(fitting.own, LAST) == "fallback 2 of 2 (device cpu, context_size 1024)"
    assert words(fitting.own, None) is None


def test_a_models_defaults_stand_below_the_slot_and_its_profile_and_a_fallback_above_them() -> None:
    defaults = ModelDefaults(
        context_size=512, parallel=8, extra_args=["--mlock"], request_defaults={"top_k": 1, "n": 1}
    )
    slot = SlotConfig.model_validate({**TABLE, "parallel": 2, "request_defaults": {"n": 2}})
    profile = ProfileConfig(parallel=4, extra_args=["-fa", "on"], request_defaults={"top_k": 3, "n": 3})
    fitting = Fitting(laid_over(slot, profile))
    bare = fitting.to(None, "one", defaults)
    assert (bare.context_size, bare.parallel, bare.extra_args) == (512, 2, ("--mlock", "-fa", "on"))
    assert bare.request_defaults == {"top_k": 3, "n": 2}
    assert fitting.to(FIRST, "one", defaults).context_size == 2048
    assert fitting.to(None, "one", defaults) == bare
    assert fitting.to(None, "two", None) is fitting.own


@pytest.mark.parametrize(
    ("change", "leaves"),
    [
        ({"context_size": 512}, True),
        ({"extra_args": ["--mlock"]}, True),
        ({"fallbacks": []}, True),
        ({"aliases": ["x"]}, False),
        ({"priority": 1}, False),
    ],
)
def test_only_a_change_of_the_start_gives_the_slots_own_fields_another_try(
    change: dict[str, Any], leaves: bool
) -> None:
    assert left_by(SlotConfig.model_validate(TABLE), SlotConfig.model_validate({**TABLE, **change})) is leaves


@pytest.fixture
def world(tmp_path: Path, port_block: range) -> World:
    return World(tmp_path, port_block, FakeEngine())


@virtual_time
async def test_two_failed_starts_bring_the_first_fallback_and_everybody_is_told(world: World) -> None:
    world.engine.plan(CANNOT, CANNOT)
    async with world.hal0(primary=TABLE) as hal0:
        job = await hal0.load()
        assert job.state is JobState.DONE
        assert job.note == "started by fallback 1 of 2 (context_size 2048)"
        view = hal0.primary.view()
        assert view.fallback is not None
        assert (view.fallback.number, view.fallback.of) == (1, 2)
        assert "not enough memory" in view.fallback.why
        assert view.context_size == 2048
        assert any("fallback 1 of 2" in note for note in view.notes)
        assert await hal0.primary.judge() is None, "what runs is what would be started"
    async with world.hal0(primary=TABLE) as hal0:  # the record knows it
        assert hal0.phase() is Phase.READY
        assert hal0.primary.view().fallback == view.fallback


@virtual_time
async def test_each_fallback_that_fails_gives_way_and_the_last_is_tried_again(world: World) -> None:
    world.engine.plan(CANNOT, CANNOT, CANNOT, CANNOT)
    async with world.hal0(primary=TABLE) as hal0:
        job = await hal0.load()
        assert job.state is JobState.FAILED, "nothing is left to try at once"
        await hal0.reaches(Phase.READY)
        assert hal0.primary.view().context_size == 1024
        assert len(world.engine.called("create")) == 5


@virtual_time
async def test_a_permanent_failure_moves_on_at_once_and_rests_after_the_last(world: World) -> None:
    world.images.missing = True
    async with world.hal0(primary=TABLE) as hal0:
        job = await hal0.load()
        assert job.error is not None
        assert job.error["code"] == "image.missing"
        assert hal0.phase() is Phase.ERROR
        assert hal0.primary.view().fallback is not None
        assert hal0.primary.snapshot().next_attempt_at is None
        world.images.missing = False
        assert (await hal0.load()).state is JobState.DONE
        assert hal0.primary.view().fallback is None, "a verb tries what is configured"


@virtual_time
async def test_a_wrong_model_is_not_tried_with_fallbacks(world: World) -> None:
    world.engine.program = JUNK
    async with world.hal0(primary=TABLE) as hal0:
        assert (await hal0.load()).state is JobState.FAILED
        assert hal0.primary.view().fallback is None
        assert len(world.engine.called("create")) == 1


@virtual_time
async def test_crashes_of_what_had_been_ready_are_no_failed_starts(world: World) -> None:
    async with world.hal0(primary=TABLE) as hal0:
        await hal0.load()
        for generation in (2, 3, 4):
            world.engine.running[0].end(139)
            await until(
                lambda g=generation: hal0.primary.life.facts.generation == g and hal0.phase() is Phase.READY,  # type: ignore[misc]
                within_s=20,
            )
        assert hal0.primary.view().fallback is None


@virtual_time
async def test_a_fallback_survives_idleness_and_ends_with_a_restart(world: World) -> None:
    world.engine.plan(CANNOT, CANNOT)
    async with world.hal0(primary={**TABLE, "unload_after_s": 30}) as hal0:
        await hal0.load()
        await hal0.reaches(Phase.OFFLINE, within_s=60)
        hal0.primary.request_load()
        await hal0.reaches(Phase.READY)
        assert hal0.primary.view().context_size == 2048
        await (await hal0.supervisor.restart("primary")).wait()
        assert hal0.primary.view().fallback is None
        assert hal0.primary.view().context_size == 4096


@virtual_time
async def test_a_changed_start_ends_a_fallback_and_another_alias_does_not(world: World) -> None:
    world.engine.plan(CANNOT, CANNOT)
    async with world.hal0(primary=TABLE) as hal0:
        await hal0.load()
        await hal0.supervisor.apply(world.config(primary={**TABLE, "aliases": ["x"]}))
        assert hal0.primary.view().fallback is not None
        assert len(world.engine.running) == 1
        await hal0.supervisor.apply(world.config(primary={**TABLE, "extra_args": ["--mlock"]}))
        await until(lambda: hal0.primary.life.facts.generation == 4 and hal0.phase() is Phase.READY, within_s=60)
        assert hal0.primary.view().fallback is None


@virtual_time
async def test_a_new_model_that_fails_goes_back_and_tries_no_fallback(world: World) -> None:
    async with world.hal0(primary=TABLE) as hal0:
        await hal0.load()
        world.engine.plan(CANNOT)
        job = await (await hal0.supervisor.swap("primary", "two")).wait()
        assert job.state is JobState.FAILED
        assert hal0.primary.snapshot().model == "one"
        assert hal0.primary.view().fallback is None


# -- a change of model: a fallback belongs to the model that does not start as configured --


@pytest.mark.parametrize("end", ["fails", "cancelled", "killed", "swapped back"])
def test_who_never_stopped_serving_is_still_on_its_fallback_after_an_overlap_and_says_so(
    world: World, end: str
) -> None:
    @virtual_time
    async def story() -> None:
        world.slots = {"primary": {**TABLE, "swap": "overlap"}}
        world.engine.plan(CANNOT, CANNOT)
        async with world.hal0() as hal0:
            await hal0.load()
            served = hal0.primary.life.facts.current
            world.engine.plan(CANNOT if end == "fails" else Program(ready_after_s=5))
            job = await hal0.supervisor.swap("primary", "two")
            await until(lambda: hal0.primary.life.facts.next_launched, within_s=5)
            assert world.engine.running[-1].spec.argv != world.engine.running[0].spec.argv
            assert hal0.primary.view().context_size == 2048, "the one that serves has it still"
            if end == "cancelled":
                hal0.tools.jobs.cancel(job.view.id)
            elif end == "swapped back":
                await hal0.supervisor.swap("primary", "one")
            elif end == "killed":
                world.engine.running[-1].end(1)
            if end != "killed":
                await until(lambda: job.ended and hal0.primary.life.facts.swap is None, within_s=30)
                await asyncio.sleep(1)  # it is on disk as well
        async with world.hal0() as hal0:
            await until(lambda: hal0.phase() is Phase.READY and hal0.primary.life.facts.swap is None, within_s=30)
            view = hal0.primary.view()
            assert hal0.primary.life.facts.current is not None
            assert served is not None
            assert hal0.primary.life.facts.current.name == served.name
            assert view.fallback is not None
            assert (view.fallback.number, view.context_size) == (1, 2048)
            assert any("started by fallback 1 of 2" in note for note in view.notes)
            await hal0.primary.judge()
            await asyncio.sleep(0.1)
            assert hal0.primary.view().stale is None

    story()


@pytest.mark.parametrize("mode", ["replace", "overlap"])
def test_the_model_that_takes_its_place_begins_as_configured(world: World, mode: str) -> None:
    @virtual_time
    async def story() -> None:
        world.engine.plan(CANNOT, CANNOT)
        async with world.hal0(primary={**TABLE, "swap": mode}) as hal0:
            await hal0.load()
            assert (await (await hal0.supervisor.swap("primary", "two")).wait()).state is JobState.DONE
            assert hal0.primary.view().fallback is None
            assert hal0.primary.view().context_size == 4096
            assert (await (await hal0.supervisor.swap("primary", "one")).wait()).state is JobState.DONE
            assert hal0.primary.view().fallback is None, "long ago: what is configured gets its own try"

    story()


@virtual_time
async def test_the_way_back_is_the_start_that_worked(world: World) -> None:
    world.engine.plan(CANNOT, CANNOT)
    async with world.hal0(primary=TABLE) as hal0:
        await hal0.load()
        world.engine.plan(CANNOT)
        job = await (await hal0.supervisor.swap("primary", "two")).wait()
        assert job.state is JobState.FAILED
        view = hal0.primary.view()
        assert (view.model, view.context_size, view.containers[0].generation) == ("one", 2048, 5)
        assert view.fallback is not None
