"""Everything that can happen to a slot, and how each thing changes what is known: `fold`, pure.

A happening is a fact, never an order. What follows from it is `state.decide`'s business alone.
"""

from dataclasses import dataclass, replace
from typing import Final, TypeAlias, assert_never

from hal0.slots.record import Container, Desired, Failure, Progress, Swap
from hal0.slots.state import NEVER, NO_ATTEMPTS, Facts, next_attempt
from hal0.vocab import FailureClass, Phase

# An effect that could not reach the engine is tried again this often: soon enough to converge within five
# seconds of the engine's return, rare enough to cost nothing while it is away.
ENGINE_RETRY_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """A slot at one moment: what is wanted, where it is, what is known."""

    desired: Desired
    phase: Phase
    facts: Facts


@dataclass(frozen=True, slots=True)
class Wished:
    """Somebody wants something (else). `again` forgets earlier failures: an operator's verb or a config change."""

    desired: Desired
    swap: Swap | None = None
    restart: bool = False
    again: bool = True
    drain_s: float | None = None  # how long open streams may finish this time; None: as configured


@dataclass(frozen=True, slots=True)
class Fetched:
    """Image and model files are here."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """A launch began: this generation's name and port are taken, and on disk before anything is created."""

    container: Container


@dataclass(frozen=True, slots=True)
class Launched:
    """The container was started; `secret` is what its engine must be shown."""

    container: Container
    secret: str


@dataclass(frozen=True, slots=True)
class Clashed:
    """Somebody else took the port (or the name) between lease and start; the container is gone again, or `stuck`."""

    stuck: Container | None = None


@dataclass(frozen=True, slots=True)
class Advanced:
    """Progress within a phase. `extend_to` moves the deadline (a pull that moves has no total limit)."""

    progress: Progress
    extend_to: float | None = None


@dataclass(frozen=True, slots=True)
class BecameReady:
    """The engine answered and lists its model."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt under way failed: an effect, a probe or a deadline says why."""

    failure: Failure
    jitter: float


@dataclass(frozen=True, slots=True)
class Died:
    """The current container's process is gone. `failure` is provisional: the evidence is still to be read."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Buried:
    """The dead container is removed (or `stuck`); its exit code and log say why it ended."""

    failure: Failure
    jitter: float
    stuck: Container | None = None


@dataclass(frozen=True, slots=True)
class Drained:
    """No request is left in the current container."""


@dataclass(frozen=True, slots=True)
class Retired:
    """The current container is gone. With `stuck` podman would not remove it: it is quarantined.

    `log_tail` is what it had said, when it was stopped because of a fault.
    """

    stuck: Container | None = None
    log_tail: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineTrouble:
    """A drain, retire or burial could not be carried out; it will be tried again. `message` says why."""

    message: str


@dataclass(frozen=True, slots=True)
class EngineBack:
    """The engine answers again: what waited for it need not wait longer."""


@dataclass(frozen=True, slots=True)
class Strayed:
    """A container of this slot that the slot does not know: a create whose answer was lost, or somebody's copy."""

    container: Container


@dataclass(frozen=True, slots=True)
class Left:
    """A quarantined container is gone at last."""

    name: str


@dataclass(frozen=True, slots=True)
class Judged:
    """The current container was compared with what would be started now: `stale` says why it differs, if it does."""

    stale: str | None


@dataclass(frozen=True, slots=True)
class Measured:
    """A sample of the current container's memory, in bytes."""

    memory_bytes: int


@dataclass(frozen=True, slots=True)
class StayedHealthy:
    """It has been ready for long enough: earlier failures are history."""


Happening: TypeAlias = (
    Wished
    | Fetched
    | Reserved
    | Launched
    | Clashed
    | Advanced
    | BecameReady
    | Failed
    | Died
    | Buried
    | Drained
    | Retired
    | EngineTrouble
    | EngineBack
    | Strayed
    | Left
    | Judged
    | Measured
    | StayedHealthy
)


def fold(life: Life, happening: Happening, now: float) -> Life:
    """What is known after `happening`; never changes the phase."""
    facts = life.facts
    match happening:
        case Wished():
            return _wished(life, happening)
        case Failed(failure, jitter):
            if life.phase is Phase.STARTING:  # what was fetched may be what is missing now: look again
                life = replace(life, facts=replace(facts, fetched=False))
            return _failed(life, failure, now, jitter)
        case Died(failure):
            return _died(life, failure)
        case Buried(failure, jitter, stuck):
            gone = replace(life, facts=replace(_without_current(facts, stuck), again_at=0.0))
            return _failed(gone, failure, now, jitter)
        case _:
            return replace(life, facts=_learn(facts, happening, now))


