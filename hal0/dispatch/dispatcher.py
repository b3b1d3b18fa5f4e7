"""Ties a request's way together: peek, resolve, gate, proxy, record."""

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web

from hal0.config.dispatch import DispatchConfig
from hal0.dispatch.body import Body, Spool
from hal0.dispatch.downstream import Downstream
from hal0.dispatch.gate import Admitted, Gate, hold_header
from hal0.dispatch.peek import Peek, read_json, refuse_early
from hal0.dispatch.pool import Pool
from hal0.dispatch.proxy import Outbound, Relay
from hal0.dispatch.resolve import Ask, Decision, Refusal, resolve
from hal0.dispatch.serve import ServedExchange
from hal0.dispatch.surface import PathRow
from hal0.dispatch.table import Registry, Table, TableSource
from hal0.dispatch.trace import Trace
from hal0.errors import Hal0Error
from hal0.lib.clock import Clock
from hal0.observe.decisions import Decisions
from hal0.providers.base import InferRequest, Serve
from hal0.slots.handle import SlotHandle, Slots
from hal0.vocab import OnClientGone, SlotName

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_CLIENT_GONE: Final = 499
# Answers like these say that the container should be looked at now.
_SUSPICIOUS: Final = ("upstream.unreachable", "upstream.broken")


