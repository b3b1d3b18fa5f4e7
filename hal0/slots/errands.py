"""The jobs that wait on one slot: begun by a verb, ended when the slot arrives, fails, or is wanted elsewhere."""

from collections.abc import Callable
from dataclasses import replace

from hal0.errors import Hal0Error
from hal0.slots import failure as failures
from hal0.slots import verbs
from hal0.slots.fallback import words
from hal0.slots.happenings import Crowded, Happening, Life
from hal0.slots.jobs import Job, Jobs
from hal0.slots.record import Desired, Failure, Swap, SwapStep
from hal0.slots.shown import Shown
from hal0.slots.telling import message
from hal0.slots.verbs import Asked, Goal
from hal0.vocab import Phase, SlotName
from hal0.wire.jobs import JobState


class Errands:
    def __init__(self, slot: SlotName, jobs: Jobs) -> None:
        self._slot = slot
        self._jobs = jobs
        self._pending: list[tuple[Job, Goal]] = []
        self._given_up: list[Job] = []  # until it is known whether the way back can be taken

    def waits(self, job: Job) -> bool:
        return any(job is other for other, _goal in self._pending)

    def running(self, goal: Goal) -> Job | None:
        """A job that goes to the same place already."""
        for job, other in self._pending:
            if other.phase is goal.phase and other.model == goal.model:
                return job
        return None

    def begin(self, asked: Asked, goal: Goal, on_cancel: Callable[[Job], None]) -> Job:
        """A new job; only what leads to a loaded model can be cancelled."""
        job = self._jobs.start(asked.kind, self._slot, asked.by)
        if goal.phase is Phase.READY:
            job.on_cancel = lambda: on_cancel(job)
        self._pending.append((job, goal))
        return job

    def wished(self, desired: Desired) -> None:
        """The wish is `desired` now: jobs that go elsewhere end."""
        kept = []
        for job, goal in self._pending:
            end = verbs.superseded_by(goal, desired)
            if end is None:
                kept.append((job, goal))
            elif goal.rolled_back is not None:  # it had failed before that
                self._jobs.finish(job, JobState.FAILED, error=failures.error_of(goal.rolled_back, self._slot))
            else:
                self._jobs.finish(job, end, note="a later wish replaced this one")
        self._pending = kept

    def _rolled_back(self, model: str, why: Failure | None, note: str) -> None:
        """The new model failed: the jobs that wanted it fail when the old one serves (again)."""
        self._change(model, lambda goal: replace(goal, rolled_back=why, note=note))

    def swapping(self, before: Swap, life: Life, happening: Happening) -> None:
        """The change of model took a turn that its jobs have to tell."""
        facts = life.facts
        if isinstance(happening, Crowded):
            self._change(before.to_model, lambda goal: replace(goal, note=f"without overlap: {happening.why}"))
        elif facts.swap is not None and facts.swap.step is SwapStep.ROLLBACK:
            self._rolled_back(before.to_model, facts.next_fault or facts.fault, f"{before.from_model} serves again")
        elif before.overlaps and facts.next_fault is not None:
            self._rolled_back(before.to_model, facts.next_fault, f"{before.from_model} never stopped serving")

    def _change(self, model: str, change: Callable[[Goal], Goal]) -> None:
        self._pending = [(job, change(goal) if goal.model == model else goal) for job, goal in self._pending]

    def settled(self, look: Callable[[], Shown]) -> None:
        """End what has arrived, failed or was given up; report progress of the rest."""
        error = Hal0Error("slot.load_cancelled", f"slot {self._slot}: the load was cancelled")
        for job in self._given_up:
            self._jobs.finish(job, JobState.CANCELLED, error=error)
        self._given_up.clear()
        if not self._pending:
            return
        it = look()
        kept, progress, told = [], it.life.facts.progress, words(it.config, it.fallback)
        note = f"started by {told}" if told is not None and it.life.phase is Phase.READY else None
        for job, goal in self._pending:
            ended = verbs.outcome(goal, it.life, it.now)
            if ended is None:
                fraction, source = (progress.fraction, progress.source) if progress else (None, None)
                self._jobs.progress(job, message(it), fraction, source)
                kept.append((job, goal))
                continue
            state, why = ended
            reason = failures.error_of(why, self._slot) if why is not None else None
            self._jobs.finish(job, state, error=reason, note=goal.note or note)
        self._pending = kept

    def cancelled(self) -> None:
        """The load under way is given up: every job that waited for it ends when the slot has settled."""
        self._given_up += [job for job, _goal in self._pending]
        self._pending.clear()

    def fail(self, error: Hal0Error) -> None:
        for job in [*self._given_up, *(job for job, _goal in self._pending)]:
            self._jobs.finish(job, JobState.FAILED, error=error)
        self._given_up.clear()
        self._pending.clear()
