"""One pull as it stands: its download, its job, what works on it, who wants it."""

import asyncio
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from hal0.pulls.download import Download
from hal0.pulls.plan import PlannedFile
from hal0.pulls.planning import Draft
from hal0.slots.jobs import Job
from hal0.wire.pulls import PullFileView, PullState, PullView

_STILL: Final = frozenset({PullState.PAUSED, PullState.FAILED})


@dataclass(slots=True)
class Pull:
    download: Download
    job: Job
    task: asyncio.Task[None] | None = None
    ending: PullState | None = None  # what its cancellation means: PAUSED, or None for given up
    at_work: bool = False  # a task that has not begun can be cancelled, but not come to its end
    closing: bool = False
    wanted: int = 0  # so many of this process wait for it, since it runs

    @property
    def under_way(self) -> bool:
        return self.task is not None and not self.task.done()

    def bars(self, draft: Draft, *, link: bool) -> bool:
        """Whether it stands still, and would go on with the same model from elsewhere."""
        plan = self.download.plan
        if plan.model != draft.model or plan.state not in _STILL or self.under_way:
            return False
        return plan.link != link or [*map(_place, plan.files)] != [*map(_place, draft.files)]


def _place(file: PlannedFile) -> tuple[object, ...]:
    """The same for a file of a repository that has got another revision, and has not changed."""
    kept = file.repo is not None and file.sha256 is not None
    return file.name, file.sha256, (urlsplit(file.url).netloc, file.repo) if kept else file.url


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
