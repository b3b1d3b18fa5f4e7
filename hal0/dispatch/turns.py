"""What turns among slots are made of: rules, how every slot stands, what is decided. Pure; `schedule` decides."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias, assert_never

from hal0.dispatch.admission import Wait, Waiter, admission, remaining_load_s
from hal0.slots.handle import SlotSnapshot
from hal0.vocab import Phase, SlotName, Want

Fits: TypeAlias = Callable[[frozenset[SlotName]], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What turns rest on; durations in seconds. `fits`: may these slots be loaded at the same time?"""

    fits: Fits
    max_wait_s: float
    min_residency_s: float
    settle_s: float = 0.25  # requests sent together arrive within that: an idle slot stays so long for its share


class Standing(StrEnum):
    """What a slot does to memory: `leaving` still has it, `coming` will have it."""

    AWAY = "away"
    COMING = "coming"
    HERE = "here"
    LEAVING = "leaving"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """One slot as the schedule sees it.

    `since`: here since; coming: expected here at (inf: nobody knows). `busy`: requests under way. `oldest`: when the
    longest waiting of its requests came (None: nobody waits). `handover_s`: from the decision to its first request, by
    its history: what runs elsewhere ends, the load.
    """

    standing: Standing = Standing.AWAY
    since: float = math.inf
    busy: int = 0
    oldest: float | None = None
    handover_s: float = 0.0
    pinned: bool = False
    priority: int = 50
    share: float = 0

    @property
    def has_work(self) -> bool:
        return self.busy > 0 or self.oldest is not None


def seat_of(slot: SlotSnapshot, in_flight: int, oldest: float | None, handover_s: float, now: float) -> Seat:
    """A slot as it is now; `oldest` counts where waiting for it leads anywhere."""
    standing = _standing(slot, now)
    since = math.inf
    if standing is Standing.HERE:
        since = now if slot.ready_at is None else slot.ready_at
    elif standing is Standing.COMING and (left := remaining_load_s(slot, now)) is not None:
        since = now + left
    return Seat(
        standing=standing,
        since=since,
        busy=in_flight,
        oldest=oldest if standing is not Standing.AWAY or asks_for_load(slot, now) else None,
        handover_s=handover_s,
        pinned=slot.pinned or not slot.load_on_request,  # what no request loads again is not unloaded for one
        priority=slot.priority,
    )


def asks_for_load(slot: SlotSnapshot, now: float) -> bool:
    """Whether a request with all the time in the world would ask for a load."""
    verdict = admission(slot, 0, Waiter(now, math.inf), now)
    return isinstance(verdict, Wait) and verdict.load


def _standing(slot: SlotSnapshot, now: float) -> Standing:
    match slot.phase:
        case Phase.READY:
            return Standing.HERE if slot.want is Want.LOADED else Standing.LEAVING
        case Phase.PULLING | Phase.STARTING | Phase.WARMING | Phase.UNLOADING:
            return Standing.COMING if slot.want is Want.LOADED else Standing.LEAVING
        case Phase.OFFLINE:
            return Standing.COMING if slot.want is Want.LOADED and slot.model is not None else Standing.AWAY
        case Phase.ERROR:
            return Standing.COMING if _starts_again(slot, now) else Standing.AWAY
        case _:
            assert_never(slot.phase)


def _starts_again(slot: SlotSnapshot, now: float) -> bool:
    """It has crashed, and comes back by itself: who serves is not pushed out by who waits at that moment."""
    if slot.want is Want.UNLOADED or slot.failure is None:
        return False
    return not slot.failure.settled or (slot.next_attempt_at is not None and slot.next_attempt_at <= now)


Seats: TypeAlias = Mapping[SlotName, Seat]


@dataclass(frozen=True, slots=True)
class Turn:
    """It is this slot's turn: those who leave take nobody in, and go when their last request has ended."""

    slot: SlotName
    leaving: frozenset[SlotName]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be done now.

    `loads`: these may load at once. `turn`: the change under way, to be kept until the next look; `switch`: its leavers
    are free, so unload them and load its slot. `look_at`: when time alone changes something (inf: never).
    `begins`: when the load of each slot that waits for a turn is expected to begin.
    """

    loads: tuple[SlotName, ...] = ()
    turn: Turn | None = None
    switch: bool = False
    look_at: float = math.inf
    begins: Mapping[SlotName, float] = field(default_factory=dict)
