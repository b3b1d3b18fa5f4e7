"""Jobs with a task each: whatever ends the task, and whenever, the job ends too."""

import asyncio
from pathlib import Path

import pytest

from hal0.slots.job_tasks import JobTasks
from hal0.vocab import By
from hal0.wire.jobs import JobKind, JobState
from tests.unit.slots.test_jobs import jobs


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("closing", [False, True])
async def test_a_job_that_is_given_up_ends_whether_it_has_begun_or_not(
    tmp_path: Path, begun: bool, closing: bool
) -> None:
    log = jobs(tmp_path)
    tasks = JobTasks[str](log)
    job = tasks.start("one", log.start(JobKind.MODEL_VERIFY, "one", By.OPERATOR), "wait", asyncio.sleep(60))
    assert tasks.get("one") is job
    if begun:
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        if closing:
            await tasks.aclose()
        else:
            log.cancel(job.view.id)
            await asyncio.sleep(0.05)
    assert job.view.state is (JobState.INTERRUPTED if closing else JobState.CANCELLED)
    assert tasks.get("one") is None
