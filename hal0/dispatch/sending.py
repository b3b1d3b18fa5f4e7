"""One admitted request, from the gate to its end: sent the way its provider says, counted out whatever happens."""

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

from aiohttp import web
from yarl import URL

from hal0.dispatch.asked import Asked
from hal0.dispatch.body import Body
from hal0.dispatch.downstream import Downstream
from hal0.dispatch.gallery import Gallery
from hal0.dispatch.gate import Admitted
from hal0.dispatch.peek import Peek
from hal0.dispatch.pool import Pool
from hal0.dispatch.proxy import Outbound, Relay
from hal0.dispatch.resolve import Decision
from hal0.dispatch.serve import ServedExchange
from hal0.dispatch.surface import BodyKind, PathRow
from hal0.dispatch.trace import Trace
from hal0.dispatch.upstream_http import Connection
from hal0.lib.aio import cancelled
from hal0.providers.base import Forward, InferRequest, Serve
from hal0.slots.handle import Serving, SlotHandle, SlotSnapshot
from hal0.vocab import OnClientGone

# Answers like these say that the container should be looked at now.
_SUSPICIOUS: Final = ("upstream.unreachable", "upstream.broken")


class Sending(NamedTuple):
    """A request on its way to its slot."""

    asked: Asked
    row: PathRow
    body: Body
    peek: Peek
    trace: Trace
    decision: Decision
    handle: SlotHandle
    down: Downstream


class Sender:
    """Sends requests to slots. `close()` when the server has stopped: nobody finishes in the background then."""

    def __init__(self, pool: Pool, gallery: Gallery, time: Callable[[], float], *, between_bytes_s: float) -> None:
        self._pool = pool
        self._gallery = gallery
        self._time = time
        self.between_bytes_s = between_bytes_s  # from the next request on
        self._draining: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        for task in list(self._draining):
            await cancelled(task)

    async def send(self, it: Sending, admitted: Admitted, begun: Connection | None = None) -> web.StreamResponse:
        """Until the answer is with the client. `begun` is a connection on which the slot has been asked already."""
        serving, snapshot = admitted
        if it.trace.admitted_at is None:
            it.trace.admitted_at = self._time()
        if it.trace.queue_position is not None:
            it.down.headers["X-Hal0-Queue-Position"] = str(it.trace.queue_position)
        relay, draining = None, False
        try:
            asks = inference(it.row, it.peek, it.decision, snapshot)
            inferred = _as_it_is(it) or snapshot.provider.infer(asks)
            if isinstance(inferred, Serve):
                return await self._exchange(it, snapshot).run(inferred, serving)
            relay = Relay(self._pool, self._outbound(it, admitted, inferred), it.down, it.trace, self._time, begun)
            serving.on_abort(relay.abort, lambda: it.down.bytes_out)
            return await relay.run()
        except (asyncio.CancelledError, ConnectionError):  # the client left
            draining = relay is not None and snapshot.on_client_gone is OnClientGone.DRAIN
            raise
        finally:
            if it.trace.code in _SUSPICIOUS:
                it.handle.suspect()
            elif it.trace.code == "upstream.timeout":
                silent_s = snapshot.first_byte_timeout_s if it.trace.head_at is None else self.between_bytes_s
                it.handle.suspect(silent_s=silent_s)
            if relay is not None and draining:
                self._drain(relay, serving)
            else:
                if relay is not None:
                    relay.release()
                serving.end()

    def _exchange(self, it: Sending, slot: SlotSnapshot) -> ServedExchange:
        """Nothing comes before all of it is there: what the first byte may take is what any sign of it may take."""
        return ServedExchange(
            it.asked,
            it.row.path,
            it.body,
            it.down,
            it.trace,
            self._time,
            self._gallery,
            deadline_s=slot.first_byte_timeout_s,
        )

    def _outbound(self, it: Sending, admitted: Admitted, forward: Forward) -> Outbound:
        return Outbound(
            endpoint=admitted.serving.endpoint,
            forward=forward,
            query=query_of(it.asked),
            client_headers=it.asked.raw_headers,
            body=it.body,
            first_byte_s=admitted.snapshot.first_byte_timeout_s,
            between_bytes_s=self.between_bytes_s,
            method=it.row.method,
            drains=admitted.snapshot.on_client_gone is OnClientGone.DRAIN,
            defaults=admitted.snapshot.request_defaults if it.row.body is BodyKind.JSON else {},
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


def _as_it_is(it: Sending) -> Forward | None:
    """What follows the slot's name in the path, for an engine that is asked directly."""
    if it.row.body is not BodyKind.RAW:
        return None
    return Forward("/" + URL(it.asked.raw_path, encoded=True).raw_path.split("/", 3)[3])


def inference(row: PathRow, peek: Peek, decision: Decision, slot: SlotSnapshot) -> InferRequest:
    """What the provider is asked."""
    return InferRequest(
        path=row.path,
        capability=row.capability,
        model=decision.model or slot.model or "",
        stream=peek.stream,
        encoding_format=peek.encoding_format,
        demo=slot.demo,
    )


def query_of(asked: Asked) -> bytes:
    """The query string as the client wrote it, with its question mark; b"" without one."""
    path = asked.raw_path
    if "?" not in path:
        return b""
    return ("?" + path.partition("?")[2].partition("#")[0]).encode("utf-8", "surrogateescape")
