"""Moves one request to a slot and its answer back: bytes in, bytes out."""

import asyncio
from collections.abc import Callable, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from aiohttp import web

from hal0.dispatch.answers import Head
from hal0.dispatch.body import Body
from hal0.dispatch.downstream import Downstream
from hal0.dispatch.edits import cuts_of, request_of
from hal0.dispatch.headers import RawHeaders, is_encoded, request_end, request_start, retry_after_s, retyped
from hal0.dispatch.mark import Mark
from hal0.dispatch.pool import Pool
from hal0.dispatch.rewording import parsed, phrase, told
from hal0.dispatch.rewrite import Splice, growth
from hal0.dispatch.trace import Trace
from hal0.dispatch.upstream_http import Connection, Stale
from hal0.dispatch.usage import Meter
from hal0.errors import Hal0Error
from hal0.outbound import REDIRECTS
from hal0.providers.base import Answer, AnswerMode, Endpoint, Forward

# Up to here head and body go out in one write; beyond, copying costs more than a second write.
_ONE_WRITE_BYTES: Final = 64 * 1024
# An answer that hal0 has to read whole (INSPECT, or an error behind a stream that has begun).
_MAX_READ_BYTES: Final = 64 << 20
# What an engine answers to what it has no better word for; its provider may have one (`Forward.explain`).
_OWN_FAULT: Final = 500
# A client that left a slot with `on_client_gone = "drain"` holds it this much longer at most.
DRAIN_LIMIT_S: Final = 60.0


class Outbound(NamedTuple):
    """What goes to the slot. `query` is the client's, with its question mark, or b"".

    `defaults` are members of a JSON body, for one that leaves them out. `drains`: a client that leaves does not end it.
    """

    endpoint: Endpoint
    forward: Forward
    query: bytes
    client_headers: RawHeaders
    body: Body
    first_byte_s: float
    between_bytes_s: float
    method: str = "POST"
    drains: bool = False
    defaults: Mapping[str, Any] = MappingProxyType({})


