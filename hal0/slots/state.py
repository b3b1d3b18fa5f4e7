"""The lifecycle as one pure decision: given what is wanted and what is known, which phase, and what to do.

Everything that happens to a slot is folded into `Facts` (see `happenings`); then `decide` chooses, and nothing else
does. It rests only on the present: it gives the right answer also when every event before was lost.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, assert_never

from hal0.hardware.footprint import Footprint
from hal0.slots.need import Need
from hal0.slots.record import Attempts, Container, Desired, Failure, Fallback, Progress, Swap, SwapStep
from hal0.vocab import FailureClass, Phase, SlotState, Want

TRANSITIONS: Final[Mapping[Phase, frozenset[Phase]]] = {
    Phase.OFFLINE: frozenset({Phase.PULLING, Phase.STARTING}),
    Phase.PULLING: frozenset({Phase.STARTING, Phase.OFFLINE, Phase.ERROR}),
    Phase.STARTING: frozenset({Phase.WARMING, Phase.UNLOADING, Phase.ERROR}),
    Phase.WARMING: frozenset({Phase.READY, Phase.UNLOADING, Phase.ERROR}),
    Phase.READY: frozenset({Phase.UNLOADING, Phase.ERROR}),
    Phase.UNLOADING: frozenset({Phase.OFFLINE, Phase.STARTING, Phase.PULLING, Phase.ERROR}),
    Phase.ERROR: frozenset({Phase.PULLING, Phase.STARTING, Phase.UNLOADING, Phase.OFFLINE}),
}

NEVER: Final = math.inf
NO_ATTEMPTS: Final = Attempts()


class Effect(StrEnum):
    """Slow work that changes the world. At most one per slot is under way; the next waits for its end."""

    FETCH = "fetch"  # see to it that image and model files are here
    ADMIT = "admit"  # see to it that there is memory for what is to be launched
    LAUNCH = "launch"  # create and start the container that the record names
    DRAIN = "drain"  # let requests finish, then end them
    RETIRE = "retire"  # stop and remove the current container
    BURY = "bury"  # the current container is dead: read why, then remove it
    TURN = "turn"  # traffic moves to the next container; done at once, there is nothing to wait for


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that is known of a slot besides what is wanted and its phase. Times are seconds since the epoch.

    `fault` is set while the attempt under way has failed; the next attempt clears it. `failure` is what is shown
    until the slot is ready again. `retry_at` is when an error ends by itself (NEVER: when somebody changes something);
    `again_at` is when an effect that failed on the engine, or a stop that could not be recorded, may be tried again.
    `next` warms beside the current container in a swap by overlap, and `next_fault` is why that failed; then fetch,
    launch, retire and bury are of the next one, and the deadline is its step's.
    """

    generation: int = 0
    current: Container | None = None
    leaving: tuple[Container, ...] = ()
    next: Container | None = None
    next_launched: bool = False
    next_ready: bool = False
    next_fault: Failure | None = None
    next_admitted: Need | None = None  # as `admitted`, of the next one
    stuck: frozenset[str] = frozenset()  # names of the leaving ones that podman would not remove when asked last
    swap: Swap | None = None
    fault: Failure | None = None
    failure: Failure | None = None
    attempts: Attempts = NO_ATTEMPTS
    fallback: Fallback | None = None  # how it is started instead of as configured
    starts_failed: int = 0  # in a row, of what is tried now
    retry_at: float = 0.0
    again_at: float = 0.0
    busy: Effect | None = None
    fetched: bool = False  # image and model were checked since the wish was made
    admitted: Need | None = None  # the memory that is kept for the load under way, and then is the container's
    launched: bool = False  # the current container was started and is believed to run
    ready: bool = False  # the current container answered, and lists its model
    drained: bool = False  # no request is left in the current container
    restart: bool = False  # replace the container although the model stays
    port_tries: int = 0
    memory_bytes: int | None = None  # of the current container, when it was measured last
    footprint: Footprint | None = None  # of its processes, as then; None: nobody tells
    stale: str | None = None  # why a start would make another container than the current one
    drain_s: float | None = None  # the operator's own drain time for this once
    deadline: float = NEVER  # when the phase must have ended
    progress: Progress | None = None

    @property
    def containers(self) -> tuple[Container, ...]:
        """All that are known, whatever they are to the slot."""
        return tuple(c for c in (self.current, self.next) if c is not None) + self.leaving


@dataclass(frozen=True, slots=True)
class Decision:
    phase: Phase
    effect: Effect | None = None


def superseded(desired: Desired, facts: Facts) -> bool:
    """The current container is no longer what is wanted."""
    if facts.current is None:
        return False
    return facts.restart or desired.want is Want.UNLOADED or desired.model != facts.current.model


def decide(desired: Desired, phase: Phase, facts: Facts, now: float) -> Decision:
    """The next phase, and the effect to start (None: leave what is under way alone).

    A phase change always comes with the end of the effect under way: the caller cancels and awaits it first.
    """
    match phase:
        case Phase.OFFLINE:
            return _offline(desired)
        case Phase.PULLING:
            return _pulling(desired, facts)
        case Phase.STARTING:
            return _starting(desired, facts, now)
        case Phase.WARMING:
            return _running(Phase.WARMING, desired, facts, now)
        case Phase.READY:
            return _running(Phase.READY, desired, facts, now)
        case Phase.UNLOADING:
            return _unloading(desired, facts, now)
        case Phase.ERROR:
            return _error(desired, facts, now)
        case _:
            assert_never(phase)


def wanted(desired: Desired) -> bool:
    """A container of this slot is to run."""
    return desired.want is Want.LOADED and desired.model is not None


def _offline(desired: Desired) -> Decision:
    return Decision(Phase.PULLING, Effect.FETCH) if wanted(desired) else Decision(Phase.OFFLINE)


