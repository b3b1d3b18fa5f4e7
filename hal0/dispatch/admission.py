"""May a request go to its slot now, must it wait, or is it refused: the hold contract, pure."""

from dataclasses import asdict, dataclass
from typing import Final, assert_never

from hal0.errors import Hal0Error
from hal0.slots.handle import SlotFailure, SlotSnapshot
from hal0.slots.record import Progress
from hal0.slots.state import shown
from hal0.vocab import FailureClass, Phase, SlotState, Want

_LOADING: Final = (Phase.PULLING, Phase.STARTING, Phase.WARMING)
# Said to clients when nobody knows better: short enough to be worth a retry, long enough not to hammer.
_UNKNOWN_RETRY_S: Final = 10.0
# How many may be held for a load or a turn of a slot that has no limit of its own: each has its body with it.
_MOST_HELD: Final = 1000


@dataclass(frozen=True, slots=True)
class Waiter:
    """One request at the gate. Times are the clock's; `hold_s` is how long it may be held for a load.

    `ahead` and `behind` count the others in the slot's line; `queued` says that it already stands there, `joined` that
    it has seen the load it waits for. `held_from`: since when it is held (None: since it came). `turn_in_s`: when its
    slot's turn is expected (None: it waits for no turn). `patience_s` limits all waiting; without it a wait for room
    has no end. `service_s`: how long the slot keeps a request (None: nobody knows).
    """

    arrived: float
    hold_s: float
    ahead: int = 0
    behind: int = 0
    queued: bool = False
    joined: bool = False
    held_from: float | None = None
    turn_in_s: float | None = None
    patience_s: float | None = None
    service_s: float | None = None

    @property
    def held_until(self) -> float:
        until = (self.arrived if self.held_from is None else self.held_from) + self.hold_s
        return until if self.patience_s is None else min(until, self.arrived + self.patience_s)


@dataclass(frozen=True, slots=True)
class Go:
    pass


@dataclass(frozen=True, slots=True)
class Wait:
    """Until the slot changes or `until` (the clock's time; None: no deadline); `load` asks for a load first."""

    until: float | None
    load: bool = False


@dataclass(frozen=True, slots=True)
class Refuse:
    """`load` asks for a load all the same; `full` says that one place less in the line might have changed it."""

    error: Hal0Error
    load: bool = False
    full: bool = False


Admission = Go | Wait | Refuse
_GO: Final = Go()


def admission(slot: SlotSnapshot, in_flight: int, waiter: Waiter, now: float) -> Admission:
    """What happens to this request at this moment, with so many others in the slot."""
    if slot.routable:
        if waiter.turn_in_s is None:
            return _room(slot, in_flight, waiter, now)
        return _full(slot, in_flight, waiter) or _hold(slot, waiter, now, load=True)  # its turn is over
    match slot.phase:
        case Phase.READY | Phase.PULLING | Phase.STARTING | Phase.WARMING:
            return _full(slot, in_flight, waiter) or _hold(slot, waiter, now)
        case Phase.UNLOADING:
            if waiter.joined and slot.want is Want.UNLOADED:
                return _cancelled(slot)
            return _full(slot, in_flight, waiter) or _hold(slot, waiter, now)
        case Phase.OFFLINE:
            return _offline(slot, in_flight, waiter, now)
        case Phase.ERROR:
            return _failed(slot, in_flight, waiter, now)
        case _:
            assert_never(slot.phase)


def crowded_out(slot: SlotSnapshot, in_flight: int, waiter: Waiter) -> Hal0Error:
    """Why a request loses its place to one of somebody who has fewer."""
    return _queue_full(slot, in_flight, waiter, "its queue is full, also of those who have fewer requests in it")


def remaining_load_s(slot: SlotSnapshot, now: float) -> float | None:
    """Expected seconds until the slot is ready, from its own history; None without one."""
    if slot.expected_load_s is None:
        return None
    if slot.load_started_at is None:
        return slot.expected_load_s
    # A load that outlasts its history is nearly done more often than not: promise a second, not zero.
    return max(slot.expected_load_s - (now - slot.load_started_at), 1.0)


def _room(slot: SlotSnapshot, in_flight: int, waiter: Waiter, now: float) -> Admission:
    if slot.max_inflight is None or in_flight + waiter.ahead < slot.max_inflight:
        return _GO
    until = None if waiter.patience_s is None else waiter.arrived + waiter.patience_s
    if until is not None and now >= until:
        return Refuse(_queue_full(slot, in_flight, waiter, "its time in the queue is over"))
    return _full(slot, in_flight, waiter) or Wait(until)


def _full(slot: SlotSnapshot, in_flight: int, waiter: Waiter) -> Refuse | None:
    """Only newcomers are turned away: whoever stands in line keeps the place, but see `Line.gives_way`."""
    if waiter.queued:
        return None
    places = _MOST_HELD
    if slot.max_inflight is not None:
        places = slot.queue_limit + max(0, slot.max_inflight - in_flight)
    if waiter.ahead + waiter.behind < places:
        return None
    return Refuse(_queue_full(slot, in_flight, waiter, "its queue is full"), full=True)


def _queue_full(slot: SlotSnapshot, in_flight: int, waiter: Waiter, why: str) -> Hal0Error:
    return Hal0Error(
        "slot.queue_full",
        f"cannot take the request: slot {slot.name!r} is busy with {in_flight} and {why}",
        details={
            "slot": slot.name,
            "state": _state(slot, in_flight),
            "position": waiter.ahead + 1,
            "limit": _MOST_HELD if slot.max_inflight is None else slot.queue_limit,
        },
        retry_after_s=_room_in_s(slot, waiter),
    )


