"""One pull as it stands: its download, its job, what works on it, who wants it."""

import asyncio
from dataclasses import dataclass

from hal0.pulls.download import Download
from hal0.slots.jobs import Job
from hal0.wire.pulls import PullFileView, PullState, PullView


@dataclass(slots=True)
class Pull:
    download: Download
    job: Job
    task: asyncio.Task[None] | None = None
    ending: PullState | None = None  # what its cancellation means: PAUSED, or None for given up
    at_work: bool = False  # a task that has not begun can be cancelled, but not come to its end
    closing: bool = False
    wanted: int = 0  # so many of this process wait for it, since it runs


def view_of(pull: Pull) -> PullView:
    plan = pull.download.plan
    return PullView(
        id=plan.id,
        model=plan.model,
        state=plan.state,
        source=plan.source,
        license=plan.license,
        files=[PullFileView(name=it.name, size_bytes=it.size_bytes, sha256=it.sha256) for it in plan.files],
        pace=pull.download.pace(),
        message=pull.download.message if plan.state in (PullState.QUEUED, PullState.RUNNING) else "",
        error=plan.error,
        started_at=plan.started_at,
    )
