"""How far a load is: the mapping as a table, and the way from the engine to view, job and probes on virtual time."""

from pathlib import Path

import pytest

from hal0.slots.loading import Expected, Signs, progress_of
from hal0.vocab import Phase, ProgressSource
from tests.fakes.engine import FakeEngine, Program
from tests.fakes.world import Running, World
from tests.vloop import until, virtual_time

ENGINE, READ, ESTIMATE = ProgressSource.ENGINE, ProgressSource.READ, ProgressSource.ESTIMATE
KNOWN = Expected(size_bytes=1000, total_s=20.0, since=100.0)
NEW = Expected(size_bytes=1000, total_s=None, since=100.0)


@pytest.mark.parametrize(
    ("signs", "expected", "after_s", "fraction", "source"),
    [
        (Signs(), NEW, 5, None, None),
        (Signs(), KNOWN, 5, 0.25, ESTIMATE),
        (Signs(), KNOWN, 500, 0.95, ESTIMATE),  # an estimate is never done
        (Signs(), KNOWN, -3, 0.0, ESTIMATE),  # a clock that was set back
        (Signs(engine=0.0), KNOWN, 5, 0.25, ESTIMATE),  # a beginning is no news
        (Signs(engine=0.4), KNOWN, 5, 0.4, ENGINE),
        (Signs(read_bytes=500), KNOWN, 1, 0.45, READ),
        (Signs(read_bytes=1000), NEW, 5, 0.9, READ),  # reading is not all
        (Signs(read_bytes=9000), NEW, 5, 0.9, READ),
        (Signs(read_bytes=20), KNOWN, 5, 0.25, ESTIMATE),  # it has read itself
        (Signs(engine=0.9, read_bytes=500), NEW, 5, 0.9, ENGINE),
        (Signs(engine=0.1, read_bytes=500), NEW, 5, 0.45, READ),
        (Signs(read_bytes=500), Expected(0, None, 100.0), 5, None, None),
    ],
)
def test_what_is_known_beats_what_is_guessed(
    signs: Signs, expected: Expected, after_s: float, fraction: float | None, source: ProgressSource | None
) -> None:
    progress = progress_of(signs, expected, expected.since + after_s)
    assert (progress.fraction, progress.source) == (fraction, source)


@pytest.fixture
def world(tmp_path: Path, port_block: range) -> World:
    return World(tmp_path, port_block, FakeEngine())


async def shown_during_a_load(hal0: Running) -> list[tuple[ProgressSource | None, float | None]]:
    """Source and fraction of every progress that the slot and its job agreed on."""
    job = await hal0.supervisor.load("primary")
    seen: list[tuple[ProgressSource | None, float | None]] = []
    while not job.ended:
        view = hal0.primary.view()
        if view.state == "warming" and view.progress and view.progress.phase == "loading":
            shown = view.progress.source, view.progress.fraction
            if job.view.progress and job.view.progress.fraction == view.progress.fraction and shown not in seen[-1:]:
                seen.append(shown)
        await hal0.primary.changed()
    return seen


@virtual_time
async def test_the_bytes_that_an_engine_reads_are_shown_as_they_grow(world: World) -> None:
    world.engine.program = Program(ready_after_s=10, reads_bytes_s=100_000, tells_health=False)
    async with world.hal0() as hal0:
        seen = await shown_during_a_load(hal0)
    read = [fraction for source, fraction in seen if source is READ and fraction is not None]
    assert len(read) > 20
    assert read == sorted(read)
    assert 0.0 < read[0] < 0.2
    assert read[-1] > 0.85


@virtual_time
async def test_a_first_load_that_tells_nothing_has_no_number_and_a_later_one_an_estimate(world: World) -> None:
    world.engine.program = Program(ready_after_s=10, tells_health=False)
    async with world.hal0() as hal0:
        assert {source for source, _fraction in await shown_during_a_load(hal0)} <= {None}
        await (await hal0.supervisor.unload("primary")).wait()
        seen = await shown_during_a_load(hal0)
    guessed = [fraction for source, fraction in seen if source is ESTIMATE and fraction is not None]
    assert len(guessed) > 20
    assert guessed == sorted(guessed)
    assert guessed[-1] <= 0.95


@virtual_time
async def test_a_line_of_the_log_is_news_and_brings_the_probes_back_to_their_first_pace(world: World) -> None:
    world.engine.program = Program(ready_after_s=None)
    async with world.hal0() as hal0:
        await hal0.supervisor.load("primary")
        await hal0.reaches(Phase.WARMING)
        container = world.engine.running[0]
        await until(lambda: container.age_s > 30, within_s=60)
        container.say("loading 60%")
        before = hal0.provider.probes
        at = container.age_s
        await until(lambda: (p := hal0.primary.view().progress) is not None and p.source is ENGINE, within_s=1)
        progress = hal0.primary.view().progress
        assert progress is not None
        assert progress.fraction == 0.6
        await until(lambda: container.age_s > at + 0.09, within_s=1, every_s=0.001)
        assert hal0.provider.probes - before >= 3, "three looks in the time of one"
