"""Pulls as the rest of hal0 knows them: started, listed, paused, resumed, given up; they outlive the process."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from hal0.config.models import ModelsConfig
from hal0.errors import Hal0Error
from hal0.lib.aio import cancelled, settled
from hal0.lib.clock import Clock
from hal0.models.registry import Registry
from hal0.outbound.client import Outside
from hal0.pulls.asking import Asker
from hal0.pulls.download import Download
from hal0.pulls.looking import Looking
from hal0.pulls.meter import Throttle
from hal0.pulls.plan import Plan, plans
from hal0.pulls.pull import Pull, view_of
from hal0.pulls.transfer import Transfer
from hal0.pulls.verifying import Verifying
from hal0.slots.jobs import Job, Jobs
from hal0.vocab import By
from hal0.wire.jobs import JobKind, JobState
from hal0.wire.pulls import PullRequest, PullState, PullView

log = logging.getLogger(__name__)

_TELL_S: Final = 0.5
_PAUSED: Final = "paused; go on with: hal0ctl model resume {}"


class Pulls:
    """`settings` are asked anew for every pull."""

    def __init__(
        self,
        registry: Registry,
        jobs: Jobs,
        clock: Clock,
        settings: Callable[[], ModelsConfig],
        environ: Mapping[str, str],
        *,
        outside: Callable[[], Outside] = lambda: Outside(private=True),
        pause_s: tuple[float, float] = (1.0, 30.0),
        patience_s: float = 120.0,
    ) -> None:
        self._registry = registry
        self._jobs = jobs
        self._clock = clock
        self._settings = settings
        self._outside = outside
        self.looking = Looking(registry, settings, environ, outside)
        self.verifying = Verifying(registry, jobs)
        self._pause_s = pause_s
        self._patience_s = patience_s
        self._pulls: dict[str, Pull] = {}
        self._throttle = Throttle(lambda: settings().rate_limit)
        self._placing = asyncio.Lock()
        self._turns = asyncio.Semaphore(settings().pull_parallel)

    async def boot(self) -> None:
        """Go on with what an earlier process was at; what was paused or had failed waits to be asked for."""
        for plan in await asyncio.to_thread(plans, self._registry.store):
            pull = await self._kept(plan)
            if plan.state in (PullState.QUEUED, PullState.RUNNING):
                self._begin(pull)
            else:
                self._jobs.finish(pull.job, JobState.INTERRUPTED, note=_PAUSED.format(plan.id))

    async def start(self, asked: PullRequest, by: By = By.OPERATOR, *, own: bool = True) -> Job:
        """The job; the one under way when the model is already on its way.

        `own`: the download itself is wanted, to its end, and from the place that is named: one that was paused or has
        failed elsewhere is given up for it. Else something waits for it, and may `leave` it.

        Raises request.invalid, model.exists, model.not_found, model.unsafe_format, pull.gated, pull.address_refused,
        pull.failed, state.write_failed: what is named is looked at before this returns, within half a minute.
        """
        draft = await self.looking.drafted(asked)
        for pull in [it for it in self._pulls.values() if own and it.bars(draft, link=asked.link)]:
            await self.cancel(pull.download.plan.id)
        for pull in self._pulls.values():
            if pull.download.plan.model == draft.model:
                self._begin(pull)
                await self._want(pull, own=own, rate_limit=asked.rate_limit)
                return pull.job
        if self._registry.get(draft.model) is not None:
            raise Hal0Error(
                "model.exists",
                f"cannot pull {draft.model}: it is here",
                details={"model": draft.model},
                hint=f"hal0ctl model show {draft.model}",
            )
        job = self._jobs.start(JobKind.MODEL_PULL, draft.model, by)
        plan = Plan(
            schema=1,
            id=job.view.id,
            model=draft.model,
            source=draft.source,
            license=draft.license,
            files=draft.files,
            started_at=self._clock.now(),
            by=by,
            own=own,
            link=asked.link,
            rate_limit=asked.rate_limit,
            task=asked.task,
        )
        pull = self._pulls[plan.id] = Pull(self._download(plan), job)
        try:
            await self._note(pull, PullState.QUEUED)  # from here on it outlives this process
        except Hal0Error as err:
            if pull.task is None:
                self._pulls.pop(plan.id, None)
                self._jobs.finish(job, JobState.FAILED, error=err)
            raise
        except asyncio.CancelledError:  # who asked has left in this very moment
            if pull.task is None:  # and nobody else has come
                await settled(self._ended(pull))
            raise
        self._begin(pull)
        await self._want(pull, own=own)
        return pull.job

    async def leave(self, job: Job) -> None:
        """For one of those who wait for it: it is paused once all have left, unless it is wanted by itself."""
        pull = self._pulls.get(job.view.id)
        if pull is None or pull.job is not job or job.ended:
            return
        pull.wanted -= 1
        if pull.wanted <= 0 and not pull.download.plan.own:
            await self.pause(job.view.id)

    async def pause(self, pull_id: str) -> Job:
        """Stop, and keep what has come. Raises pull.not_found."""
        pull = self._pull(pull_id)
        pull.download.plan = pull.download.plan.model_copy(update={"own": False})
        self._stop(pull, PullState.PAUSED)
        if pull.task is not None:
            await asyncio.wait([pull.task])
        return pull.job

    async def resume(self, pull_id: str) -> Job:
        """Go on with a pull that was paused or has failed. Raises pull.not_found."""
        pull = self._pull(pull_id)
        self._begin(pull)
        await self._want(pull, own=True)
        return pull.job

    async def cancel(self, pull_id: str) -> Job:
        """Give it up; nothing of it stays. Raises pull.not_found."""
        pull = self._pull(pull_id)
        self._stop(pull, None)
        if pull.task is not None:
            await asyncio.wait([pull.task])
        return pull.job

    def view(self, pull_id: str) -> PullView:
        """Raises pull.not_found."""
        return view_of(self._pull(pull_id))

    def views(self) -> list[PullView]:
        """Those that have not come to their end, the last one first."""
        return [view_of(pull) for pull in reversed(self._pulls.values())]

    async def aclose(self) -> None:
        """Stop what is under way; the next process goes on with what is to come."""
        await self.verifying.aclose()
        for pull in list(self._pulls.values()):
            pull.closing = True
            if pull.task is not None:
                await cancelled(pull.task)

    # ---- how they run ----

    def _pull(self, pull_id: str) -> Pull:
        pull = self._pulls.get(pull_id)
        if pull is None:
            raise Hal0Error("pull.not_found", f"cannot find pull {pull_id[:100]}: it has ended, or never was")
        return pull

    def _download(self, plan: Plan) -> Download:
        return Download(plan, self._registry, self._placing, allow_pickle=self._settings().allow_pickle)

    async def _kept(self, plan: Plan) -> Pull:
        job = self._jobs.resume(plan.id, JobKind.MODEL_PULL, plan.model, plan.by, plan.started_at)
        pull = self._pulls[plan.id] = Pull(self._download(plan), job)
        await asyncio.to_thread(pull.download.look)
        return pull

    def _begin(self, pull: Pull) -> None:
        """Joined when it runs."""
        if not pull.under_way:
            plan = pull.download.plan
            pull.job = self._jobs.resume(plan.id, JobKind.MODEL_PULL, plan.model, plan.by, plan.started_at)
            pull.job.on_cancel = lambda: self._stop(pull, None)
            pull.ending, pull.wanted, pull.at_work = None, 0, False
            pull.download.plan = plan.model_copy(update={"state": PullState.QUEUED, "error": None})
            pull.task = asyncio.create_task(self._run(pull), name=f"pull {plan.model}")

    async def _want(self, pull: Pull, *, own: bool, rate_limit: int | None = None) -> None:
        """One more wants it. That it is wanted by itself, and how fast, is for the next process to know, too."""
        plan = pull.download.plan
        said = {"own": plan.own or own, "rate_limit": rate_limit or plan.rate_limit}
        if not own:
            pull.wanted += 1
        if said != {"own": plan.own, "rate_limit": plan.rate_limit}:
            with suppress(OSError):  # it goes on all the same
                await pull.download.save(**said)

    def _stop(self, pull: Pull, ending: PullState | None) -> None:
        pull.ending = ending
        under_way = pull.under_way
        if pull.task is not None and under_way:
            pull.task.cancel()
        if not pull.at_work if under_way else ending is None:
            pull.task = asyncio.create_task(self._ended(pull))

    async def _run(self, pull: Pull) -> None:
        """Its last step ends the job, so that whoever waited for that may go on with the pull at once."""
        plan, pull.at_work = pull.download.plan, True
        try:
            await self._worked(pull)
        except asyncio.CancelledError:
            await settled(self._ended(pull))  # cancelled once more, it still comes to its end
        except Hal0Error as err:
            await self._failed(pull, err)
        except Exception:  # the outermost line of a task: a job has to end, whatever happened
            log.exception("the download of %s failed", plan.model)
            await self._failed(pull, Hal0Error("system.internal", f"cannot pull {plan.model}: hal0 made a mistake"))
        else:
            self._pulls.pop(plan.id, None)
            self._jobs.finish(pull.job, JobState.DONE)

    async def _worked(self, pull: Pull) -> None:
        telling = asyncio.create_task(self._telling(pull))
        try:
            await self._note(pull, PullState.QUEUED)
            async with self._turns:
                await self._note(pull, PullState.RUNNING)
                await self._fetched(pull)
        finally:
            await cancelled(telling)

    async def _fetched(self, pull: Pull) -> None:
        async with self._outside() as outside:
            asker = Asker(outside, self.looking.hub())
            throttles = (Throttle(lambda: pull.download.plan.rate_limit), self._throttle)
            transfer = Transfer(
                asker, throttles, pull.download.arrived, patience_s=self._patience_s, pause_s=self._pause_s
            )
            others = [it.download.left_bytes for it in self._pulls.values() if it is not pull and it.task is not None]
            await pull.download.run(transfer, sum(others))

    async def _telling(self, pull: Pull) -> None:
        while True:
            pace = pull.download.pace()
            fraction = pace.done_bytes / pace.total_bytes if pace.total_bytes else None
            self._jobs.progress(pull.job, pull.download.message, fraction, pace=pace)
            await asyncio.sleep(_TELL_S)

    async def _ended(self, pull: Pull) -> None:
        """Cancelled: by hal0's own end, for a pause, or for ever."""
        plan = pull.download.plan
        if pull.closing:
            return
        if pull.ending is PullState.PAUSED:
            with suppress(Hal0Error):  # paused all the same; the next process goes on with it
                await self._note(pull, PullState.PAUSED)
        if pull.ending is PullState.PAUSED:  # still: it may have been given up meanwhile
            self._jobs.finish(pull.job, JobState.INTERRUPTED, note=_PAUSED.format(plan.id))
            return
        self._pulls.pop(plan.id, None)
        await pull.download.remove()
        self._jobs.finish(pull.job, JobState.CANCELLED)

    async def _failed(self, pull: Pull, err: Hal0Error) -> None:
        pull.download.plan = pull.download.plan.model_copy(update={"error": err.body()["error"]})
        try:
            await settled(self._note(pull, PullState.FAILED))
        except Hal0Error:  # the disk that is full, again
            pass
        except asyncio.CancelledError:  # to pause what has failed changes nothing; to give it up does
            if pull.ending is None:
                await settled(self._ended(pull))
        self._jobs.finish(pull.job, JobState.FAILED, error=err)

    async def _note(self, pull: Pull, state: PullState) -> None:
        """What the next process needs to know. Raises state.write_failed."""
        try:
            await pull.download.save(state=state)
        except OSError as e:
            where = pull.download.place.folder
            raise Hal0Error("state.write_failed", f"cannot write into {where}: {e.strerror or e}") from e
