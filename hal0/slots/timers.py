"""When time alone changes something about a slot: its deadlines and its next look at the clock. Pure."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final, assert_never

from hal0.config.slots import SlotConfig
from hal0.errors import Hal0Error
from hal0.slots import failure as failures
from hal0.slots import warmup
from hal0.slots.happenings import Beside, Crowded, Failed, Happening, Life, StayedHealthy, Wished
from hal0.slots.logbook import Logbook
from hal0.slots.record import Container, SwapStep
from hal0.slots.state import HEALTHY_RESETS_S, NEVER, PORT_TRIES, Facts
from hal0.vocab import By, Phase, Want


def deadline(phase: Phase, now: float, config: SlotConfig, size_bytes: int, book: Logbook) -> float:
    """When `phase`, entered now, must have ended; `size_bytes` is the model's."""
    match phase:
        case Phase.PULLING:
            return now + warmup.PULL_STALL_S
        case Phase.STARTING:
            return now + warmup.START_S
        case Phase.WARMING:
            return now + warmup.warm_deadline_s(config.readiness_timeout_s, size_bytes, book.history)
        case Phase.UNLOADING:
            return now + config.drain_s + warmup.STOP_S + warmup.UNLOADING_GRACE_S
        case Phase.ERROR:  # of the burial; without a dead container nothing is under way
            return now + warmup.STOP_S + warmup.UNLOADING_GRACE_S
        case Phase.OFFLINE | Phase.READY:
            return NEVER
        case _:
            assert_never(phase)


def overdue(life: Life) -> Container | None:
    """The container that has to go before the slot is where it should be, when its time is over."""
    if life.phase is Phase.UNLOADING:
        return life.facts.current or next(iter(life.facts.leaving), None)
    return life.facts.current if life.phase is Phase.ERROR else None


# What the steps of a swap by overlap have in common with phases: how long they may take.
_LIKE: Final = {
    SwapStep.PULLING: Phase.PULLING,
    SwapStep.STARTING: Phase.STARTING,
    SwapStep.WARMING: Phase.WARMING,
    SwapStep.UNDOING: Phase.ERROR,  # a burial
}


def step_deadline(step: SwapStep, now: float, config: SlotConfig, size_bytes: int, book: Logbook) -> float:
    """As `deadline`, of a step beside the present container; room may take its time, everything else has an end."""
    return deadline(_LIKE[step], now, config, size_bytes, book) if step in _LIKE else NEVER


def wake_at(phase: Phase, facts: Facts, book: Logbook, config: SlotConfig, *, quiet: bool, looked_at: float) -> float:
    """When to decide again even if nothing happens; `looked_at` is when that was done last."""
    due = [facts.deadline]
    if facts.busy is None and phase in (Phase.ERROR, Phase.UNLOADING):
        if facts.current is not None:
            due.append(facts.again_at)
        elif phase is Phase.ERROR:
            due.append(facts.retry_at)
    if facts.again_at > looked_at and phase in (Phase.STARTING, Phase.WARMING, Phase.READY):
        due.append(facts.again_at)
    if phase is Phase.READY:
        if book.ready_at is not None and facts.attempts.count:
            due.append(book.ready_at + HEALTHY_RESETS_S)
        if quiet and book.last_used is not None:
            marks = [book.last_used + after_s for after_s in (config.idle_timeout_s, config.unload_after_s) if after_s]
            due.extend(mark for mark in marks if mark > looked_at)
    return min(due)


def come_due(life: Life, book: Logbook, config: SlotConfig, now: float, *, quiet: bool) -> Iterator[Happening]:
    """What time and repetition alone have brought; `quiet`: no request is under way, and an unload could be recorded.

    A deadline in unloading or of a burial is the actor's business: what is late there must be done all the same.
    """
    facts, phase = life.facts, life.phase
    if now >= facts.deadline and phase in (Phase.PULLING, Phase.STARTING, Phase.WARMING):
        yield Failed(failures.of_deadline(phase, now - book.since, now), warmup.jitter())
    elif phase is Phase.STARTING and facts.fault is None and (error := too_many_clashes(facts, config)) is not None:
        yield Failed(failures.of_error(error, now), warmup.jitter())
    if phase is not Phase.READY:
        return
    if facts.swap is not None and facts.swap.overlaps:
        yield from _due_beside(facts, facts.swap.step, book, config, now)
    if facts.attempts.count and book.ready_at is not None and now >= book.ready_at + HEALTHY_RESETS_S:
        yield StayedHealthy()
    if quiet and facts.swap is None and life.desired.want is Want.LOADED and unused(config, book, now):
        yield Wished(replace(life.desired, want=Want.UNLOADED, by=By.IDLE, at=now), again=False)


def _due_beside(facts: Facts, step: SwapStep, book: Logbook, config: SlotConfig, now: float) -> Iterator[Happening]:
    if now >= facts.deadline:
        began = {SwapStep.STARTING: book.load_started, SwapStep.WARMING: book.warm_started}.get(step)
        limit_s = warmup.PULL_STALL_S if began is None else now - began
        yield Beside(Failed(failures.of_deadline(step, limit_s, now), warmup.jitter()))
    elif step is SwapStep.WAITING and (error := too_many_clashes(facts, config)) is not None:
        yield Crowded(error.message)


def too_many_clashes(facts: Facts, config: SlotConfig) -> Hal0Error | None:
    """A port that the operator fixed is not replaced by another; else a few are tried."""
    if facts.port_tries and config.port:
        return Hal0Error("slot.port_taken", f"cannot use port {config.port}: another program has it")
    if facts.port_tries >= PORT_TRIES:
        return Hal0Error("slot.no_free_port", f"cannot start: {facts.port_tries} ports in a row were taken")
    return None


def unused(config: SlotConfig, book: Logbook, now: float) -> bool:
    """Quiet for so long that the slot is to be unloaded."""
    if config.unload_after_s <= 0 or config.pinned or book.last_used is None:
        return False
    return now - book.last_used >= config.unload_after_s
