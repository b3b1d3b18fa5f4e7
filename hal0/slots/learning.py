"""How each happening changes what is known of a slot: `fold`, and what a new phase forgets: `enter`. Pure."""

from dataclasses import replace
from typing import Final, assert_never

from hal0.slots import fallback, overlap
from hal0.slots import happenings as h
from hal0.slots.failure import waits_for_engine, waits_for_room
from hal0.slots.record import Container, Failure, Progress, Swap, SwapStep
from hal0.slots.state import NEVER, NO_ATTEMPTS, Facts, next_attempt
from hal0.vocab import Phase

# An effect that could not reach the engine is tried again this often: soon enough to converge within five
# seconds of the engine's return, rare enough to cost nothing while it is away.
ENGINE_RETRY_S: Final = 2.0


def fold(life: h.Life, happening: h.Happening, now: float) -> h.Life:
    """What is known after `happening`; never changes the phase."""
    facts = life.facts
    match happening:
        case h.Wished():
            return _wished(life, happening)
        case h.Failed(failure, jitter):
            if life.phase is Phase.STARTING:  # what was fetched may be what is missing now: look again
                life = replace(life, facts=replace(facts, fetched=False))
            return _failed(life, failure, now, jitter)
        case h.Died(failure):
            return _died(life, failure)
        case h.Beside(what):
            return overlap.learn(life, what)
        case h.Buried(failure, jitter, stuck):
            gone = replace(life, facts=replace(_without_current(facts, stuck), again_at=0.0))
            if facts.fault is None:  # somebody has wished anew since then: it is told, and keeps nothing from coming
                return replace(gone, facts=replace(gone.facts, failure=failure))
            return _failed(gone, failure, now, jitter)
        case _:
            return replace(life, facts=_learn(facts, happening, now))


def _learn(facts: Facts, happening: h.Happening, now: float) -> Facts:  # noqa: C901, PLR0912  one line per happening
    match happening:
        case h.Fetched():
            return replace(facts, fetched=True, busy=None)
        case h.Admitted(need, extend_to):
            return replace(facts, admitted=need, busy=None, progress=None, deadline=extend_to)
        case h.RoomMade(anew):
            return _at_once(facts, now) if waits_for_room(facts.fault, anew=anew) else facts
        case h.Reserved(container):
            facts = replace(facts, current=container, generation=container.generation, launched=False, stale=None)
            return replace(facts, memory_bytes=None, footprint=None)
        case h.Launched(container, _secret):
            return replace(facts, current=container, launched=True, busy=None)
        case h.Clashed(stuck):
            facts = _without_current(facts, stuck)
            return replace(facts, port_tries=facts.port_tries + 1)
        case h.Advanced(progress, extend_to):
            return replace(facts, progress=progress, deadline=facts.deadline if extend_to is None else extend_to)
        case h.BecameReady():
            return replace(facts, ready=True)
        case h.Created() | h.Answered():
            return facts  # for the book alone
        case h.Drained():
            return replace(facts, drained=True, busy=None)
        case h.Retired(stuck, log_tail):
            fault = facts.fault
            if fault is not None and log_tail:
                fault = replace(fault, log_tail=log_tail)
            return replace(_without_current(facts, stuck), fault=fault, launched=False, restart=False)
        case h.EngineTrouble(message):
            waiting = Progress("waiting", None, f"{message}; trying again")
            return replace(facts, busy=None, again_at=now + ENGINE_RETRY_S, progress=waiting)
        case h.EngineBack():
            return _engine_back(facts, now)
        case h.Strayed(container):
            return _strayed(facts, container)
        case h.Left(name):
            return replace(facts, leaving=tuple(c for c in facts.leaving if c.name != name), stuck=facts.stuck - {name})
        case h.Stayed(name):
            return replace(facts, stuck=facts.stuck | {name})
        case h.Judged(stale):
            return replace(facts, stale=stale)
        case h.Measured(memory_bytes, footprint):
            return replace(facts, memory_bytes=memory_bytes, footprint=footprint)
        case h.StayedHealthy():
            return replace(facts, attempts=NO_ATTEMPTS)
        case h.Crowded():
            return overlap.crowded(facts)
        case h.Turned():
            return overlap.turned(facts)
        case h.Wished() | h.Failed() | h.Died() | h.Buried() | h.Beside():
            raise AssertionError("folded by its own function")
        case _:
            assert_never(happening)


def _wished(life: h.Life, wish: h.Wished) -> h.Life:
    facts = life.facts
    changed = wish.desired.model != life.desired.model
    if wish.again or changed:
        facts = replace(facts, fault=None, attempts=NO_ATTEMPTS, retry_at=0.0, again_at=0.0)
        facts = replace(facts, fallback=fallback.after_wish(facts, wish, changed=changed), starts_failed=0)
    facts = replace(
        facts,
        swap=wish.swap,
        restart=facts.restart or (wish.restart and facts.current is not None and not _overlaps(wish.swap)),
        fetched=facts.fetched and not changed and not wish.again,
        drain_s=wish.drain_s,
    )
    if changed and life.phase is Phase.PULLING:
        facts = replace(facts, busy=None)  # what is being fetched is not wanted any more
    return overlap.wished(life, replace(life, desired=wish.desired, facts=facts), restart=wish.restart)


