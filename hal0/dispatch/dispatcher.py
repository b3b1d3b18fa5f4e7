"""Ties a request's way together: peek, resolve, gate, proxy, record."""

import asyncio
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

from aiohttp import web

from hal0.access.principal import NOBODY, Principal
from hal0.config.dispatch import DispatchConfig
from hal0.dispatch.abroad import Abroad, Crossing
from hal0.dispatch.body import Body, Spool
from hal0.dispatch.downstream import Downstream
from hal0.dispatch.gate import Admitted, Gate, hold_header
from hal0.dispatch.intake import refuse, take
from hal0.dispatch.peek import Peek
from hal0.dispatch.pool import Pool
from hal0.dispatch.proxy import Outbound, Relay
from hal0.dispatch.resolve import Ask, Decision, Outcome, Passage, Refusal, resolve, wants_lists
from hal0.dispatch.serve import ServedExchange
from hal0.dispatch.surface import BodyKind, PathRow
from hal0.dispatch.table import Registry, Table, TableSource
from hal0.dispatch.trace import Trace
from hal0.errors import Hal0Error
from hal0.lib.clock import Clock
from hal0.observe.decisions import Decisions
from hal0.providers.base import Forward, InferRequest, Serve
from hal0.slots.handle import Serving, SlotHandle, Slots, SlotSnapshot
from hal0.upstreams.upstreams import Upstreams
from hal0.vocab import OnClientGone, SlotName

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})
_CLIENT_GONE: Final = 499
# Answers like these say that the container should be looked at now.
_SUSPICIOUS: Final = ("upstream.unreachable", "upstream.broken")
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
    ) -> None:
        self._slots = slots
        self._registry = registry
        self._decisions = decisions
        self._clock = clock
        self._time = asyncio.get_running_loop().time
        self._config = config
        self._tables = TableSource(slots, registry, upstreams)
        self._upstreams = upstreams
        self._abroad = Abroad(upstreams, self._time, between_bytes_s=config.between_bytes_timeout_s)
        self._gate = Gate(slots, clock, config)
        self._pool = Pool(connect_s=config.connect_timeout_s)
        self._spool = Spool(spool_dir)
        self._draining: set[asyncio.Task[None]] = set()
        self._decided: dict[tuple[str, str | None], Decision] = {}
        self._decided_by: Table | None = None

    def table(self) -> Table:
        """The routing table as it is now."""
        return self._tables.current()

    def waiting(self, slot: SlotName) -> int:
        """How many requests wait at the gate of a slot."""
        return self._gate.waiting(slot)

    async def close(self) -> None:
        for task in self._draining:
            task.cancel()
        await self._gate.close()
        await asyncio.gather(*self._draining, return_exceptions=True)
        self._pool.close()
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
        trace = Trace(request_id, self._clock.now(), self._time(), request.method, request.path, principal.key_id)
        body = None
        try:
            refuse(request, row, self._config)
            _go_on(request)
            body, peek = await take(request, row, self._spool, self._config)
            trace.read_at = self._time()
            trace.asked_model, trace.stream = peek.model, peek.stream
            trace.outcome = await self._outcome(row, peek.model, principal.slots)
            return await self._dispatch(request, row, body, peek, trace, headers)
        except Hal0Error as error:
            trace.failed(error)
            raise
        except (asyncio.CancelledError, ConnectionError):
            trace.status, trace.code = _CLIENT_GONE, "request.client_gone"
            raise
        except Exception:
            trace.status, trace.code = 500, "system.internal"
            raise
        finally:
            if body is not None:
                body.close()
            self._decisions.add(trace.record(self._time()))

    async def _outcome(self, row: PathRow, model: str | None, slots: frozenset[SlotName] | None) -> Outcome:
        if row.body is BodyKind.RAW and model not in self._tables.current().slots:
            raise Hal0Error("slot.not_found", f"cannot find the slot {model!r}")
        outcome = self.decide(row, model, slots)
        if wants_lists(model, outcome, self._tables.current()):
            return self._resolved(row, model, slots, await self._upstreams.prefetch())
        return outcome

    async def _dispatch(
        self,
        request: web.Request,
        row: PathRow,
        body: Body,
        peek: Peek,
        trace: Trace,
        headers: Mapping[str, str],
    ) -> web.StreamResponse:
        patience_s, outcome = hold_header(request.headers), trace.outcome
        if isinstance(outcome, Refusal):
            raise outcome.error
        assert outcome is not None
        keepalive_s = self._config.keepalive_s or None if row.keepalive and peek.stream else None
        down = Downstream(request, row.dialect, trace.request_id, self._clock, keepalive_s=keepalive_s)
        down.headers.update(headers)
        if outcome.slot is not None:
            down.headers["X-Hal0-Slot"] = outcome.slot
        down.headers["X-Hal0-Rule"] = outcome.rule.value
        try:
            if isinstance(outcome, Passage):
                crossing = Crossing(request, row.abroad or row.path, _query(request), body, trace, outcome, down)
                return await self._abroad.send(crossing)
            handle = self._handle(outcome.slot)
            admitted = self._gate.straight(handle) or await self._enter(row, handle, peek, patience_s, trace)
            return await self._send(_Sending(request, row, body, peek, trace, outcome, handle, down), admitted)
        except Hal0Error as error:
            if not down.started:
                raise
            trace.failed(error)
            return down.fail(error)
        except Exception:
            if down.started:
                down.cut()  # a second answer behind the first would be taken for a part of it
            raise
        finally:
            down.close()
            trace.bytes_out = down.bytes_out

    async def _enter(
        self, row: PathRow, handle: SlotHandle, peek: Peek, patience_s: float | None, trace: Trace
    ) -> Admitted:
        """Past the gate, for whoever has to stand before it."""
        if row.method == "GET" and not handle.snapshot().routable:
            raise _asleep(handle.snapshot())
        hold_s = self._hold_s(handle, peek, patience_s)
        return await self._gate.enter(handle, trace, hold_s=hold_s, patience_s=patience_s)

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

    async def _send(self, it: "_Sending", admitted: Admitted) -> web.StreamResponse:
        """The request is counted in: send it the way its provider says, and count it out when it has ended."""
        serving, snapshot = admitted
        it.trace.admitted_at = self._time()
        if it.trace.queue_position is not None:
            it.down.headers["X-Hal0-Queue-Position"] = str(it.trace.queue_position)
        relay, draining = None, False
        try:
            inferred = it.as_it_is() or snapshot.provider.infer(it.inference(snapshot))
            if isinstance(inferred, Serve):
                return await ServedExchange(it.row.path, it.body, it.down, it.trace).run(inferred, serving)
            relay = Relay(self._pool, self._outbound(it, admitted, inferred), it.down, it.trace, self._time)
            serving.on_abort(relay.abort)
            return await relay.run()
        except (asyncio.CancelledError, ConnectionError):  # the client left
            draining = relay is not None and snapshot.on_client_gone is OnClientGone.DRAIN
            raise
        finally:
            if it.trace.code in _SUSPICIOUS:
                it.handle.suspect()
            if relay is not None and draining:
                self._drain(relay, serving)
            else:
                if relay is not None:
                    relay.release()
                serving.end()

    def _outbound(self, it: "_Sending", admitted: Admitted, forward: Forward) -> Outbound:
        return Outbound(
            endpoint=admitted.serving.endpoint,
            forward=forward,
            query=_query(it.request),
            client_headers=it.request.raw_headers,
            body=it.body,
            first_byte_s=admitted.snapshot.first_byte_timeout_s,
            between_bytes_s=self._config.between_bytes_timeout_s,
            method=it.row.method,
        )

    def _drain(self, relay: Relay, serving: Serving) -> None:
        """Let the slot finish in the background, still counted in."""

        async def work() -> None:
            try:
                await relay.drain()
            finally:
                serving.end()

        task = asyncio.create_task(work())
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)

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
        # With one candidate nothing that changes with every request has a say.
        if isinstance(outcome, Decision) and len(outcome.candidates) == 1 and len(self._decided) < _REMEMBERED:
            self._decided[row.path, model] = outcome
        return outcome

    def _resolved(
        self, row: PathRow, model: str | None, slots: frozenset[SlotName] | None, fetched: Collection[str] = ()
    ) -> Outcome:
        ask = Ask(row, model, None if model is None else self._registry.fold(model), fetched, slots)
        return resolve(ask, self._tables.current(), self._in_flight, strict=self._config.strict_models)

    def _in_flight(self, slot: SlotName) -> int:
        handle = self._slots.get(slot)
        return 0 if handle is None else handle.in_flight


