"""`verify_on_load`: an engine that is healthy and cannot work never becomes ready, and is asked once."""

import asyncio
from pathlib import Path

import pytest
from aiohttp import ClientSession

from hal0.providers.base import Endpoint, Trial
from hal0.vocab import Phase
from hal0.wire.jobs import JobState
from tests.fakes.engine import FakeEngine, Program
from tests.fakes.world import World
from tests.vloop import until, virtual_time

VERIFIED = {"model": "one", "verify_on_load": True}


@pytest.fixture
def world(tmp_path: Path, port_block: range) -> World:
    return World(tmp_path, port_block, FakeEngine())


@virtual_time
async def test_a_slot_that_works_is_tried_once_and_then_ready(world: World) -> None:
    async with world.hal0(primary=VERIFIED) as hal0:
        assert (await hal0.load()).state is JobState.DONE
        assert hal0.provider.trials == 1


@virtual_time
async def test_without_the_setting_nothing_is_asked(world: World) -> None:
    async with world.hal0() as hal0:
        assert (await hal0.load()).state is JobState.DONE
        assert hal0.provider.trials == 0


@pytest.mark.parametrize(
    ("program", "words"),
    [(Program(unable="/v1/completions answers 500"), "answers 500"), (Program(unable="it says nothing"), "nothing")],
)
def test_an_engine_that_cannot_work_fails_its_load_with_a_reason(world: World, program: Program, words: str) -> None:
    @virtual_time
    async def story() -> None:
        world.engine.program = program
        async with world.hal0(primary=VERIFIED) as hal0:
            job = await hal0.load()
            assert job.state is JobState.FAILED
            assert job.error is not None
            assert job.error["code"] == "slot.load_failed"
            assert words in job.error["message"]
            assert hal0.provider.trials == len(world.engine.called("start")), "once for each start, never in a loop"
            world.engine.program = Program()
            await hal0.reaches(Phase.READY)

    story()


@virtual_time
async def test_a_trial_has_a_deadline_of_its_own(world: World) -> None:
    world.engine.program = Program(hangs_at_work=True)
    async with world.hal0(primary=VERIFIED) as hal0:
        job = await hal0.supervisor.load("primary")
        await hal0.reaches(Phase.WARMING)
        assert not hal0.primary.snapshot().routable
        await hal0.reaches(Phase.UNLOADING, within_s=70)
        world.engine.program = Program()
        await job.wait()
        kept = hal0.primary.last_failure
        assert kept is not None
        assert "no answer within 60 s" in kept.message


@virtual_time
async def test_an_engine_that_dies_of_its_first_work_is_a_death_with_its_exit_code(world: World) -> None:
    world.engine.plan(Program(dies_of_work=139))
    async with world.hal0(primary=VERIFIED) as hal0:
        assert (await hal0.load()).state is JobState.DONE
        kept = hal0.primary.last_failure
        assert kept is not None
        assert kept.exit_code == 139


@pytest.mark.parametrize("mode", ["replace", "overlap"])
def test_a_kill_amid_the_trial_spares_nobody_the_trial(world: World, mode: str) -> None:
    """Else the next hal0 would take an engine for ready that is healthy and cannot work."""
    table = {**VERIFIED, "swap": mode}

    @virtual_time
    async def story() -> None:
        async with world.hal0(primary=table) as hal0:
            assert (await hal0.load()).state is JobState.DONE
            world.engine.program = Program(hangs_at_work=True)
            await hal0.supervisor.swap("primary", "two")
            await until(lambda: hal0.provider.trials == 2, within_s=30)
            await asyncio.sleep(1)
        world.engine.program = Program()
        async with world.hal0(primary=table) as hal0:
            await until(lambda: hal0.provider.trials == 1, within_s=30)
            assert hal0.primary.snapshot().model == ("one" if mode == "overlap" else "two")
            assert hal0.primary.snapshot().routable is (mode == "overlap")
            await until(lambda: hal0.primary.life.facts.swap is None, within_s=200)
            await hal0.reaches(Phase.READY)
            assert hal0.primary.snapshot().model == "one", "it could not work: the old model comes back"

    story()


@virtual_time
async def test_an_answer_that_nobody_has_thought_of_fails_the_load_and_is_not_asked_for_again(world: World) -> None:
    async with world.hal0(primary=VERIFIED) as hal0:
        asked = []

        async def verify(endpoint: Endpoint, trial: Trial, session: ClientSession) -> str | None:
            asked.append(trial.model)
            raise AttributeError("no such thing")

        hal0.provider.verify = verify  # type: ignore[method-assign]
        async with asyncio.timeout(10):
            job = await hal0.load()
        assert job.state is JobState.FAILED
        assert job.error is not None
        assert "AttributeError" in job.error["message"]
        assert len(asked) == len(world.engine.called("start"))