def _overlaps(swap: Swap | None) -> bool:
    return swap is not None and swap.overlaps


def _failed(life: h.Life, failure: Failure, now: float, jitter: float) -> h.Life:
    """One more failed attempt. A failed change of model goes back to the old model, once."""
    failure = _of_container(failure, life.facts.current)
    facts = replace(life.facts, fault=failure, failure=failure, busy=None)
    swap = facts.swap
    if _overlaps(swap):  # the old one, by itself: the new one takes its place
        return replace(life, facts=replace(facts, retry_at=now))
    if swap is not None and swap.step is SwapStep.FORWARD and swap.from_model is not None:
        back = replace(life.desired, model=swap.from_model)
        facts = replace(facts, swap=replace(swap, step=SwapStep.ROLLBACK), retry_at=now, fetched=True)
        return h.Life(desired=back, phase=life.phase, facts=facts)
    attempts = next_attempt(facts.attempts, failure, now, jitter)
    retry_at = attempts.next_at if attempts.next_at is not None else NEVER
    return replace(life, facts=replace(facts, swap=None, attempts=attempts, retry_at=retry_at))


def _of_container(failure: Failure, container: Container | None) -> Failure:
    """What failed in a container is told with what that was."""
    if container is None or failure.spec_hash is not None:
        return failure
    return replace(failure, model=container.model, spec_hash=container.spec_hash)


def _without_current(facts: Facts, stuck: Container | None) -> Facts:
    """The effect that ended it is over; what podman would not remove is quarantined."""
    facts = facts if stuck is None else overlap.quarantined(facts, stuck)
    return replace(facts, current=None, busy=None, stale=None, drain_s=None, memory_bytes=None, footprint=None)


def _died(life: h.Life, failure: Failure) -> h.Life:
    facts = life.facts
    if not facts.launched:
        return life  # a second witness of the same death
    facts = replace(facts, launched=False, ready=False)
    if life.phase is not Phase.UNLOADING:  # there it was about to end anyway: a death is no fault
        facts = replace(facts, fault=facts.fault or failure)
    return replace(life, facts=facts)


def _engine_back(facts: Facts, now: float) -> Facts:
    if waits_for_engine(facts.fault):
        facts = _at_once(facts, now)
    return replace(facts, again_at=0.0)


def _at_once(facts: Facts, now: float) -> Facts:
    """The next attempt is due now."""
    return replace(facts, retry_at=now, attempts=replace(facts.attempts, next_at=now))


def _strayed(facts: Facts, stray: Container) -> Facts:
    leaving = {container.name: container for container in facts.leaving}
    if (known := leaving.get(stray.name)) is not None and known.id not in (None, stray.id):
        # The one that was to leave is gone, and somebody has made another of its name: that one leaves.
        return replace(facts, leaving=tuple({**leaving, stray.name: stray}.values()))
    if stray.name in [c.name for c in facts.containers]:  # seen before the slot learned that it is its own
        return facts
    return replace(facts, leaving=(*facts.leaving, stray), generation=max(facts.generation, stray.generation))


def enter(life: h.Life, phase: Phase, deadline: float) -> h.Life:
    """The facts on entering `phase`: what belonged to the phase before is forgotten.

    `fault` survives only on the way into unloading and error, where it says why.
    """
    facts = replace(life.facts, busy=None, deadline=deadline, progress=None)
    match phase:
        case Phase.PULLING:
            facts = replace(facts, fault=None, admitted=None, restart=False, launched=False, ready=False)
            facts = overlap.taken_over(facts)
        case Phase.STARTING:
            facts = replace(facts, fault=None, admitted=None, restart=False, launched=False, ready=False)
            facts = overlap.taken_over(replace(facts, drained=False, port_tries=0))
        case Phase.READY:
            facts = replace(facts, fault=None, failure=None, swap=None, next_fault=None, starts_failed=0)
            facts = replace(facts, fallback=fallback.of_model(facts.fallback, life.desired.model))
        case Phase.UNLOADING:
            facts = replace(overlap.left_behind(facts), ready=False, drained=False, again_at=0.0)
        case Phase.OFFLINE:
            facts = replace(facts, fault=None, failure=None, swap=None, admitted=None)
            facts = replace(facts, restart=False, fetched=False, attempts=NO_ATTEMPTS)
        case Phase.ERROR:
            facts = overlap.left_behind(facts)
        case Phase.WARMING:
            pass
        case _:
            assert_never(phase)
    return h.Life(desired=life.desired, phase=phase, facts=facts)


def not_left(old: h.Life, saved: h.Life, again_at: float) -> h.Life:
    """The way out of `old` could not be recorded, so it is not taken: the wish is the one on disk, `saved`, again."""
    current = old.facts.current
    arrived = old.phase is Phase.READY and current is not None and current.model == saved.desired.model
    swap = None if arrived else saved.facts.swap  # the disk may not know yet that the swap is done
    if swap is not None and swap.overlaps:  # the wish has ended what was under way
        swap = replace(swap, step=SwapStep.PULLING)
    return replace(old, desired=saved.desired, facts=replace(old.facts, restart=False, swap=swap, again_at=again_at))