class Relay:
    """One proxied request. `abort` may come from outside at any moment of it."""

    __slots__ = (
        *("_pool", "_out", "_down", "_trace", "_address", "_connection", "_aborted", "_clock", "_mark", "_meter"),
    )
    _meter: Meter

    def __init__(
        self,
        pool: Pool,
        out: Outbound,
        down: Downstream,
        trace: Trace,
        clock: Callable[[], float],
        begun: Connection | None = None,
    ) -> None:
        """`begun` is a connection on which the request has been sent already."""
        self._pool = pool
        self._out = out
        self._down = down
        self._trace = trace
        self._address = (out.endpoint.host, out.endpoint.port)
        self._connection = begun
        self._aborted: Hal0Error | None = None
        self._clock = clock
        replacing = out.forward.substitute
        self._mark = None if replacing is None else Mark(replacing.needle, replacing.put())

    def abort(self, error: Hal0Error) -> None:
        """hal0 ends this request: the slot's side first, then the client is told."""
        self._aborted = error
        if self._connection is not None:
            self._connection.abort(error)
        if self._down.started:
            self._down.hurry()

    async def run(self) -> web.StreamResponse:
        """Until the answer is with the client. Raises Hal0Error only while the slot's answer has not begun."""
        try:
            head = await self._ask()
        except Hal0Error as error:
            self._trace.failed(error)
            raise
        self._trace.head_at = self._clock()
        self._down.flow()
        if self._down.started:
            return await self._continue(head)
        self._down.headers["X-Hal0-Overhead-Ms"] = f"{self._trace.overhead_ms(self._clock()) or 0.0:.2f}"
        self._trace.status = head.status
        if self._out.forward.answer is AnswerMode.INSPECT and self._is_convertible(head):
            return await self._converted(head)
        if head.status in REDIRECTS:
            message = f"cannot use the engine's answer: it leads elsewhere ({head.status})"
            raise Hal0Error("upstream.broken", message, hint="hal0ctl slot logs NAME")
        if self._is_reworded(head):
            return await self._failed(head)
        assert self._connection is not None
        if self._connection.complete and not head.is_events:
            return self._whole(head)
        self._down.start(head.status, head.reason, head.headers, self._length(head))
        return await self._stream()

    def release(self) -> None:
        """The end, whatever it was: the connection goes back to the pool, or is closed when its answer flows."""
        if self._connection is not None:
            self._pool.give_back(self._address, self._connection)
            self._connection = None

    async def drain(self) -> None:
        """The client left: let the slot finish what it is doing, unread, for at most DRAIN_LIMIT_S."""
        try:
            async with asyncio.timeout(DRAIN_LIMIT_S):
                if self._connection is not None:
                    await self._connection.head()
                    while await self._connection.chunk(self._out.between_bytes_s):
                        pass
        except (TimeoutError, Hal0Error, Stale):
            pass  # nobody is left to be told
        finally:
            self.release()

    # Towards the slot.

    async def _ask(self) -> Head:
        """Send the request and wait for the head; once more when a reused connection turned out to be dead."""
        begun = self._connection
        cuts = () if begun else await cuts_of(self._out.body, self._out.forward, self._out.defaults)
        connection = begun or self._pool.take(self._address)
        if connection is not None:
            try:
                return await (connection.head() if begun else self._ask_on(connection, cuts))
            except Stale:
                self._connection = None
        return await self._ask_on(await self._pool.connect(self._address), cuts)

    async def _ask_on(self, connection: Connection, cuts: tuple[Splice, ...]) -> Head:
        self._connection = connection
        self._trace.connected_at = self._clock()
        if self._aborted is not None:
            raise self._aborted
        out = self._out
        read = out.forward.answer is AnswerMode.INSPECT or self._mark is not None
        identity = read or self._down.may_speak
        target = out.forward.path.encode("utf-8", "surrogateescape") + out.query
        head = request_start(out.method, target, out.client_headers, out.endpoint, identity=identity)
        length = out.body.size + growth(cuts)
        head += request_end(length if length or out.method != "GET" else None)
        if not cuts and out.body.in_memory and out.body.size <= _ONE_WRITE_BYTES:
            connection.send_whole(head + out.body.data, out.first_byte_s)
        else:
            await connection.send(head, out.body.pieces(cuts), out.first_byte_s)
        self._trace.sent_at = self._clock()
        return await connection.head()

    # Towards the client.

    def _length(self, head: Head) -> int | None:
        """How long the answer will be, where that is known; a marked one becomes longer than its slot said."""
        return head.length if self._mark is None else None

    async def _stream(self) -> web.StreamResponse:
        """Relay until the end; a break after the head cannot be raised any more, so it ends the stream instead."""
        assert self._connection is not None
        mark, down = self._mark, self._down
        passes = down.passes if mark is None else None
        self._meter = self._trace.measured(self._clock)
        try:
            while not await self._connection.pour(self._pass_on, self._out.between_bytes_s, passes):
                await down.drained()
        except Hal0Error as error:
            self._trace.failed(error)
            return down.fail(error)
        if mark is not None and (held := mark.end()):
            down.write(held)
        return down.finish()

    def _pass_on(self, data: bytes) -> bool:
        """Called for every part that does not pass by itself; see `upstream_http.Take`."""
        self._meter.saw(data)
        if self._mark is not None:
            data = self._mark.feed(data)
        try:
            return not data or self._down.write(data)
        except ConnectionError:
            if not self._out.drains:
                raise  # ends the slot's side in this very turn
            return False

    def _whole(self, head: Head) -> web.StreamResponse:
        """A small answer that came in one piece goes out in one piece."""
        assert self._connection is not None
        body = self._connection.arrived()
        self._trace.measured(self._clock).saw(body)
        return self._down.answer(head.status, head.reason, head.headers, self._marked(body))

    def _marked(self, body: bytes) -> bytes:
        return body if self._mark is None else self._mark.feed(body) + self._mark.end()

    async def _continue(self, head: Head) -> web.StreamResponse:
        """The client already has a 200 and comments: an event stream goes on, anything else becomes one error."""
        if head.status == 200 and head.is_events and not is_encoded(head.headers):
            self._trace.status = head.status
            return await self._stream()
        status, body = head.status, await self._read_all()
        if self._out.forward.answer is AnswerMode.INSPECT and self._is_convertible(head):
            made = await self._convert(body)
            status, body = (made.status, made.body) if isinstance(made, Answer) else (status, made)
        if (known := self._explanation(head, body)) is not None:
            self._trace.failed(known)
            return self._down.fail(known)
        error = Hal0Error(
            "upstream.broken",
            f"cannot go on: the engine answered {told(status, body)}",
            details={"status": status, "answer": parsed(body)},
            retry_after_s=retry_after_s(head.headers),
        )
        self._trace.code, self._trace.status = error.code, status
        return self._down.fail(error)

    # Answers that the provider has to look at.

    def _is_convertible(self, head: Head) -> bool:
        return (
            head.status == 200
            and self._out.forward.convert is not None
            and (head.get(b"content-type") or b"").startswith(b"application/json")
        )

    def _is_reworded(self, head: Head) -> bool:
        """Whether there may be other words than the engine's for its failure."""
        explained = head.status == _OWN_FAULT and self._out.forward.explain is not None
        return explained or (self._down.rewords and head.status >= HTTPStatus.BAD_REQUEST)

    async def _failed(self, head: Head) -> web.StreamResponse:
        """The engine's error, for which its provider may have a better word."""
        answer = await self._read_first()
        if (known := self._explanation(head, answer)) is not None:
            raise known
        return self._down.answer_error(head.status, head.reason, head.headers, self._marked(answer))

    def _explanation(self, head: Head, answer: bytes) -> Hal0Error | None:
        """The provider's word for what its engine calls a fault of its own."""
        explain = self._out.forward.explain
        return explain(answer) if explain is not None and head.status == _OWN_FAULT else None

    async def _converted(self, head: Head) -> web.StreamResponse:
        answer = await self._read_first()
        self._trace.measured(self._clock).saw(answer)
        made = await self._convert(answer)
        if isinstance(made, bytes):
            return self._down.answer(head.status, head.reason, head.headers, self._marked(made))
        self._trace.status = made.status
        headers = retyped(head.headers, made.content_type)
        return self._down.answer(made.status, phrase(made.status), headers, self._marked(made.body))

    async def _convert(self, answer: bytes) -> bytes | Answer:
        """What the provider makes of a whole answer."""
        convert, body = self._out.forward.convert, self._out.body
        assert convert is not None
        request = await request_of(body, self._out.forward.fields)
        return await asyncio.to_thread(convert, request, answer)

    async def _read_first(self) -> bytes:
        """The whole answer, before any of it goes out. A sign of life meanwhile would be the head of another answer."""
        self._down.close()
        return await self._read_all()

    async def _read_all(self) -> bytes:
        read = bytearray()
        assert self._connection is not None
        while chunk := await self._connection.chunk(self._out.between_bytes_s):
            read += chunk
            if len(read) > _MAX_READ_BYTES:
                raise Hal0Error("upstream.broken", "cannot read the engine's answer: it is too large")
        return bytes(read)
