"""An operator's verbs against every phase: what each one means there, and when its job has ended. Pure."""

from dataclasses import dataclass, replace
from typing import Final

from hal0.errors import Hal0Error
from hal0.slots.happenings import Life, Wished
from hal0.slots.logbook import Logbook
from hal0.slots.record import Desired, Failure, Swap, SwapStep
from hal0.slots.state import superseded
from hal0.vocab import By, FailureClass, Phase, SwapMode, Want
from hal0.wire.jobs import JobKind, JobState

_LOADING: Final = frozenset({Phase.PULLING, Phase.STARTING, Phase.WARMING})
_COMES_BACK: Final = frozenset({By.ARBITER, By.IDLE, By.EVICTED})  # when its GPU is free, or at the next boot


@dataclass(frozen=True, slots=True)
class Asked:
    """A verb with its target; `by` decides whether earlier failures are forgotten."""

    kind: JobKind
    model: str | None = None
    by: By = By.OPERATOR
    drain_s: float | None = None
    mode: SwapMode = SwapMode.REPLACE  # how the slot changes its model


@dataclass(frozen=True, slots=True)
class Goal:
    """When a job has ended: the slot is in `phase` with `model`, in a container no older than `generation`."""

    phase: Phase
    model: str | None
    generation: int = 0
    rolled_back: Failure | None = None  # the change of model failed: why
    note: str | None = None  # what the job says beside its end


def wish(asked: Asked, life: Life, now: float) -> tuple[Wished | None, Goal]:
    """What a verb changes (None: nothing, it is so already or under way) and what its job waits for.

    Raises slot.no_model or slot.illegal_transition.
    """
    match asked.kind:
        case JobKind.UNLOAD:
            return _unload(asked, life, now)
        case JobKind.RESTART:
            return _restart(asked, life, now)
        case JobKind.SWAP:
            return _swap(asked, life, now)
        case _:
            return _load(asked, life, now)


def reset(life: Life, now: float) -> Wished:
    """Forget the failure and go on from there, also with a swap. Only from error."""
    if life.phase is not Phase.ERROR:
        raise Hal0Error("slot.illegal_transition", f"cannot reset: the slot is {life.phase}, not in error")
    return Wished(replace(life.desired, by=By.OPERATOR, at=now), life.facts.swap)


def requested(life: Life, now: float) -> Wished | None:
    """A request wants the slot loaded; None: it is wanted already, or has no model. Earlier failures count on."""
    desired = life.desired
    if desired.want is Want.LOADED or desired.model is None:
        return None
    return Wished(replace(desired, want=Want.LOADED, by=By.REQUEST, at=now), again=False)


def sent_away(life: Life, now: float) -> Wished | None:
    """The slot makes way for images on its GPU; None: it goes already, or a failure keeps it from coming."""
    fault = life.facts.fault
    rests = life.phase is Phase.ERROR and fault is not None and fault.failure_class is FailureClass.PERMANENT
    if rests or life.phase in (Phase.OFFLINE, Phase.UNLOADING) or life.desired.want is Want.UNLOADED:
        return None
    return _unload(Asked(JobKind.UNLOAD, None, By.ARBITER), life, now)[0]


def restored(before: Desired, life: Life, now: float) -> Wished | None:
    """What was wanted before something that has failed; None: it is so."""
    return None if life.desired == before else Wished(replace(before, at=now))


def called_back(life: Life, now: float) -> Wished | None:
    """The GPU is free again; None: whoever has wished for something else since then is obeyed."""
    desired = life.desired
    if desired.want is Want.LOADED or desired.by is not By.ARBITER:
        return None
    return Wished(replace(desired, want=Want.LOADED, at=now), again=False)


def reconfigured(seed: str | None, life: Life, book: Logbook) -> Wished | None:
    """What a changed configuration changes about the wish: failures are tried again, a slot never loaded follows."""
    desired = life.desired
    if life.phase is Phase.ERROR and desired.want is Want.LOADED:
        return Wished(desired, life.facts.swap)
    if life.phase is Phase.OFFLINE and seed is not None and not book.history:
        return Wished(replace(desired, model=seed))
    return None


def for_good(life: Life) -> Failure | None:
    """Why it rests until somebody changes something; None: it does not."""
    facts, fault = life.facts, life.facts.fault
    resting = life.phase is Phase.ERROR and facts.busy is None and facts.current is None and fault is not None
    lasting = fault is not None and fault.settled and fault.failure_class is FailureClass.PERMANENT
    return fault if resting and lasting and life.desired.want is Want.LOADED else None


def mended(life: Life, _now: float) -> Wished | None:
    """What a start that failed for good was made of has changed; None: it does not rest any more."""
    return None if for_good(life) is None else Wished(life.desired, life.facts.swap)


