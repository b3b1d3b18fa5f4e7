"""Models on a share that hangs: who needs them is told in time, everybody else goes on. With threads, on real time."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hal0.errors import Hal0Error
from hal0.slots import model_files, supervisor
from hal0.wire.jobs import JobState
from tests.fakes.engine import FakeEngine
from tests.fakes.world import World


@pytest.fixture
def answers() -> Iterator[threading.Event]:
    """The share answers from then on, at the latest when the test is over."""
    event = threading.Event()
    yield event
    event.set()


async def test_a_load_is_told_and_a_model_elsewhere_is_loaded(
    tmp_path: Path, port_block: range, monkeypatch: pytest.MonkeyPatch, answers: threading.Event
) -> None:
    changed_at, looks = model_files._changed_at, []

    def hanging(file: Path) -> float | None:
        if file.stem == "one":
            looks.append(file)
            answers.wait(10)
        return changed_at(file)

    monkeypatch.setattr(model_files, "_changed_at", hanging)
    monkeypatch.setattr(model_files, "_LOOK_S", 0.2)
    async with World(tmp_path, port_block, FakeEngine()).hal0(embed={"model": "two"}) as hal0, asyncio.timeout(10):
        for _ in range(2):
            job = await hal0.load()
            assert job.error is not None
            assert job.error["code"] == "slot.deadline"
            assert "does not answer" in job.error["message"]
        monkeypatch.setattr(model_files, "_LOOK_S", 10)
        assert (await hal0.load("embed")).state is JobState.DONE
        assert len(looks) == 1, "what hangs costs one thread"
        answers.set()
        assert (await hal0.load()).state is JobState.DONE


async def test_a_verb_with_an_unknown_model_is_answered(
    tmp_path: Path, port_block: range, monkeypatch: pytest.MonkeyPatch, answers: threading.Event
) -> None:
    monkeypatch.setattr(supervisor, "_SCAN_S", 0.1)
    world = World(tmp_path, port_block, FakeEngine())
    world.models.scan = lambda: answers.wait(10)  # type: ignore[method-assign, assignment]
    async with world.hal0() as hal0, asyncio.timeout(5):
        with pytest.raises(Hal0Error, match="does not answer") as told:
            await hal0.supervisor.load("primary", "never-heard-of")
        assert told.value.code == "slot.deadline"