def _room_in_s(slot: SlotSnapshot, waiter: Waiter) -> float:
    """When it would have gone in: as many have to leave the slot first as its place in the line says."""
    if waiter.service_s is None or slot.max_inflight is None:
        return _UNKNOWN_RETRY_S
    return (waiter.ahead + 1) * waiter.service_s / slot.max_inflight


def _hold(slot: SlotSnapshot, waiter: Waiter, now: float, *, load: bool = False) -> Admission:
    """Wait while what is left of the load fits into what is left of the hold; a first load is always waited for."""
    left = waiter.held_until - now
    expected = remaining_load_s(slot, now)
    if waiter.turn_in_s is not None:
        expected = (expected or 0.0) + waiter.turn_in_s
    if left > 0 and (expected is None or expected <= left):
        return Wait(waiter.held_until, load)
    return Refuse(_loading(slot, waiter, expected), load)


def _loading(slot: SlotSnapshot, waiter: Waiter, expected: float | None) -> Hal0Error:
    if waiter.turn_in_s is None:
        progress, doing = slot.progress, f"is loading {slot.model!r}"
    else:
        progress, doing = Progress("waiting", None, "other slots have the memory"), "waits for its turn"
    why = f" ({progress.message})" if progress else ""
    return Hal0Error(
        "slot.loading",
        f"cannot answer yet: slot {slot.name!r} {doing}{why}",
        details={
            "slot": slot.name,
            "state": _state(slot),
            "progress": asdict(progress) if progress else None,
            "position": waiter.ahead + 1,
        },
        retry_after_s=_UNKNOWN_RETRY_S if expected is None else expected,
    )


def _offline(slot: SlotSnapshot, in_flight: int, waiter: Waiter, now: float) -> Admission:
    details = {"slot": slot.name, "state": _state(slot)}
    if slot.model is None:
        return Refuse(
            Hal0Error(
                "slot.no_model",
                f"cannot answer: slot {slot.name!r} has no model",
                details=details,
                hint=f"hal0ctl slot swap {slot.name} MODEL",
            )
        )
    if slot.model_missing is not None:
        return Refuse(
            Hal0Error(
                "model.not_downloaded",
                f"cannot answer with slot {slot.name!r}: {slot.model_missing}",
                details=details | {"model": slot.model},
                hint=f"hal0ctl slot load {slot.name}",
            )
        )
    if waiter.joined and slot.want is Want.UNLOADED:
        return _cancelled(slot)
    if not slot.load_on_request and slot.want is Want.UNLOADED:
        return Refuse(
            Hal0Error(
                "slot.offline",
                f"cannot answer: slot {slot.name!r} is offline and is not loaded by requests",
                details=details,
                hint=f"hal0ctl slot load {slot.name}",
            )
        )
    return _full(slot, in_flight, waiter) or _hold(slot, waiter, now, load=True)


def _failed(slot: SlotSnapshot, in_flight: int, waiter: Waiter, now: float) -> Admission:
    failure = slot.failure
    if failure is None or not failure.settled:  # the evidence is still being read
        return _hold(slot, waiter, now)
    if failure.failure_class is FailureClass.PERMANENT:
        return Refuse(_load_failed(slot, failure))
    if failure.code == "slot.memory_budget":  # a turn can make room before its next try
        return _full(slot, in_flight, waiter) or _hold(slot, waiter, now, load=True)
    if slot.next_attempt_at is None:
        if slot.want is Want.UNLOADED and slot.load_on_request:
            return _hold(slot, waiter, now, load=True)
        return Refuse(_load_failed(slot, failure))
    if slot.next_attempt_at <= now:  # the restart is due: it becomes a load like any other
        return _hold(slot, waiter, now)
    return Refuse(
        Hal0Error(
            "slot.crash_looping",
            f"cannot answer: slot {slot.name!r} failed and waits for its next try: {failure.message}",
            details={"slot": slot.name, "state": _state(slot), "cause": failure.code},
            retry_after_s=slot.next_attempt_at - now + (slot.expected_load_s or 0.0),
        )
    )


def _load_failed(slot: SlotSnapshot, failure: SlotFailure) -> Hal0Error:
    return Hal0Error(
        "slot.load_failed",
        f"cannot answer: slot {slot.name!r} could not load {slot.model!r}: {failure.message}",
        details={"slot": slot.name, "state": _state(slot), "cause": failure.code},
        hint=f"hal0ctl slot show {slot.name}",
    )


def _cancelled(slot: SlotSnapshot) -> Refuse:
    return Refuse(
        Hal0Error(
            "slot.load_cancelled",
            f"cannot answer: the load of slot {slot.name!r} was cancelled",
            details={"slot": slot.name, "state": _state(slot)},
            retry_after_s=_UNKNOWN_RETRY_S,
        )
    )


def _state(slot: SlotSnapshot, in_flight: int = 0) -> SlotState:
    """The slot's state as clients know it; one that is asked for something is not idle."""
    return shown(slot.phase, in_flight=in_flight, quiet_s=0.0, idle_timeout_s=0.0)


def has_seen_load(slot: SlotSnapshot) -> bool:
    """Whether a waiter that looks at this snapshot sees the load it waits for."""
    return slot.want is Want.LOADED and slot.phase in _LOADING
