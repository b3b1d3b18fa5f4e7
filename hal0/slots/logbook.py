"""When things happened in one slot's life: since when it is where it is, its loads, its last use."""

from dataclasses import dataclass, replace
from typing import Final

from hal0.slots.need import Used, peak
from hal0.slots.record import HISTORY, Load, SlotRecord, SwapStep
from hal0.vocab import Phase

_MEASURED: Final = 5  # loads whose memory is remembered: the most of a few is careful, a year old peak is not


@dataclass(frozen=True, slots=True)
class Logbook:
    """Times are seconds since the epoch. `warmed`: the current container has been ready."""

    since: float
    history: tuple[Load, ...] = ()
    last_used: float | None = None
    load_started: float | None = None
    created_at: float | None = None
    warm_started: float | None = None
    answered_at: float | None = None
    ready_at: float | None = None
    warmed: bool = False
    memory: tuple[Used, ...] = ()

    def entered(self, phase: Phase, now: float, model: str | None) -> "Logbook":
        """The book after entering `phase`; `model` is the current container's."""
        book = replace(self, since=now)
        match phase:
            case Phase.STARTING:
                return replace(book, load_started=now, created_at=None, ready_at=None, warmed=False)
            case Phase.WARMING:
                return replace(book, warm_started=now, answered_at=None)
            case Phase.READY:
                return replace(self._loaded(now, model), since=now, ready_at=now, last_used=now, warmed=True)
            case _:
                return replace(book, load_started=None, ready_at=None)

    def stepped(self, step: SwapStep, now: float) -> "Logbook":
        """The book when the next container begins to start or to warm, beside the one that serves."""
        match step:
            case SwapStep.STARTING:
                return replace(self, load_started=now, created_at=None)
            case SwapStep.WARMING:
                return replace(self, warm_started=now, answered_at=None)
            case _:
                return replace(self, load_started=None)

    def created(self, now: float) -> "Logbook":
        """The book when the container that is being started is there."""
        return replace(self, created_at=now)

    def answered(self, now: float) -> "Logbook":
        """The book when the engine that is loading has said that it is ready."""
        return replace(self, answered_at=now)

    def turned(self, now: float, model: str | None) -> "Logbook":
        """The book when the next container has become the slot's own; that counts as use."""
        return replace(self._loaded(now, model), ready_at=now, last_used=now)

    def _loaded(self, now: float, model: str | None) -> "Logbook":
        if model is None or self.load_started is None or self.warm_started is None:
            return self
        began, warmed = self.load_started, self.warm_started
        create_s = None if self.created_at is None else self.created_at - began
        load_s = None if self.answered_at is None else self.answered_at - warmed
        load = Load(model, now, warmed - began, now - warmed, create_s, load_s)
        return replace(self, history=(*self.history, load)[-HISTORY:], load_started=None)

    def took(self, used: Used | None) -> "Logbook":
        """What the load that is ready took of memory, as far as is known; None: nobody can tell."""
        if used is None:
            return self
        before = next((one for one in self.memory if one.at == used.at), None)
        most = used if before is None else peak(before, used)
        if most == before:
            return self
        others = (one for one in self.memory if one.at != used.at)
        return replace(self, memory=(*others, most)[-_MEASURED:])


def opened(record: SlotRecord | None, phase: Phase, now: float) -> Logbook:
    """The book at boot, from what the record remembers. A clock that was set back makes nothing younger than now.

    A load that ended while hal0 was away counts as use, as any other does.
    """
    ready = phase is Phase.READY
    if record is None:
        return Logbook(now, ready_at=now if ready else None, last_used=now if ready else None, warmed=ready)
    arrived = ready and (record.phase is not Phase.READY or record.swap is not None or record.last_used is None)
    last_used = now if arrived else record.last_used
    return Logbook(
        min(record.since, now) if record.phase is phase else now,
        history=record.load_history,
        memory=record.memory_history,
        last_used=None if last_used is None else min(last_used, now),
        ready_at=now if ready else None,
        warmed=ready,
    )
