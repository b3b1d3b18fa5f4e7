"""Why a slot failed is kept: through a success, and through a new hal0."""

import json
from pathlib import Path

import pytest

from hal0.vocab import Phase
from tests.fakes.engine import FakeEngine, Program
from tests.fakes.world import World
from tests.vloop import until, virtual_time


@pytest.fixture
def world(tmp_path: Path, port_block: range) -> World:
    return World(tmp_path, port_block, FakeEngine())


@virtual_time
async def test_a_crash_is_remembered_after_recovery_and_by_the_next_hal0(world: World) -> None:
    file = world.folder / "slots/primary/last-failure.json"
    async with world.hal0() as hal0:
        await hal0.load()
        container = hal0.primary.life.facts.current
        assert container is not None
        world.engine.running[0].say("cannot go on: the sky fell")
        world.engine.running[0].end(139)
        await until(lambda: hal0.primary.life.facts.generation == 2, within_s=5)
        await hal0.reaches(Phase.READY)
        kept = hal0.primary.last_failure
        assert kept is not None
        assert (kept.exit_code, kept.signal, kept.model) == (139, "SIGSEGV", "one")
        assert kept.spec_hash == container.spec_hash
        assert kept.log_tail[-1] == kept.line == "cannot go on: the sky fell"
        assert kept.signal_words == "segmentation fault"
        assert kept.attempt == 1
        assert hal0.primary.view().failure is None
        assert json.loads(file.read_bytes())["exit_code"] == 139
    async with world.hal0() as hal0:
        assert hal0.primary.last_failure == kept


@virtual_time
async def test_a_damaged_memory_is_no_reason_not_to_start(world: World) -> None:
    file = world.folder / "slots/primary/last-failure.json"
    file.parent.mkdir(parents=True)
    file.write_text("{")
    async with world.hal0() as hal0:
        assert hal0.primary.last_failure is None
        await hal0.load()


@virtual_time
async def test_a_container_near_its_limit_when_killed_was_out_of_memory(world: World) -> None:
    world.engine.program = Program(memory_bytes=990_000_000)
    async with world.hal0(primary={"model": "one", "memory_limit": "1GB"}) as hal0:
        await hal0.load()
        await until(lambda: hal0.primary.view().memory_bytes == 990_000_000, within_s=15)
        world.engine.running[0].signal("SIGKILL")
        await until(lambda: hal0.primary.last_failure is not None, within_s=5)
        kept = hal0.primary.last_failure
        assert kept is not None
        assert kept.oom
        assert "990000000" in (kept.evidence or "")


@virtual_time
async def test_when_it_is_tried_again_is_kept_too(world: World) -> None:
    world.engine.program = Program(ready_after_s=None, dies_after_s=0.1)
    async with world.hal0() as hal0:
        await hal0.supervisor.load("primary")
        await until(lambda: hal0.primary.life.facts.attempts.count == 3, within_s=10)
        await hal0.reaches(Phase.ERROR)
        await until(lambda: hal0.primary.failure is not None and hal0.primary.failure.settled, within_s=5)
        await until(lambda: hal0.primary.last_failure and hal0.primary.last_failure.attempt == 3, within_s=5)
        kept = hal0.primary.last_failure
        assert kept is not None
        assert kept.next_attempt_at == hal0.primary.life.facts.retry_at > hal0.tools.clock.now()
