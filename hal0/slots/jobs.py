"""Jobs: the long work an operator asked for, with an id to follow it by. The last 200 survive a restart."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from hal0.errors import Hal0Error
from hal0.events.bus import Bus, Event, Topic
from hal0.lib import jsonio
from hal0.lib.aio import Signal
from hal0.lib.atomic import write_atomic
from hal0.lib.clock import Clock
from hal0.vocab import By, ProgressSource
from hal0.wire.jobs import JobKind, JobPace, JobProgress, JobState, JobView

log = logging.getLogger(__name__)

KEPT: Final = 200
SCHEMA: Final = 1
ENDED: Final = frozenset(
    {JobState.DONE, JobState.FAILED, JobState.CANCELLED, JobState.SUPERSEDED, JobState.INTERRUPTED}
)
# Progress is published at most this often: a pull reports thousands of times.
_PROGRESS_EVERY_S: Final = 0.2


class Job:
    """One piece of work. Changed only through `Jobs`."""

    def __init__(self, view: JobView) -> None:
        self.view = view
        self.changed = Signal()
        self.on_cancel: Callable[[], None] | None = None
        self.last_progress = 0.0

    @property
    def ended(self) -> bool:
        return self.view.state in ENDED

    @property
    def error(self) -> Hal0Error | None:
        """What it has failed with, for whoever waits for it."""
        if (told := self.view.error) is None:
            return None
        return Hal0Error(told["code"], told["message"], details=told["details"], hint=told["hint"])

    async def wait(self) -> JobView:
        """Return when it has ended, however it did."""
        while not self.ended:
            await self.changed.wait()
        return self.view


class Jobs:
    """All jobs. Saving is best effort: a job log that cannot be written stops nothing."""

    def __init__(self, file: Path, bus: Bus, clock: Clock) -> None:
        self._file = file
        self._bus = bus
        self._clock = clock
        self._jobs: dict[str, Job] = {}
        self._dirty = asyncio.Event()

    def load(self) -> None:
        """Read what an earlier process left; what ran then was interrupted. Blocking, at boot."""
        try:
            raw: Any = jsonio.loads(self._file.read_bytes())
            views = [JobView.model_validate(item) for item in raw["items"]]
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError) as err:
            log.warning("the job log %s cannot be read (%s); starting a new one", self._file, err)
            return
        for view in views:
            over = {"state": JobState.INTERRUPTED, "ended_at": self._clock.now()}
            known = view if view.state in ENDED else view.model_copy(update=over)
            self._jobs[known.id] = Job(known)

    def start(self, kind: JobKind, target: str, by: By) -> Job:
        return self.resume(f"job_{secrets.token_hex(6)}", kind, target, by, self._clock.now())

    def resume(self, job_id: str, kind: JobKind, target: str, by: By, started_at: float) -> Job:
        """Go on with what a pause, a failure or the end of an earlier process ended: the same job, under its old id."""
        if job_id in self._jobs and not self._jobs[job_id].ended:
            return self._jobs[job_id]
        self._jobs.pop(job_id, None)
        view = JobView(
            id=job_id,
            kind=kind,
            target=target,
            state=JobState.RUNNING,
            progress=None,
            error=None,
            note=None,
            by=by,
            started_at=started_at,
            ended_at=None,
        )
        job = Job(view)
        self._jobs[view.id] = job
        self._forget_old()
        self._announce(job)
        return job

    def progress(
        self,
        job: Job,
        message: str,
        fraction: float | None,
        source: ProgressSource | None = None,
        pace: JobPace | None = None,
    ) -> None:
        """Report progress; repeated reports are thinned out."""
        progress = JobProgress(fraction=fraction, message=message, source=source, pace=pace)
        now = self._clock.now()
        if job.ended or progress == job.view.progress:
            return
        job.view = job.view.model_copy(update={"progress": progress})
        if now - job.last_progress >= _PROGRESS_EVERY_S:
            job.last_progress = now
            self._announce(job)

    def finish(self, job: Job, state: JobState, *, error: Hal0Error | None = None, note: str | None = None) -> None:
        """End a job; ending it twice changes nothing."""
        if job.ended:
            return
        job.view = job.view.model_copy(
            update={
                "state": state,
                "error": error.body()["error"] if error else None,
                "note": note,
                "ended_at": self._clock.now(),
            }
        )
        self._announce(job)

    @contextlib.contextmanager
    def ending(self, job: Job, doing: str, closing: Callable[[], bool]) -> Iterator[None]:
        """Around the work of a task of its own: however it ends, the job ends so. `doing` is for "cannot ..."; while
        `closing`, who is cancelled was interrupted. Only cancellation is raised."""
        try:
            yield
        except asyncio.CancelledError:
            self.finish(job, JobState.INTERRUPTED if closing() else JobState.CANCELLED)
            raise
        except Hal0Error as err:
            self.finish(job, JobState.FAILED, error=err)
        except Exception:  # the outermost line of a task: a job has to end, whatever happened
            log.exception("job %s failed", job.view.id)
            error = Hal0Error("system.internal", f"cannot {doing}: hal0 made a mistake")
            self.finish(job, JobState.FAILED, error=error)
        else:
            self.finish(job, JobState.DONE)

    def get(self, job_id: str) -> Job:
        """Raises job.not_found."""
        job = self._jobs.get(job_id)
        if job is None:
            raise Hal0Error("job.not_found", f"cannot find job {job_id}")
        return job

    def cancel(self, job_id: str) -> Job:
        """Ask a job to end early; one that cannot says so."""
        job = self.get(job_id)
        if not job.ended:
            if job.on_cancel is None:
                raise Hal0Error("slot.illegal_transition", f"cannot cancel job {job_id}: {job.view.kind} must finish")
            job.on_cancel()
        return job

    def views(self) -> list[JobView]:
        """Newest first."""
        return [job.view for job in reversed(self._jobs.values())]

    def snapshot_events(self) -> list[Event]:
        """Every running job, for new listeners; ended ones are asked for when needed."""
        running = [job.view for job in self._jobs.values() if not job.ended]
        return [Event(Topic.JOB, view.id, view.model_dump(mode="json")) for view in running]

    async def keep_saving(self) -> None:
        """Write the log whenever something has changed; runs for ever."""
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            await self.save()
            await asyncio.sleep(1.0)  # at most one write a second

    async def save(self) -> None:
        items = [job.view.model_dump(mode="json") for job in self._jobs.values()]
        data = jsonio.dumps({"schema": SCHEMA, "items": items})
        try:
            await asyncio.to_thread(write_atomic, self._file, data)
        except OSError as err:
            log.warning("cannot write the job log %s: %s", self._file, err)

    def _announce(self, job: Job) -> None:
        job.changed.notify()
        self._bus.publish(Topic.JOB, job.view.id, job.view.model_dump(mode="json"))
        self._dirty.set()

    def _forget_old(self) -> None:
        ended = [job_id for job_id, job in self._jobs.items() if job.ended]
        for job_id in ended[: max(len(self._jobs) - KEPT, 0)]:
            del self._jobs[job_id]
