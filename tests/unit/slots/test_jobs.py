"""The job log: what survives, what is forgotten, how a job ends."""

import asyncio
from pathlib import Path

import pytest

from hal0.errors import Hal0Error
from hal0.events.bus import Bus
from hal0.lib.clock import SteadyClock
from hal0.slots.jobs import KEPT, Jobs
from hal0.vocab import By
from hal0.wire.jobs import JobKind, JobState
from tests.vloop import virtual_time


def jobs(folder: Path) -> Jobs:
    return Jobs(folder / "jobs.json", Bus(list), SteadyClock(asyncio.get_running_loop()))


@virtual_time
async def test_jobs_survive_and_running_ones_were_interrupted(tmp_path: Path) -> None:
    first = jobs(tmp_path)
    done = first.start(JobKind.LOAD, "primary", By.OPERATOR)
    first.finish(done, JobState.FAILED, error=Hal0Error("slot.exited", "it ended"), note="n")
    runs = first.start(JobKind.SWAP, "primary", By.OPERATOR)
    await first.save()
    second = jobs(tmp_path)
    await asyncio.to_thread(second.load)
    assert second.get(done.view.id).view == done.view
    assert second.get(runs.view.id).view.state is JobState.INTERRUPTED
    assert second.get(runs.view.id).view.ended_at is not None
    assert [view.id for view in second.views()] == [runs.view.id, done.view.id], "newest first"
    assert (await second.get(runs.view.id).wait()).state is JobState.INTERRUPTED


@virtual_time
async def test_the_last_200_are_kept_and_none_that_runs_is_forgotten(tmp_path: Path) -> None:
    log = jobs(tmp_path)
    running = log.start(JobKind.LOAD, "primary", By.OPERATOR)
    for _ in range(KEPT + 50):
        log.finish(log.start(JobKind.LOAD, "primary", By.OPERATOR), JobState.DONE)
    assert len(log.views()) <= KEPT + 1
    assert log.get(running.view.id) is running
    assert [event.id for event in log.snapshot_events()] == [running.view.id]


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"items": [{}]}', b'{"items": 3}', b"\xff"])
@virtual_time
async def test_a_damaged_log_is_begun_anew(tmp_path: Path, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "jobs.json").write_bytes(data)
    log = jobs(tmp_path)
    await asyncio.to_thread(log.load)
    assert log.views() == []
    assert "starting a new one" in caplog.text


@virtual_time
async def test_a_job_ends_once(tmp_path: Path) -> None:
    log = jobs(tmp_path)
    job = log.start(JobKind.LOAD, "primary", By.OPERATOR)
    log.finish(job, JobState.DONE)
    ended = job.view
    log.finish(job, JobState.FAILED, error=Hal0Error("slot.exited", "late"))
    log.progress(job, "late", 0.5)
    assert job.view == ended


@virtual_time
async def test_waiters_see_the_end_and_listeners_not_every_byte(tmp_path: Path) -> None:
    log = jobs(tmp_path)
    job = log.start(JobKind.LOAD, "primary", By.OPERATOR)
    waiter = asyncio.create_task(job.wait())
    before = log._bus.last_seq
    for percent in range(100):
        log.progress(job, "pulling", percent / 100)
        await asyncio.sleep(0.01)
    assert log._bus.last_seq - before <= 6
    assert job.view.progress is not None
    assert job.view.progress.fraction == 0.99
    log.finish(job, JobState.DONE)
    assert (await waiter).state is JobState.DONE


@virtual_time
async def test_cancel_asks_and_what_must_finish_says_so(tmp_path: Path) -> None:
    log = jobs(tmp_path)
    job = log.start(JobKind.UNLOAD, "primary", By.OPERATOR)
    with pytest.raises(Hal0Error) as refused:
        log.cancel(job.view.id)
    assert refused.value.code == "slot.illegal_transition"
    asked: list[bool] = []
    job.on_cancel = lambda: asked.append(True)
    log.cancel(job.view.id)
    log.finish(job, JobState.DONE)
    log.cancel(job.view.id)
    assert asked == [True], "an ended job is not asked again"
    with pytest.raises(Hal0Error) as unknown:
        log.cancel("job_unknown")
    assert unknown.value.code == "job.not_found"


@virtual_time
async def test_the_log_is_written_at_most_once_a_second_and_stops_nothing(tmp_path: Path) -> None:
    log = jobs(tmp_path / "absent")
    saving = asyncio.create_task(log.keep_saving())
    log.start(JobKind.LOAD, "primary", By.OPERATOR)
    await asyncio.sleep(0.5)
    (tmp_path / "absent").mkdir()
    log.start(JobKind.LOAD, "primary", By.OPERATOR)
    await asyncio.sleep(2)
    saving.cancel()
    await asyncio.wait([saving])
    again = jobs(tmp_path / "absent")
    await asyncio.to_thread(again.load)
    assert len(again.views()) == 2
