"""One setup's work: each slot's model fetched, then loaded; what fails of one slot is told and stops no other."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

from hal0.capabilities.orchestrator import Orchestrator
from hal0.capabilities.proposal import ROWS
from hal0.errors import Hal0Error
from hal0.models.registry import Registry
from hal0.slots.jobs import Job, Jobs
from hal0.vocab import SlotName
from hal0.wire.capabilities import SelectRequest
from hal0.wire.jobs import JobKind, JobPace, JobState
from hal0.wire.pulls import PullRequest

log = logging.getLogger(__name__)

_STOP_S: Final = 60.0  # for a load that was given up to be undone; it goes on by itself after that


class Pulls(Protocol):
    """The part of `pulls.pulls.Pulls` that setup needs."""

    async def start(self, asked: PullRequest, *, own: bool) -> Job: ...

    async def leave(self, job: Job) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Hands:
    """What the work is done with; `pulls` gives them once they know what earlier processes left."""

    cards: Orchestrator
    registry: Registry
    jobs: Jobs
    pulls: Callable[[], Awaitable[Pulls]]


@dataclass(slots=True)
class _Row:
    """One slot on its way; `part` is the job that it waits for now, `pace` that of its download as it was last."""

    slot: SlotName
    model: str
    context_size: int | None
    part: Job | None = None
    pace: JobPace | None = None
    failure: Hal0Error | None = None
    done: bool = False


@dataclass(slots=True)
class Installing:
    """All downloads begin at once, in the order of `wanted`; one model is loaded at a time, whichever is complete.

    `closing`: hal0 ends, and what is under way goes on at its next start.
    """

    hands: Hands
    job: Job
    wanted: Mapping[SlotName, SelectRequest]
    closing: bool = False
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _loading: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def run(self) -> None:
        jobs, rows = self.hands.jobs, [_row(slot, asked) for slot, asked in self.wanted.items()]
        with jobs.ending(self.job, "set up", lambda: self.closing):
            async with asyncio.TaskGroup() as group:
                for row in rows:
                    group.create_task(self._one(row, rows), name=f"setup of {row.slot}")
            if failed := [row for row in rows if row.failure is not None]:
                raise _incomplete(failed, rows)
            done = ", ".join(f"{row.slot} has {row.model}" for row in rows)
            jobs.finish(self.job, JobState.DONE, note=done or "everything is set up")

    async def _one(self, row: _Row, rows: Sequence[_Row]) -> None:
        try:
            async with self._asking:  # in turn: downloads wait for each other in the order in which they were begun
                pull = await self._pull(row)
            if pull is not None:
                await self._followed(row, pull, rows)
                row.pace = _come(row.pace)
            async with self._loading:
                asked = SelectRequest(model=row.model, context_size=row.context_size)
                await self._followed(row, await self.hands.cards.turn_on(ROWS[row.slot], asked), rows)
            row.done = True
        except Hal0Error as err:
            row.failure = err
        except Exception:  # a mistake with one slot keeps no other from being set up
            log.exception("the setup of %s failed", row.slot)
            row.failure = Hal0Error("system.internal", f"cannot set up {row.slot}: hal0 made a mistake")
        row.part = None
        row.pace = row.pace if row.done else None
        self._tell(rows)

    async def _pull(self, row: _Row) -> Job | None:
        """The download of a model that is not here; from then on the row's model is what came by that name."""
        if self.hands.registry.get(row.model) is not None:
            return None
        try:
            pull = await (await self.hands.pulls()).start(PullRequest(model=row.model), own=False)
        except Hal0Error as err:
            if err.code != "model.exists":
                raise
            row.model = err.details["model"]
            return None
        row.model = pull.view.target
        return pull

    async def _followed(self, row: _Row, part: Job, rows: Sequence[_Row]) -> None:
        """Until a part has ended. Raises what it ended with; who gives up the whole stops the part."""
        row.part = part
        try:
            while not part.ended:
                self._tell(rows)
                await part.changed.wait()
        except asyncio.CancelledError:
            if not self.closing:
                await self._stopped(row, part)
            raise
        if (error := part.error) is not None:
            raise error
        view = part.view
        if view.state is not JobState.DONE:
            raise Hal0Error("slot.load_cancelled", f"cannot set up {row.slot}: its {view.kind} was {view.state}")

    async def _stopped(self, row: _Row, part: Job) -> None:
        """What has come of a download is kept, and it goes on for others; a load is undone."""
        with suppress(Hal0Error, TimeoutError):  # it has ended meanwhile, or must end by itself
            async with asyncio.timeout(_STOP_S):
                if part.view.kind is JobKind.MODEL_PULL:
                    await (await self.hands.pulls()).leave(part)
                else:
                    self.hands.jobs.cancel(part.view.id)
                    await part.wait()

    def _tell(self, rows: Sequence[_Row]) -> None:
        """Where each slot is, and all downloads as one."""
        for row in rows:
            told = row.part.view.progress if row.part is not None else None
            row.pace = told.pace if told is not None and told.pace is not None else row.pace
        words = [f"{row.slot}: {_words(row)}" for row in rows if row.part is not None]
        pace = _together([row.pace for row in rows if row.pace is not None])
        fraction = pace.done_bytes / pace.total_bytes if pace is not None and pace.total_bytes else None
        self.hands.jobs.progress(self.job, "; ".join(words), fraction, pace=pace)


def _row(slot: SlotName, asked: SelectRequest) -> _Row:
    return _Row(slot, asked.model or "", asked.context_size)


def _words(row: _Row) -> str:
    assert row.part is not None
    told = row.part.view.progress
    return told.message if told is not None and told.message else row.part.view.state


def _come(pace: JobPace | None) -> JobPace | None:
    """All of it, whatever was told last."""
    if pace is None or pace.total_bytes is None:
        return None
    return JobPace(done_bytes=pace.total_bytes, total_bytes=pace.total_bytes)


def _together(paces: Sequence[JobPace]) -> JobPace | None:
    """None once everything has come."""
    if all(pace.total_bytes == pace.done_bytes for pace in paces):
        return None
    totals = [pace.total_bytes for pace in paces]
    done, rate = sum(pace.done_bytes for pace in paces), sum(pace.bytes_per_s or 0 for pace in paces)
    total = None if None in totals else sum(filter(None, totals))
    left_s = (total - done) / rate if total is not None and rate else None
    return JobPace(done_bytes=done, total_bytes=total, bytes_per_s=rate or None, eta_s=left_s)


def _incomplete(failed: Sequence[_Row], rows: Sequence[_Row]) -> Hal0Error:
    words = "; ".join(f"{row.slot}: {row.failure.message}" for row in failed if row.failure is not None)
    return Hal0Error(
        "setup.incomplete",
        f"cannot set up {len(failed)} of {len(rows)} slots: {words}",
        details={
            "done": [row.slot for row in rows if row.done],
            "failed": {row.slot: {"code": e.code, "message": e.message} for row in failed if (e := row.failure)},
        },
    )
