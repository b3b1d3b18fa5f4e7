"""`/api/jobs`: long-running work, to look at, to wait for, to give up."""

import asyncio
from typing import Final

from aiohttp import web

from hal0.api.exchange import answer, flag, number
from hal0.services import SERVICES
from hal0.slots.jobs import Job
from hal0.wire.jobs import JobsView

_WAIT_S: Final = 600.0
_LONGEST_WAIT_S: Final = 3600.0
_LETTING_GO_S: Final = 2.0


async def list_jobs(request: web.Request) -> web.Response:
    return answer(JobsView(items=request.app[SERVICES].jobs.views()))


async def get_job(request: web.Request) -> web.Response:
    """With `?wait=true` once it has ended, or after `timeout_s`."""
    job = request.app[SERVICES].jobs.get(request.match_info["id"])
    if flag(request, "wait"):
        await _ended(job, number(request, "timeout_s", _WAIT_S, most=_LONGEST_WAIT_S))
    return answer(job.view)


async def cancel_job(request: web.Request) -> web.Response:
    """The job as it is when it has ended; one that takes longer to let go is shown as it is."""
    job = request.app[SERVICES].jobs.cancel(request.match_info["id"])
    await _ended(job, _LETTING_GO_S)
    return answer(job.view)


def waiting(request: web.Request) -> float | None:
    """How long this request wants to wait for its job; None: not at all. Checked before the work begins."""
    timeout_s = number(request, "timeout_s", _WAIT_S, most=_LONGEST_WAIT_S)
    return timeout_s if flag(request, "wait") else None


async def started(job: Job, wait_s: float | None) -> web.Response:
    """202 with the job under way, or, for a caller that waits, 200 with the job that has ended, however it did.

    The work never depends on the caller's patience.
    """
    if wait_s is not None:
        await _ended(job, wait_s)
    return answer(job.view, status=200 if wait_s is not None and job.ended else 202)


async def _ended(job: Job, wait_s: float) -> None:
    try:
        async with asyncio.timeout(wait_s):
            await job.wait()
    except TimeoutError:
        return