def _pulling(desired: Desired, facts: Facts) -> Decision:
    if not wanted(desired):
        return Decision(Phase.OFFLINE)
    if facts.fault is not None:
        return Decision(Phase.ERROR)
    if facts.fetched:
        return Decision(Phase.STARTING, Effect.ADMIT)
    return Decision(Phase.PULLING, None if facts.busy else Effect.FETCH)


def _starting(desired: Desired, facts: Facts, now: float) -> Decision:
    # Wished anew while it waited for memory: what is to be launched has to be looked for first.
    anew = facts.current is None and facts.fault is None and not facts.fetched
    if not wanted(desired) or superseded(desired, facts) or anew:
        return Decision(Phase.UNLOADING if now >= facts.again_at else Phase.STARTING)
    if facts.fault is not None:
        # A container that may run has to be stopped first: in error nothing of the slot runs.
        return Decision(Phase.UNLOADING if facts.current is not None else Phase.ERROR)
    if facts.launched:
        return Decision(Phase.WARMING)
    if facts.busy is not None:
        return Decision(Phase.STARTING)
    # A launch that ended without a word may have left its container: never a second one beside it.
    if facts.current is not None:
        return Decision(Phase.UNLOADING)
    return Decision(Phase.STARTING, Effect.ADMIT if facts.admitted is None else Effect.LAUNCH)


def _running(phase: Phase, desired: Desired, facts: Facts, now: float) -> Decision:
    if facts.fault is not None:
        return Decision(Phase.UNLOADING if facts.launched else Phase.ERROR)
    if phase is Phase.READY and facts.swap is not None and facts.swap.overlaps:
        return Decision(phase, _beside(facts, facts.swap.step))
    if now >= facts.again_at and superseded(desired, facts):
        return Decision(Phase.UNLOADING)
    if phase is Phase.WARMING and facts.ready:
        return Decision(Phase.READY)
    return Decision(phase)


def _beside(facts: Facts, step: SwapStep) -> Effect | None:
    """Of a swap by overlap: what brings the next container on, or away. There are never three of one slot."""
    if facts.busy is not None:
        return None
    match step:
        case SwapStep.PULLING:
            return Effect.FETCH
        case SwapStep.WAITING:
            if _going(facts):
                return None
            return Effect.ADMIT if facts.next_admitted is None else Effect.LAUNCH
        case SwapStep.UNDOING:
            # What is not known to be dead is stopped; with its last words if it has some.
            read = facts.next_fault is not None and not facts.next_fault.settled
            return Effect.BURY if read else Effect.RETIRE
        case _:
            return Effect.TURN if facts.next_ready else None


def _going(facts: Facts) -> bool:
    """A leaving container is about to be gone: podman has not refused."""
    return any(container.name not in facts.stuck for container in facts.leaving)


def _unloading(desired: Desired, facts: Facts, now: float) -> Decision:
    if facts.current is not None:
        if facts.busy is not None or now < facts.again_at:
            return Decision(Phase.UNLOADING)
        needs_drain = facts.launched and not facts.drained
        return Decision(Phase.UNLOADING, Effect.DRAIN if needs_drain else Effect.RETIRE)
    if not wanted(desired):
        return Decision(Phase.UNLOADING if _going(facts) else Phase.OFFLINE)
    if facts.fault is not None:
        return Decision(Phase.ERROR)
    return _upwards(facts)


def _upwards(facts: Facts) -> Decision:
    """The way up again from where nothing runs, or nothing but the container that came beside the lost one."""
    if facts.next is not None:
        return Decision(Phase.STARTING)
    if facts.fetched:
        return Decision(Phase.STARTING, Effect.ADMIT)
    return Decision(Phase.PULLING, Effect.FETCH)


def _error(desired: Desired, facts: Facts, now: float) -> Decision:
    if facts.busy is not None:
        return Decision(Phase.ERROR)
    if facts.current is not None:
        if facts.launched:  # somebody started it by hand
            return Decision(Phase.UNLOADING)
        return Decision(Phase.ERROR, Effect.BURY if now >= facts.again_at else None)
    if not wanted(desired):
        return Decision(Phase.OFFLINE)
    if facts.fault is not None and now < facts.retry_at:
        return Decision(Phase.ERROR)
    return _upwards(facts)


def shown(phase: Phase, *, in_flight: int, quiet_s: float, idle_timeout_s: float) -> SlotState:
    """The state on the wire: `ready` is split by what the slot is doing."""
    if phase is not Phase.READY:
        return SlotState(phase)
    if in_flight > 0:
        return SlotState.SERVING
    if idle_timeout_s > 0 and quiet_s >= idle_timeout_s:
        return SlotState.IDLE
    return SlotState.READY


# -- the restart curve --------------------------------------------------------------------------------------------

HEALTHY_RESETS_S: Final = 600.0  # a slot that ran this long has recovered: its series of failures is forgotten
RETRY_CAP_S: Final = 300.0
PORT_TRIES: Final = 5


def next_attempt(attempts: Attempts, failure: Failure, now: float, jitter: float) -> Attempts:
    """The series after one more failure.

    Transient: at once, then 1, 2, 4 ... 300 s, each times `jitter` (0.8-1.2), at the cap for ever.
    Permanent: never by itself.
    """
    count = attempts.count + 1
    start = attempts.window_start if attempts.window_start is not None else now
    if failure.failure_class is FailureClass.PERMANENT:
        return Attempts(count, start, None)
    # 2**9 already exceeds the cap; the exponent is bounded so that a year of failures is no huge number.
    delay = 0.0 if count == 1 else min(2.0 ** min(count - 2, 9), RETRY_CAP_S) * jitter
    return Attempts(count, start, now + delay)