class _Sending(NamedTuple):
    """A request on its way to its slot."""

    request: web.Request
    row: PathRow
    body: Body
    peek: Peek
    trace: Trace
    decision: Decision
    handle: SlotHandle
    down: Downstream

    def as_it_is(self) -> Forward | None:
        """What follows the slot's name in the path, for an engine that is asked directly."""
        if self.row.body is not BodyKind.RAW:
            return None
        return Forward("/" + self.request.rel_url.raw_path.split("/", 3)[3])

    def inference(self, slot: SlotSnapshot) -> InferRequest:
        """What the provider is asked."""
        return InferRequest(
            path=self.row.path,
            capability=self.row.capability,
            model=self.decision.model or slot.model or "",
            stream=self.peek.stream,
            encoding_format=self.peek.encoding_format,
            demo=slot.demo,
        )


def _asleep(slot: SlotSnapshot) -> Hal0Error:
    return Hal0Error(
        "slot.offline",
        f"cannot answer: slot {slot.name!r} is not loaded, and who only looks does not load it",
        details={"slot": slot.name},
        hint=f"hal0ctl slot load {slot.name}",
    )


def _go_on(request: web.Request) -> None:
    """A client that asked first is told to send its body only here, after everything that refuses early."""
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(_CONTINUE)


def _query(request: web.Request) -> bytes:
    """The query string as the client wrote it, with its question mark; b"" without one."""
    path = request.raw_path
    if "?" not in path:
        return b""
    return ("?" + path.partition("?")[2].partition("#")[0]).encode("utf-8", "surrogateescape")
