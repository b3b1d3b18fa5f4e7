"""Swap by overlap, as it is known: the next container beside the one that serves, and how the two change places. Pure.

Until the turn the slot stays `ready` with its old container; whatever becomes of the next one costs no request. What
is to be done next is `state.decide`'s business, as everywhere.
"""

from dataclasses import replace

from hal0.slots import happenings as h
from hal0.slots.fallback import of_model
from hal0.slots.record import Container, Failure, SwapStep
from hal0.slots.state import NEVER, NO_ATTEMPTS, Facts
from hal0.vocab import Phase, Role, Want


def learn(life: h.Life, what: h.Happening) -> h.Life:  # noqa: C901, PLR0912  one line per happening
    """What is known after something happened to the next container, or on the way to it."""
    facts = life.facts
    if facts.swap is None:
        return life
    match what:
        case h.Fetched():
            facts = replace(_step(facts, SwapStep.WAITING), fetched=True, busy=None)
        case h.Admitted(need):
            facts = replace(facts, next_admitted=need, busy=None, progress=None, deadline=NEVER)
        case h.Reserved(container):
            facts = replace(_step(facts, SwapStep.STARTING), next=container, generation=container.generation)
        case h.Launched(container, _secret):
            facts = replace(_step(facts, SwapStep.WARMING), next=container, next_launched=True, busy=None)
        case h.Clashed(stuck):
            facts = replace(_step(facts, SwapStep.WAITING), next=None, busy=None, port_tries=facts.port_tries + 1)
            facts = facts if stuck is None else quarantined(facts, stuck)
        case h.Advanced(progress, extend_to):
            facts = replace(facts, progress=progress, deadline=facts.deadline if extend_to is None else extend_to)
        case h.BecameReady():
            facts = replace(facts, next_ready=True)
        case h.Died(failure):
            return _lost(replace(life, facts=replace(facts, next_launched=False, next_ready=False)), failure)
        case h.Failed(failure):
            return _lost(life, failure)
        case h.Buried(failure, _, stuck):
            return _undone(replace(life, facts=_without_next(facts, stuck)), failure)
        case h.Retired(stuck, log_tail) if facts.next_fault is not None:
            failure = replace(facts.next_fault, log_tail=log_tail or facts.next_fault.log_tail)
            return _undone(replace(life, facts=_without_next(facts, stuck)), failure)
        case h.EngineTrouble() if facts.next_fault is not None:
            return _undone(replace(life, facts=dropped(facts)), facts.next_fault)
        case _:
            return life  # what is measured of it is of no use yet
    return replace(life, facts=facts)


def turned(facts: Facts) -> Facts:
    """The next container is the slot's own now; the one before it leaves when its requests have ended."""
    old, new = facts.current, facts.next
    assert old is not None, "decide() turns from one container"
    assert new is not None, "to another"
    return replace(
        _alone(facts),
        admitted=facts.next_admitted,
        current=replace(new, role=Role.CURRENT),
        leaving=(*facts.leaving, replace(old, role=Role.LEAVING)),
        ready=True,
        swap=None,
        fallback=of_model(facts.fallback, new.model),
        failure=None,
        attempts=NO_ATTEMPTS,
        stale=None,
        memory_bytes=None,
        footprint=None,
        progress=None,
        deadline=NEVER,
    )


def crowded(facts: Facts) -> Facts:
    """There is no room beside the old one: it makes way first."""
    return replace(_alone(_step(facts, SwapStep.FORWARD)), busy=None, deadline=NEVER)


def wished(before: h.Life, after: h.Life, *, restart: bool) -> h.Life:
    """A wish ends what was under way beside the present container; where that is lost, the next may still be right."""
    facts, desired = replace(after.facts, next_fault=None), after.desired
    if before.phase is not Phase.READY:
        right = desired.want is Want.LOADED and facts.next is not None and facts.next.model == desired.model
        return replace(after, facts=facts if right and not restart else dropped(facts))
    if before.facts.swap is not None and before.facts.swap.overlaps:
        facts = replace(dropped(facts), busy=None, progress=None, deadline=NEVER)
    return replace(after, facts=replace(facts, port_tries=0))


def left_behind(facts: Facts) -> Facts:
    """The present container ended: a next one that runs takes its place, one that does not yet run is given up."""
    if facts.swap is not None and facts.swap.step is SwapStep.UNDOING:
        facts = replace(facts, swap=None)
    return facts if facts.next_launched and facts.next_fault is None else dropped(facts)


def taken_over(facts: Facts) -> Facts:
    """On the way up again: with the next container, if there is one; from here on it is a swap like any other."""
    if facts.swap is not None and facts.swap.overlaps:
        facts = _step(facts, SwapStep.FORWARD)
    if facts.next is None:
        return facts
    current = replace(facts.next, role=Role.CURRENT)
    ready, admitted = facts.next_ready, facts.next_admitted
    return replace(_alone(facts), current=current, launched=True, ready=ready, admitted=admitted)


def dropped(facts: Facts) -> Facts:
    """Nobody wants the next container any more."""
    if facts.next is None:
        return _alone(facts)
    return replace(_alone(facts), leaving=(*facts.leaving, replace(facts.next, role=Role.LEAVING)))


def quarantined(facts: Facts, stuck: Container) -> Facts:
    """Podman would not remove it; it is tried again while the slot goes on."""
    return replace(facts, leaving=(*facts.leaving, stuck), stuck=facts.stuck | {stuck.name})


def _alone(facts: Facts) -> Facts:
    return replace(facts, next=None, next_launched=False, next_ready=False, next_admitted=None)


def _without_next(facts: Facts, stuck: Container | None) -> Facts:
    facts = _alone(facts)
    return facts if stuck is None else quarantined(facts, stuck)


def _step(facts: Facts, step: SwapStep) -> Facts:
    assert facts.swap is not None, "only a swap goes by steps"
    return replace(facts, swap=replace(facts.swap, step=step), progress=None)


def _lost(life: h.Life, failure: Failure) -> h.Life:
    """The next container failed. While the old one serves there is time to read why."""
    facts, swap = life.facts, life.facts.swap
    if swap is None or swap.from_model is None:
        return life
    if life.phase is not Phase.READY:
        return _rolled_back(life, failure)
    if swap.step is SwapStep.UNDOING:
        if facts.next_fault is None or not failure.settled:
            return life  # a second witness of the same death
        return _undone(replace(life, facts=dropped(facts)), facts.next_fault)
    if facts.next is None:
        return _undone(life, failure)
    facts = replace(_step(facts, SwapStep.UNDOING), next_fault=failure, next_ready=False, busy=None)
    return replace(life, desired=replace(life.desired, model=swap.from_model), facts=facts)


def _undone(life: h.Life, failure: Failure) -> h.Life:
    """Nothing is left of the attempt; `next_fault` says why until somebody wants something else."""
    swap = life.facts.swap
    assert swap is not None, "an attempt is a swap"
    facts = replace(_alone(life.facts), swap=None, next_fault=replace(failure, settled=True))
    facts = replace(facts, busy=None, fetched=True, progress=None, deadline=NEVER)
    return replace(life, desired=replace(life.desired, model=swap.from_model), facts=facts)


def _rolled_back(life: h.Life, failure: Failure) -> h.Life:
    """Both have failed: the model that served comes back."""
    facts, swap = dropped(life.facts), life.facts.swap
    assert swap is not None, "an attempt is a swap"
    facts = replace(_step(facts, SwapStep.ROLLBACK), next_fault=replace(failure, settled=True), fetched=True)
    return replace(life, desired=replace(life.desired, model=swap.from_model), facts=facts)