def _learn(facts: Facts, happening: Happening, now: float) -> Facts:  # noqa: C901, PLR0912  one line per happening
    match happening:
        case Fetched():
            return replace(facts, fetched=True, busy=None)
        case Reserved(container):
            return replace(
                facts, current=container, generation=container.generation, launched=False, stale=None, memory_bytes=None
            )
        case Launched(container, _secret):
            return replace(facts, current=container, launched=True, busy=None)
        case Clashed(stuck):
            facts = _without_current(facts, stuck)
            return replace(facts, port_tries=facts.port_tries + 1)
        case Advanced(progress, extend_to):
            return replace(facts, progress=progress, deadline=facts.deadline if extend_to is None else extend_to)
        case BecameReady():
            return replace(facts, ready=True)
        case Drained():
            return replace(facts, drained=True, busy=None)
        case Retired(stuck, log_tail):
            fault = facts.fault
            if fault is not None and log_tail:
                fault = replace(fault, log_tail=log_tail)
            return replace(_without_current(facts, stuck), fault=fault, launched=False, restart=False)
        case EngineTrouble(message):
            waiting = Progress("waiting", None, f"{message}; trying again")
            return replace(facts, busy=None, again_at=now + ENGINE_RETRY_S, progress=waiting)
        case EngineBack():
            return _engine_back(facts, now)
        case Strayed(container):
            return _strayed(facts, container)
        case Left(name):
            return replace(facts, leaving=tuple(c for c in facts.leaving if c.name != name))
        case Judged(stale):
            return replace(facts, stale=stale)
        case Measured(memory_bytes):
            return replace(facts, memory_bytes=memory_bytes)
        case StayedHealthy():
            return replace(facts, attempts=NO_ATTEMPTS)
        case Wished() | Failed() | Died() | Buried():
            raise AssertionError("folded by its own function")
        case _:
            assert_never(happening)


def _wished(life: Life, wish: Wished) -> Life:
    facts = life.facts
    changed = wish.desired.model != life.desired.model
    if wish.again or changed:
        facts = replace(facts, fault=None, attempts=NO_ATTEMPTS, retry_at=0.0, again_at=0.0)
    facts = replace(
        facts,
        swap=wish.swap,
        restart=facts.restart or (wish.restart and facts.current is not None),
        fetched=facts.fetched and not changed and not wish.again,
        drain_s=wish.drain_s,
    )
    if changed and life.phase is Phase.PULLING:
        facts = replace(facts, busy=None)  # what is being fetched is not wanted any more
    return replace(life, desired=wish.desired, facts=facts)


def _failed(life: Life, failure: Failure, now: float, jitter: float) -> Life:
    """One more failed attempt. A failed change of model goes back to the old model, once."""
    facts = replace(life.facts, fault=failure, failure=failure, busy=None)
    swap = facts.swap
    if swap is not None and swap.step == "forward" and swap.from_model is not None:
        back = replace(life.desired, model=swap.from_model)
        facts = replace(facts, swap=replace(swap, step="rollback"), retry_at=now, fetched=True)
        return Life(desired=back, phase=life.phase, facts=facts)
    attempts = next_attempt(facts.attempts, failure, now, jitter)
    retry_at = attempts.next_at if attempts.next_at is not None else NEVER
    return replace(life, facts=replace(facts, swap=None, attempts=attempts, retry_at=retry_at))


def _without_current(facts: Facts, stuck: Container | None) -> Facts:
    """The effect that ended it is over; what podman would not remove is quarantined."""
    leaving = facts.leaving if stuck is None else (*facts.leaving, stuck)
    return replace(facts, current=None, leaving=leaving, busy=None, stale=None, drain_s=None, memory_bytes=None)


def _died(life: Life, failure: Failure) -> Life:
    facts = life.facts
    if not facts.launched:
        return life  # a second witness of the same death
    facts = replace(facts, launched=False, ready=False)
    if life.phase is not Phase.UNLOADING:  # there it was about to end anyway: a death is no fault
        facts = replace(facts, fault=facts.fault or failure)
    return replace(life, facts=facts)


def waits_for_engine(failure: Failure | None) -> bool:
    """The attempt failed on the engine alone: its return is reason enough to try again."""
    if failure is None or failure.failure_class is FailureClass.PERMANENT:
        return False
    return failure.code.startswith("engine.")


def _engine_back(facts: Facts, now: float) -> Facts:
    if waits_for_engine(facts.fault):
        facts = replace(facts, retry_at=now, attempts=replace(facts.attempts, next_at=now))
    return replace(facts, again_at=0.0)


def _strayed(facts: Facts, stray: Container) -> Facts:
    known = [c.name for c in (facts.current, *facts.leaving) if c is not None]
    if stray.name in known:  # seen before the slot learned that it is its own
        return facts
    return replace(facts, leaving=(*facts.leaving, stray), generation=max(facts.generation, stray.generation))


def enter(life: Life, phase: Phase, deadline: float) -> Life:
    """The facts on entering `phase`: what belonged to the phase before is forgotten.

    `fault` survives only on the way into unloading and error, where it says why.
    """
    facts = replace(life.facts, busy=None, deadline=deadline, progress=None)
    match phase:
        case Phase.PULLING:
            facts = replace(facts, fault=None, restart=False, launched=False, ready=False)
        case Phase.STARTING:
            facts = replace(facts, fault=None, restart=False, launched=False, ready=False, drained=False, port_tries=0)
        case Phase.READY:
            facts = replace(facts, fault=None, failure=None, swap=None)
        case Phase.UNLOADING:
            facts = replace(facts, ready=False, drained=False, again_at=0.0)
        case Phase.OFFLINE:
            facts = replace(
                facts, fault=None, failure=None, swap=None, restart=False, fetched=False, attempts=NO_ATTEMPTS
            )
        case Phase.WARMING | Phase.ERROR:
            pass
        case _:
            assert_never(phase)
    return Life(desired=life.desired, phase=phase, facts=facts)
