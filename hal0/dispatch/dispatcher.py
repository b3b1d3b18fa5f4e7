"""Ties a request's way together: peek, resolve, gate, proxy, record."""

import asyncio
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from aiohttp import web

from hal0.access.keys import without_secrets
from hal0.access.principal import NOBODY, Principal
from hal0.config.dispatch import DispatchConfig
from hal0.dispatch.abroad import Abroad, Crossing
from hal0.dispatch.asked import Asked
from hal0.dispatch.body import Body, Spool
from hal0.dispatch.cutting import Cuttable
from hal0.dispatch.downstream import Downstream
from hal0.dispatch.express import Express, Host, House, Request
from hal0.dispatch.gallery import Gallery
from hal0.dispatch.gate import Gate, hold_header
from hal0.dispatch.inlining import Fetch, Inlining, fetched
from hal0.dispatch.intake import invite, refuse, take
from hal0.dispatch.lane import Lane
from hal0.dispatch.media import suspicious
from hal0.dispatch.noted import Noted, honestly
from hal0.dispatch.pace import Pace
from hal0.dispatch.peek import Peek, parsed
from hal0.dispatch.pool import Pool
from hal0.dispatch.resolve import Ask, Decision, Outcome, Passage, Refusal, resolve, wants_lists
from hal0.dispatch.sending import Sender, Sending, query_of
from hal0.dispatch.surface import BodyKind, PathRow
from hal0.dispatch.table import Registry, Table, TableSource
from hal0.dispatch.trace import Trace
from hal0.errors import Hal0Error
from hal0.lib.clock import Clock, stopwatch
from hal0.observe.decisions import Decisions
from hal0.slots.handle import SlotHandle, Slots, SlotSnapshot
from hal0.upstreams.upstreams import Upstreams
from hal0.vocab import SlotName

_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})
_REMEMBERED: Final = 256  # decisions for the present table; clients ask for the same few models again and again


