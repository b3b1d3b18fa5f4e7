"""Turns a card's row on or off: one change of the configuration, then the slot's load; a failed step undoes both."""

import asyncio
import contextlib
import functools
import logging
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final

from hal0.capabilities.cards import Child
from hal0.capabilities.plan import Plan
from hal0.config.table import Kept
from hal0.errors import Hal0Error
from hal0.slots import verbs
from hal0.slots.custom import CustomSlots
from hal0.slots.job_tasks import JobTasks
from hal0.slots.jobs import Job, Jobs
from hal0.slots.record import Desired
from hal0.slots.supervisor import Supervisor
from hal0.vocab import By, Phase, SlotName, Want
from hal0.wire.capabilities import SelectRequest
from hal0.wire.jobs import JobKind, JobState

log = logging.getLogger(__name__)

_RESTS: Final = (Phase.OFFLINE, Phase.ERROR)
_UNDO_S: Final = 60.0  # a slot that podman does not let go is unloaded later, and the job need not wait for that

Steps = Callable[[Job], Coroutine[Any, Any, None]]


class _Overtaken(Exception):
    """A later command wants something else of the slot: it is obeyed, and nothing of ours is undone."""


class Switching:
    """The work belongs to hal0, not to who asked for it. One piece of work per slot at a time."""

    def __init__(self, custom: CustomSlots, supervisor: Supervisor, jobs: Jobs) -> None:
        self._custom = custom
        self._supervisor = supervisor
        self._jobs = jobs
        self._tasks = JobTasks[SlotName](jobs)
        self._asked: dict[SlotName, SelectRequest] = {}  # last, of each slot

    def under_way(self, child: Child, asked: SelectRequest) -> Job | None:
        """The work that does just this already. Raises slot.illegal_transition while something else is done there."""
        job = self._tasks.get(child.slot)
        if job is None or self._asked[child.slot] == asked:
            return job
        raise Hal0Error(
            "slot.illegal_transition",
            f"cannot switch {child.id}: its slot {child.slot} is being changed",
            hint=f"hal0ctl job wait {job.view.id}",
        )

    def on(self, plan: Plan, asked: SelectRequest) -> Job:
        """As `under_way`, else begin."""
        return self._start(plan.child, asked, JobKind.CAPABILITY_ENABLE, lambda job: self._enable(job, plan))

    def off(self, child: Child, asked: SelectRequest) -> Job:
        """Unload the slot, and let no request load it again. Else as `on`."""
        return self._start(child, asked, JobKind.CAPABILITY_DISABLE, lambda job: self._disable(job, child.slot))

    async def aclose(self) -> None:
        """End the waiting; what was begun stays as it is, for the next start to go on from."""
        await self._tasks.aclose()

    def _start(self, child: Child, asked: SelectRequest, kind: JobKind, steps: Steps) -> Job:
        if (job := self.under_way(child, asked)) is not None:
            return job
        self._asked[child.slot] = asked
        job = self._jobs.start(kind, child.id, By.OPERATOR)
        return self._tasks.start(child.slot, job, f"switch {child.id}", self._run(job, steps))

    async def _run(self, job: Job, steps: Steps) -> None:
        try:
            await steps(job)
        except _Overtaken:
            self._jobs.finish(job, JobState.SUPERSEDED)

    # -- the steps ----------------------------------------------------------------------------------------------------

    async def _enable(self, job: Job, plan: Plan) -> None:
        name = plan.child.slot
        slot = self._supervisor.get(name)
        before = None if slot is None else slot.life.desired
        put = asyncio.ensure_future(self._custom.put(name, plan.fields)) if plan.fields else None
        try:
            if put is not None:
                await asyncio.shield(put)  # who gives up in this moment learns first what was written
            await self._followed(job, await self._load(plan, before))
        except _Overtaken:
            raise
        except BaseException:  # a mistake of hal0's own leaves as little behind as a refusal does
            job.on_cancel = None  # half an undo would be neither the old nor the new
            if not self._tasks.closing:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_UNDO_S):
                        await self._undo(name, await _written(put), before)
            raise

    async def _disable(self, job: Job, slot: SlotName) -> None:
        """What could not be unloaded now leaves when podman is back: its wish stands, and so does this change."""
        if self._supervisor.slot(slot).config.load_on_request:
            await self._custom.put(slot, {"load_on_request": False})
        await self._followed(job, await self._supervisor.unload(slot))

    async def _load(self, plan: Plan, before: Desired | None) -> Job:
        """A container that serves the model already is replaced only where it would be another one now."""
        name = plan.child.slot
        slot = self._supervisor.slot(name)
        if before is not None and _newer(before, slot.life.desired):
            raise _Overtaken
        same = slot.snapshot().model == plan.model
        if plan.restarts and same and slot.life.phase not in _RESTS:
            return await self._supervisor.restart(name)
        return await self._supervisor.load(name, plan.model)

    async def _followed(self, job: Job, of_slot: Job) -> None:
        """Until the slot's job has ended. Raises its error; who gives up the one gives up the other."""
        try:
            while not of_slot.ended:
                if (told := of_slot.view.progress) is not None:
                    self._jobs.progress(job, told.message, told.fraction, told.source)
                await of_slot.changed.wait()
        except asyncio.CancelledError:
            if not self._tasks.closing and not of_slot.ended:
                self._jobs.cancel(of_slot.view.id)
            raise
        view = of_slot.view
        if view.state is JobState.SUPERSEDED:
            raise _Overtaken
        if (error := of_slot.error) is not None:
            raise error
        if view.state is not JobState.DONE:
            raise Hal0Error("slot.load_cancelled", f"cannot switch {job.view.target}: its load was {view.state}")

    async def _undo(self, name: SlotName, kept: Kept | None, before: Desired | None) -> None:
        """As it was: first what is wanted of the slot, so that nothing is loaded by the configuration's return."""
        slot = self._supervisor.get(name)
        if slot is not None and before is not None and before.want is Want.UNLOADED:
            with _told(name):
                await slot.wish(functools.partial(verbs.restored, before))
        if kept is not None:
            with _told(name):
                await self._custom.put_back(name, kept)


def _newer(before: Desired, now: Desired) -> bool:
    """Whether an operator has said something else of the slot while the configuration was written."""
    return now != before and now.by is By.OPERATOR


@contextlib.contextmanager
def _told(name: SlotName) -> Iterator[None]:
    """Around one step of an undo: the next one is tried all the same."""
    try:
        yield
    except Hal0Error as err:
        log.warning("the change of slot %s is not undone: %s", name, err.message)


async def _written(put: asyncio.Future[Kept] | None) -> Kept | None:
    """What was changed; None when nothing was."""
    if put is None:
        return None
    await asyncio.wait([put])
    return None if put.cancelled() or put.exception() is not None else put.result()