class Dispatcher:
    """Answers `/v1` requests from slots. `close()` when the server has stopped."""

    def __init__(
        self,
        slots: Slots,
        registry: Registry,
        decisions: Decisions,
        clock: Clock,
        config: DispatchConfig,
        spool_dir: Path,
    ) -> None:
        self._slots = slots
        self._registry = registry
        self._decisions = decisions
        self._clock = clock
        self._config = config
        self._tables = TableSource(slots, registry)
        self._gate = Gate(clock)
        self._pool = Pool(connect_s=config.connect_timeout_s)
        self._spool = Spool(spool_dir)
        self._draining: set[asyncio.Task[None]] = set()

    def table(self) -> Table:
        """The routing table as it is now."""
        return self._tables.current()

    def waiting(self, slot: SlotName) -> int:
        """How many requests wait at the gate of a slot."""
        return self._gate.waiting(slot)

    async def close(self) -> None:
        for task in self._draining:
            task.cancel()
        await asyncio.gather(*self._draining, return_exceptions=True)
        self._pool.close()
        self._spool.close()
        await self._decisions.close()

    async def handle(
        self, request: web.Request, row: PathRow, *, request_id: str, key_id: str | None = None
    ) -> web.StreamResponse:
        """One request on one path of the surface. Raises Hal0Error while nothing has been sent to the client."""
        loop = asyncio.get_running_loop()
        trace = Trace(
            request_id=request_id,
            at=self._clock.now(),
            started_at=loop.time(),
            method=request.method,
            path=request.path,
            key_id=key_id,
        )
        try:
            refuse_early(request.headers, self._config.json_limit)
            body, peek = await self._read(request)
            try:
                trace.read_at = loop.time()
                return await self._dispatch(request, row, body, peek, trace)
            finally:
                body.close()
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
            self._decisions.add(trace.record(loop.time()))

    async def _read(self, request: web.Request) -> tuple[Body, Peek]:
        """The body. A client that asked first is told to go on only here, after everything that refuses early."""
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
            request.transport.write(_CONTINUE)
        return await read_json(request.content, self._spool, self._config.json_limit)

    async def _dispatch(
        self, request: web.Request, row: PathRow, body: Body, peek: Peek, trace: Trace
    ) -> web.StreamResponse:
        trace.asked_model, trace.stream = peek.model, peek.stream
        patience_s = hold_header(request.headers)
        outcome = self.decide(row, peek.model)
        trace.outcome = outcome
        if isinstance(outcome, Refusal):
            raise outcome.error
        handle = self._slots.get(outcome.slot)
        if handle is None:  # deleted since the table was built
            raise Hal0Error("slot.not_found", f"cannot answer: slot {outcome.slot!r} is gone")
        down = Downstream(request, row.dialect, trace.request_id, self._clock, keepalive_s=self._keepalive_s(row, peek))
        down.headers |= {"X-Hal0-Slot": outcome.slot, "X-Hal0-Rule": outcome.rule}
        with ExitStack() as stack:
            stack.callback(down.close)
            try:
                admitted = await self._gate.enter(
                    handle, stack, hold_s=self._hold_s(handle, peek, patience_s), patience_s=patience_s
                )
                trace.admitted_at = asyncio.get_running_loop().time()
                trace.queue_position = admitted.position
                if admitted.position is not None:
                    down.headers["X-Hal0-Queue-Position"] = str(admitted.position)
                return await self._send(
                    _Sending(request, row, body, peek, trace, outcome, handle, admitted, down), stack
                )
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
                trace.bytes_out = down.bytes_out

    def _keepalive_s(self, row: PathRow, peek: Peek) -> float | None:
        return self._config.keepalive_s or None if row.keepalive and peek.stream else None

    def _hold_s(self, handle: SlotHandle, peek: Peek, asked_s: float | None) -> float:
        """The client's wish, else the slot's, else the server's."""
        if asked_s is not None:
            return asked_s
        own = handle.snapshot().hold_s
        if own is not None:
            return own
        return self._config.hold_stream_s if peek.stream else self._config.hold_s

    async def _send(self, it: "_Sending", stack: ExitStack) -> web.StreamResponse:
        """The request is counted in: send it the way its provider says."""
        serving, snapshot = it.admitted.serving, it.admitted.snapshot
        inferred = snapshot.provider.infer(
            InferRequest(
                path=it.row.path,
                capability=it.row.capability,
                model=it.decision.model or snapshot.model or "",
                stream=it.peek.stream,
                encoding_format=it.peek.encoding_format,
                demo=snapshot.demo,
            )
        )
        if isinstance(inferred, Serve):
            return await ServedExchange(it.row.path, it.body, it.down, it.trace).run(inferred, serving)
        out = Outbound(
            endpoint=serving.endpoint,
            forward=inferred,
            query=_query(it.request),
            client_headers=it.request.raw_headers,
            body=it.body,
            first_byte_s=snapshot.first_byte_timeout_s,
            between_bytes_s=self._config.between_bytes_timeout_s,
        )
        relay = Relay(self._pool, out, it.down, it.trace)
        stack.callback(relay.release)
        serving.on_abort(relay.abort)
        try:
            response = await relay.run()
        except (asyncio.CancelledError, ConnectionError):  # the client left
            if snapshot.on_client_gone is OnClientGone.DRAIN:
                self._drain(relay, stack.pop_all())
            raise
        finally:
            if it.trace.code in _SUSPICIOUS:
                it.handle.suspect()
        return response

    def _drain(self, relay: Relay, stack: ExitStack) -> None:
        """Let the slot finish in the background, still counted in."""

        async def work() -> None:
            with stack:
                await relay.drain()

        task = asyncio.create_task(work())
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)

    def decide(self, row: PathRow, model: str | None) -> Decision | Refusal:
        """Where a request with this path and model goes now; asks nobody and changes nothing."""
        ask = Ask(row, model, None if model is None else self._registry.fold(model))
        return resolve(ask, self._tables.current(), self._in_flight, strict=self._config.strict_models)

    def _in_flight(self, slot: SlotName) -> int:
        handle = self._slots.get(slot)
        return 0 if handle is None else handle.in_flight


@dataclass(slots=True)
class _Sending:
    """A request that its slot has taken."""

    request: web.Request
    row: PathRow
    body: Body
    peek: Peek
    trace: Trace
    decision: Decision
    handle: SlotHandle
    admitted: Admitted
    down: Downstream


def _query(request: web.Request) -> bytes:
    """The query string as the client wrote it, with its question mark; b"" without one."""
    _, mark, query = request.raw_path.partition("?")
    return (mark + query.partition("#")[0]).encode("utf-8", "surrogateescape")
