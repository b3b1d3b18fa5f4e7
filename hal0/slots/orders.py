"""One effect carried out from begin to end: how it went is a happening, whatever went wrong."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, assert_never

from hal0.errors import Hal0Error
from hal0.slots import failure as failures
from hal0.slots import happenings as h
from hal0.slots.effects import Clash, Effects, Stuck
from hal0.slots.need import NOTHING
from hal0.slots.record import Container, Failure, Progress
from hal0.slots.serving import InFlight
from hal0.slots.starts import Subject
from hal0.slots.state import Effect
from hal0.slots.tools import Tools
from hal0.slots.warmup import PULL_STALL_S, START_S, jitter, stop_s
from hal0.vocab import By, Role

log = logging.getLogger(__name__)

_ABORT_GRACE_S: Final = 5.0  # for streams that were told to end


@dataclass(frozen=True, slots=True)
class Order:
    """One effect to carry out, with everything it may look at: a value, taken when the effect starts."""

    effect: Effect
    subject: Subject
    model: str
    by: By  # who wants it so
    container: Container | None
    beside: Container | None  # what serves meanwhile, when the order is about the next container
    fault: Failure | None
    drain_s: float
    warmed: bool
    used_bytes: int | None
    stop_s: float
    requests: InFlight

    def the_container(self) -> Container:
        assert self.container is not None, "decide() asks for this only while there is a container"
        return self.container


def order_of(effect: Effect, subject: Subject, life: h.Life, requests: InFlight, *, warmed: bool) -> Order:
    """What is to be done now; `warmed`: the current container has been ready."""
    facts, beside = life.facts, life.overlaps
    fault = facts.next_fault if beside else facts.fault
    return Order(
        effect=effect,
        subject=subject,
        model=life.desired.model or "",
        by=life.desired.by,
        container=facts.next if beside else facts.current,
        beside=facts.current if beside else None,
        fault=fault,
        drain_s=_drain_s(subject, life),
        warmed=warmed and not beside,
        used_bytes=None if beside else facts.memory_bytes,
        stop_s=stop_s(fault),
        requests=requests,
    )


def _drain_s(subject: Subject, life: h.Life) -> float:
    """How long requests may finish: not at all in a container that is at fault."""
    facts = life.facts
    if facts.fault is not None and not failures.streams_go_on(facts.fault):
        return 0.0
    return subject.config.drain_s if facts.drain_s is None else facts.drain_s


async def carry_out(tools: Tools, order: Order, report: Callable[[h.Happening], None]) -> h.Happening:
    """Carry out one effect and say how it ended; what goes wrong is an answer too. `report` gets progress."""
    if order.beside is None:
        return await _carry_out(tools, order, report)
    ended = await _carry_out(tools, order, lambda happening: report(h.Beside(happening)))
    if isinstance(ended, h.Failed) and order.effect is Effect.ADMIT:
        return h.Crowded(ended.failure.message)
    return h.Beside(ended)


async def _carry_out(tools: Tools, order: Order, report: Callable[[h.Happening], None]) -> h.Happening:
    try:
        return await _work(tools, order, report)
    except Hal0Error as err:
        return _trouble(order, failures.of_error(err, tools.clock.now()))
    except Exception as err:  # the task's outermost line: an unforeseen error must not leave the slot waiting
        log.exception("slot %s: %s failed by a mistake of hal0's", order.subject.slot, order.effect)
        error = Hal0Error("system.internal", f"cannot {order.effect}: {err!r}")
        return _trouble(order, failures.of_error(error, tools.clock.now()))


def _trouble(order: Order, failure: Failure) -> h.Happening:
    if order.effect in (Effect.FETCH, Effect.ADMIT, Effect.LAUNCH):
        return h.Failed(failure, jitter())
    log.info("slot %s: cannot %s (%s); trying again", order.subject.slot, order.effect, failure.message)
    return h.EngineTrouble(failure.message)


async def _work(tools: Tools, order: Order, report: Callable[[h.Happening], None]) -> h.Happening:
    match order.effect:
        case Effect.FETCH:
            return await _fetch(tools, order, report)
        case Effect.ADMIT:
            return await _admit(tools, order, report)
        case Effect.LAUNCH:
            return await _launch(tools.effects, order, report)
        case Effect.DRAIN:
            return await _drain(order, report)
        case Effect.RETIRE:
            return await _retire(tools.effects, order, report)
        case Effect.BURY:
            return await _bury(tools.effects, order, tools.clock.now())
        case Effect.TURN:
            raise AssertionError("the actor turns by itself")
        case _:
            assert_never(order.effect)


async def _fetch(tools: Tools, order: Order, report: Callable[[h.Happening], None]) -> h.Happening:
    def on_progress(text: str, fraction: float | None) -> None:
        report(h.Advanced(Progress("pulling", fraction, text), tools.clock.now() + PULL_STALL_S))

    await tools.starts.fetch(order.subject, order.model, order.by, on_progress)
    return h.Fetched()


async def _admit(tools: Tools, order: Order, report: Callable[[h.Happening], None]) -> h.Happening:
    def waits(text: str) -> None:
        report(h.Advanced(Progress("waiting", None, text), tools.clock.now() + START_S))

    need = await tools.steward.make_room(order.subject.slot, waits, beside=order.beside is not None)
    return h.Admitted(need or NOTHING, tools.clock.now() + START_S)


async def _launch(effects: Effects, order: Order, report: Callable[[h.Happening], None]) -> h.Happening:
    container = order.the_container()
    try:
        started, secret = await effects.launch(order.subject, container, order.beside, lambda: report(h.Created()))
    except Clash as err:
        log.warning("slot %s: %s; taking the next port and generation", order.subject.slot, err)
        return h.Clashed(replace(container, role=Role.LEAVING, port=None) if err.stuck else None)
    return h.Launched(started, secret)


async def _drain(order: Order, report: Callable[[h.Happening], None]) -> h.Happening:
    """Let requests finish, then end them with a reason: their upstream side is closed first."""
    slot, requests = order.subject.slot, order.requests
    if requests.count:
        report(h.Advanced(Progress("draining", None, f"letting open requests finish ({requests.count})")))
    error = Hal0Error("slot.draining", f"slot {slot} is being unloaded: this answer was ended early")
    await emptied(requests, order.drain_s, error)
    return h.Drained()


async def emptied(requests: InFlight, drain_s: float, error: Hal0Error, container: str | None = None) -> None:
    """The requests (None: of every container) have `drain_s` to finish; then they are ended with `error`."""
    try:
        async with asyncio.timeout(drain_s):
            await requests.wait_empty(container)
    except TimeoutError:
        requests.abort_all(error, container)
        try:
            async with asyncio.timeout(_ABORT_GRACE_S):
                await requests.wait_empty(container)
        except TimeoutError:
            log.warning("requests did not end when told to (%s)", error.message)


async def _retire(effects: Effects, order: Order, report: Callable[[h.Happening], None]) -> h.Happening:
    container = order.the_container()
    report(h.Advanced(Progress("stopping", None, f"stopping {container.model}")))
    tail: tuple[str, ...] = ()
    if order.fault is not None and not order.fault.log_tail:
        tail = await effects.log_tail(container)
    try:
        await effects.retire(container, stop_s=order.stop_s)
    except Stuck as err:
        log.warning("slot %s: %s will not go (%s); quarantined", order.subject.slot, container.name, err)
        return h.Retired(replace(container, role=Role.LEAVING), tail)
    return h.Retired(log_tail=tail)


async def _bury(effects: Effects, order: Order, now: float) -> h.Happening:
    container = order.the_container()
    failure = await effects.bury(order.subject, container, warmed=order.warmed, used_bytes=order.used_bytes, now=now)
    try:
        await effects.remove(container)
    except Stuck as err:
        log.warning("slot %s: %s will not go (%s); quarantined", order.subject.slot, container.name, err)
        return h.Buried(failure, jitter(), replace(container, role=Role.LEAVING))
    return h.Buried(failure, jitter())