def _load(asked: Asked, life: Life, now: float) -> tuple[Wished | None, Goal]:
    model = asked.model or life.desired.model
    if model is None:
        raise Hal0Error("slot.no_model", "cannot load: the slot has no model; pick one with a swap")
    if _has_or_gets(life, model):
        return None, Goal(Phase.READY, model)
    if life.phase is Phase.READY or life.phase in _LOADING or life.facts.swap is not None:
        return _swap(replace(asked, model=model), life, now)
    return Wished(Desired(Want.LOADED, model, asked.by, now)), Goal(Phase.READY, model)


def _has_or_gets(life: Life, model: str) -> bool:
    """It serves `model`, or will by itself: a swap or restart that is still unloading counts."""
    active = life.phase is Phase.READY or life.phase in _LOADING
    on_its_way = life.phase is Phase.UNLOADING and life.facts.fault is None
    return (active or on_its_way) and life.desired.want is Want.LOADED and life.desired.model == model


def _unload(asked: Asked, life: Life, now: float) -> tuple[Wished | None, Goal]:
    goal = Goal(Phase.OFFLINE, None)
    desired = life.desired
    if desired.want is Want.UNLOADED:  # what left by itself does not come back by itself any more
        taken_over = desired.by in _COMES_BACK
        return (Wished(replace(desired, by=asked.by, at=now), drain_s=asked.drain_s) if taken_over else None), goal
    model = life.desired.model
    if life.facts.swap is not None and life.facts.swap.from_model is not None:
        model = life.facts.swap.from_model  # the new model never proved itself: the old one stays the slot's
    return Wished(Desired(Want.UNLOADED, model, asked.by, now), drain_s=asked.drain_s), goal


def _restart(asked: Asked, life: Life, now: float) -> tuple[Wished | None, Goal]:
    model = life.desired.model
    if model is None:
        raise Hal0Error("slot.no_model", "cannot restart: the slot has no model; pick one with a swap")
    goal = Goal(Phase.READY, model, life.facts.generation + 1)
    swap = life.facts.swap
    if swap is not None and swap.overlaps:  # the one that comes begins anew; the one that serves goes anyway
        swap = replace(swap, step=SwapStep.PULLING) if model == swap.to_model else None
    return Wished(Desired(Want.LOADED, model, asked.by, now), swap, restart=True), goal


def _swap(asked: Asked, life: Life, now: float) -> tuple[Wished | None, Goal]:
    model = asked.model
    if model is None:
        raise Hal0Error("slot.no_model", "cannot swap: no model is named")
    goal = Goal(Phase.READY, model)
    if _has_or_gets(life, model):
        return None, goal
    desired = Desired(Want.LOADED, model, asked.by, now)
    proved, facts = _proved_model(life), life.facts
    if life.phase is Phase.READY and facts.launched and facts.fault is None and not facts.restart:
        if model == proved:  # it never stopped serving
            return Wished(desired), goal
        if asked.mode is SwapMode.OVERLAP and life.desired.want is Want.LOADED:
            return Wished(desired, Swap(proved, model, SwapStep.PULLING)), goal
    rests = life.phase in (Phase.OFFLINE, Phase.ERROR) and facts.swap is None
    return Wished(desired, None if rests or model == proved else Swap(proved, model)), goal


def _proved_model(life: Life) -> str | None:
    """The model to come back to when the new one fails: the one that serves, or that served before this swap.

    One that is just being restarted counts.
    """
    facts = life.facts
    if facts.swap is not None:
        return facts.swap.from_model
    restarts = life.phase is Phase.UNLOADING and facts.restart
    if facts.current is not None and (life.phase is Phase.READY or restarts):
        return facts.current.model
    return None


def cancel(life: Life, now: float) -> Wished:
    """Give up the load, swap or restart under way: back to the model that served, or to nothing.

    What has begun to drain goes all the same, and the model comes back in a new container.
    """
    served = _proved_model(life)
    if served is not None:
        return Wished(Desired(Want.LOADED, served, By.OPERATOR, now))
    return Wished(Desired(Want.UNLOADED, life.desired.model, By.OPERATOR, now))


def superseded_by(goal: Goal, desired: Desired) -> JobState | None:
    """How a waiting job ends when the wish becomes `desired`; None when it still leads there."""
    if goal.phase is Phase.OFFLINE:
        return JobState.SUPERSEDED if desired.want is Want.LOADED else None
    if desired.want is Want.UNLOADED:
        return JobState.CANCELLED
    return JobState.SUPERSEDED if desired.model != goal.model else None


def outcome(goal: Goal, life: Life, now: float) -> tuple[JobState, Failure | None] | None:
    """How a job has ended, or None while it goes on."""
    facts = life.facts
    if goal.phase is Phase.OFFLINE:
        return (JobState.DONE, None) if life.phase is Phase.OFFLINE else None
    if life.phase is Phase.READY and not superseded(life.desired, facts) and facts.swap is None:
        if goal.rolled_back is not None:
            return JobState.FAILED, goal.rolled_back
        if facts.current is not None and facts.current.generation >= goal.generation:
            return JobState.DONE, None
    if life.phase is Phase.ERROR and facts.busy is None and facts.current is None and now < facts.retry_at:
        return JobState.FAILED, goal.rolled_back or facts.fault
    return None