class Dispatcher:
    """Answers `/v1` requests from slots and upstreams. `close()` when the server has stopped."""

    def __init__(
        self,
        slots: Slots,
        registry: Registry,
        upstreams: Upstreams,
        decisions: Decisions,
        clock: Clock,
        config: DispatchConfig,
        spool_dir: Path,
        fetch: Fetch = fetched,
    ) -> None:
        self._slots = slots
        self._registry = registry
        self._decisions = decisions
        self._clock = clock
        self._time = stopwatch(asyncio.get_running_loop())
        self._config = config
        self._tables = TableSource(slots, registry, upstreams)
        self._upstreams = upstreams
        self._abroad = Abroad(upstreams, self._time)
        self._gate = Gate(slots, clock, config, Pace(decisions, self._time))
        self._pool = Pool(connect_s=config.connect_timeout_s)
        self._spool = Spool(spool_dir)
        self._inlining = Inlining(lambda: self._config, fetch, self._spool)
        self.gallery = Gallery(self._spool)
        self._sender = Sender(self._pool, self.gallery, self._time, between_bytes_s=config.between_bytes_timeout_s)
        self._cuttable = Cuttable()
        between_s = config.between_bytes_timeout_s
        self._house = House(self._pool, self._sender, self._cuttable, decisions, clock, self._time, between_s)
        self._decided: dict[tuple[str, str | None], Decision] = {}
        self._decided_by: Table | None = None

    @property
    def clock(self) -> Clock:
        """What answers and records are dated by."""
        return self._clock

    def apply(self, config: DispatchConfig) -> None:
        """Another configuration is in force: from the next request on, and for the turns of those that wait."""
        between_s = config.between_bytes_timeout_s
        self._config, self._decided_by = config, None
        self._gate.apply(config)
        self._pool.connect_s, self._sender.between_bytes_s = config.connect_timeout_s, between_s
        self._house = self._house._replace(between_bytes_s=between_s)

    def table(self) -> Table:
        """The routing table as it is now."""
        return self._tables.current()

    def waiting(self, slot: SlotName) -> int:
        """How many requests wait at the gate of a slot."""
        return self._gate.waiting(slot)

    def refusal(self, slot: SlotName) -> Hal0Error | None:
        """What a plain request that goes to this slot would be refused with now; None: it would be taken, or held."""
        handle = self._handle(slot)
        own = handle.snapshot().hold_s
        return self._gate.refusal(handle, self._config.hold_s if own is None else own)

    async def close(self) -> None:
        await self._sender.close()
        await self._gate.close()
        self._pool.close()
        self.gallery.close()
        await self._spool.close()
        await self._decisions.close()

    async def handle(
        self,
        request: web.Request,
        row: PathRow,
        *,
        request_id: str,
        principal: Principal = NOBODY,
        headers: Mapping[str, str] = _NO_HEADERS,
    ) -> web.StreamResponse:
        """One request on one path of the surface. Raises Hal0Error while nothing has been sent to the client.

        `principal` was let in already, its limit to slots is looked at here; `headers` go into the answer.
        """
        trace = self._trace(request, request_id, principal)
        body = None
        with Noted(trace, self._decisions, self._time):
            try:
                refuse(request, row, self._config)
                invite(request)
                share = self._spool.of(principal.key_id or principal.session_id)
                body, peek = await take(request, row, share, self._config)
                self._read(trace, peek)
                trace.outcome = await self._outcome(row, trace, principal.slots)
                return await self._dispatch(request, row, body, peek, trace, headers)
            finally:
                if body is not None:
                    body.close()

    async def answer(self, lane: Lane, data: bytes, request_id: str) -> web.StreamResponse:
        """The same for a request whose whole body is here."""
        trace = self._trace(lane.asked, request_id, lane.principal)
        with Noted(trace, self._decisions, self._time):
            peek = parsed(data)
            self._read(trace, peek)
            trace.outcome = await self._outcome(lane.row, trace, lane.principal.slots)
            return await self._dispatch(lane.asked, lane.row, Body(data), peek, trace, _NO_HEADERS)

    def at_once(self, lane: Lane, data: bytes, request_id: str, host: Host) -> Express | None:
        """The same in this very turn, where a slot's answer is all there is to wait for; None: `answer` it."""
        began = self._time()
        try:
            peek = parsed(data)
            decision = None if peek.stream else self._plain_decision(lane, peek.model)
            handle = None if decision is None else self._slots.get(decision.slot)
            if decision is None or handle is None or suspicious(data):
                return None
            slot = handle.snapshot()
            forward = lane.forward(slot, decision, peek)
        except Hal0Error:  # `answer` meets it again, and tells
            return None
        admitted = None if forward is None else self._gate.straight(handle, slot)
        if forward is None or admitted is None:
            return None
        express = Express(self._house, lane, data, admitted, host, began)
        express.begin(forward.path)
        express.note(Request(request_id, self._clock.now(), peek, decision, handle))
        return express

    def cut(self, transport: asyncio.Transport, error: Hal0Error) -> bool:
        """End the request of this connection; its client is told the error. False when there is none."""
        return self._cuttable.cut(transport, error)

    def turned_away(
        self, asked: Asked, request_id: str, status: int, code: str | None, principal: Principal = NOBODY
    ) -> None:
        """Remember a request that ended before it was anybody's to answer."""
        trace = self._trace(asked, request_id, principal)
        trace.status, trace.code, trace.path = status, code, without_secrets(trace.path)
        self._decisions.add(trace.record(self._time()))

    def _trace(self, asked: Asked, request_id: str, principal: Principal) -> Trace:
        return Trace(request_id, self._clock.now(), self._time(), asked.method, asked.path, principal.key_id)

    def _read(self, trace: Trace, peek: Peek) -> None:
        trace.read_at = self._time()
        trace.asked_model, trace.stream = peek.model, peek.stream

    def _plain_decision(self, lane: Lane, model: str | None) -> Decision | None:
        """The decision for a slot, where no list of an upstream could make it another one; None: look closer."""
        if lane.principal.slots is not None:
            return None
        if self._tables.current() is not self._decided_by:
            self.decide(lane.row, model)
        return self._decided.get((lane.row.path, model))

    async def _outcome(self, row: PathRow, trace: Trace, slots: frozenset[SlotName] | None) -> Outcome:
        model, table = trace.asked_model, self._tables.current()
        if row.body is BodyKind.RAW and model not in table.slots:
            raise Hal0Error("slot.not_found", f"cannot find the slot {model!r}")
        outcome = self.decide(row, model, slots)
        if model is None or not wants_lists(model, outcome, table):
            return outcome
        began = self._time()
        fetched = await self._upstreams.prefetch(model)
        trace.lists_s = self._time() - began
        return self._resolved(row, model, slots, fetched, set(table.cold_for(model)) - fetched)

    async def _dispatch(
        self,
        asked: Asked,
        row: PathRow,
        body: Body,
        peek: Peek,
        trace: Trace,
        headers: Mapping[str, str],
    ) -> web.StreamResponse:
        patience_s, outcome = hold_header(asked.headers), trace.outcome
        if isinstance(outcome, Refusal):
            raise outcome.error
        assert outcome is not None
        keepalive_s = self._config.keepalive_s or None if row.keepalive and peek.stream else None
        down = Downstream(asked, row.dialect, trace.request_id, self._clock, keepalive_s=keepalive_s)
        down.headers.update(headers)
        down.say(outcome)
        if isinstance(outcome, Passage):
            own = {} if outcome.slot is None else self._handle(outcome.slot).snapshot().request_defaults
            crossing = Crossing(asked, row.abroad or row.path, query_of(asked), body, trace, outcome, down, own)
            return await honestly(down, trace, self._cuttable.run(asked.transport, self._abroad.send(crossing)))
        handle = self._handle(outcome.slot)
        sending = Sending(asked, row, body, peek, trace, outcome, handle, down)
        return await honestly(down, trace, self._cuttable.run(asked.transport, self._inlined(sending, patience_s)))

    async def _inlined(self, it: Sending, patience_s: float | None) -> web.StreamResponse:
        """With all media in the body, so that the slot has no address to call."""
        inlined = None if it.body.boundary else await self._inlining.inlined(it.body)
        if inlined is None:
            return await self._admitted(it, patience_s)
        it.trace.read_at = self._time()  # only now all of it is here
        try:
            return await self._admitted(it._replace(body=inlined), patience_s)
        finally:
            inlined.close()

    async def _admitted(self, it: Sending, patience_s: float | None) -> web.StreamResponse:
        """Through the gate of its slot, at once or after a wait."""
        admitted = self._gate.straight(it.handle, it.handle.snapshot())
        if admitted is None:
            if it.row.method == "GET" and not it.handle.snapshot().routable:
                raise _asleep(it.handle.snapshot())
            hold_s = self._hold_s(it.handle, it.peek, patience_s)
            admitted = await self._gate.enter(it.handle, it.trace, hold_s=hold_s, patience_s=patience_s)
        return await self._sender.send(it, admitted)

    def _handle(self, slot: SlotName) -> SlotHandle:
        handle = self._slots.get(slot)
        if handle is None:  # deleted since the table was built
            raise Hal0Error("slot.not_found", f"cannot answer: slot {slot!r} is gone")
        return handle

    def _hold_s(self, handle: SlotHandle, peek: Peek, asked_s: float | None) -> float:
        """The client's wish, else the slot's, else the server's."""
        if asked_s is not None:
            return asked_s
        own = handle.snapshot().hold_s
        if own is not None:
            return own
        return self._config.hold_stream_s if peek.stream else self._config.hold_s

    def decide(self, row: PathRow, model: str | None, slots: frozenset[SlotName] | None = None) -> Outcome:
        """Where a request with this path and model goes now; asks nobody and changes nothing.

        `slots` are those that the caller's key is limited to; None: no limit.
        """
        table = self._tables.current()
        if table is not self._decided_by:
            self._decided_by = table
            self._decided.clear()
        if slots is not None:
            return self._resolved(row, model, slots)
        known = self._decided.get((row.path, model))
        if known is not None:
            return known
        outcome = self._resolved(row, model, None)
        # With one candidate, and all lists known, nothing that changes with every request has a say.
        if isinstance(outcome, Decision) and len(outcome.candidates) == 1 and not wants_lists(model, outcome, table):
            self._remember((row.path, model), outcome)
        return outcome

    def _remember(self, asked: tuple[str, str | None], outcome: Decision) -> None:
        if len(self._decided) < _REMEMBERED:
            self._decided[asked] = outcome

    def _resolved(
        self,
        row: PathRow,
        model: str | None,
        slots: frozenset[SlotName] | None,
        fetched: Collection[str] = (),
        vain: Collection[str] = (),
    ) -> Outcome:
        ask = Ask(row, model, None if model is None else self._registry.fold(model), fetched, slots, vain)
        return resolve(ask, self._tables.current(), self._in_flight, strict=self._config.strict_models)

    def _in_flight(self, slot: SlotName) -> int:
        handle = self._slots.get(slot)
        return 0 if handle is None else handle.in_flight


def _asleep(slot: SlotSnapshot) -> Hal0Error:
    return Hal0Error(
        "slot.offline",
        f"cannot answer: slot {slot.name!r} is not loaded, and who only looks does not load it",
        details={"slot": slot.name},
        hint=f"hal0ctl slot load {slot.name}",
    )
