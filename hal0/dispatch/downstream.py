"""The client's side of a proxied answer: starts it once, keeps it alive while it waits, and ends it honestly.

The bytes go straight to the client's transport. aiohttp reads the request and keeps the connection; its response
objects would take more time than all else that happens to a small request in hal0.
"""

import asyncio
from contextlib import suppress
from email.utils import formatdate
from functools import lru_cache
from typing import Final

from aiohttp import HttpVersion11, web

from hal0.dispatch.asked import Asked
from hal0.dispatch.chunks import lone_size
from hal0.dispatch.frames import FRAME_ENDS, KEEPALIVE, at_boundary, error_event
from hal0.dispatch.headers import BODILESS, RawHeaders, answer_head, get, is_encoded, lines, retyped
from hal0.dispatch.resolve import Decision, Passage
from hal0.dispatch.rewording import for_anthropic
from hal0.dispatch.silence import Silence
from hal0.dispatch.surface import Dialect, id_headers
from hal0.dispatch.unpacking import unpacked
from hal0.dispatch.usage import may_say
from hal0.errors import Hal0Error
from hal0.lib.clock import Clock

# A client that takes nothing for this long after its answer has ended will not see the end anyway.
UNFLUSHED_S: Final = 2.0
# One that takes nothing for so long in the midst of it has left without a word, and others wait for its place.
UNREAD_S: Final = 300.0
# Inside a stream comments come less often than before it: engines have pings of their own.
_INSIDE_FACTOR: Final = 1.5
# Where transports begin to say that their buffer is full.
_HIGH_WATER_BYTES: Final = 64 * 1024
_TAIL_BYTES: Final = 4  # enough to see whether an event has ended
_EVENT_END: Final = b"\n\n\r\n"  # that of a chunk included
_EVENTS: Final = b"text/event-stream"
_COMMENTED: Final = ((b"Content-Type", _EVENTS), (b"Cache-Control", b"no-cache"))


class Sent(web.StreamResponse):
    """What aiohttp gets for an answer that was sent already: it only learns whether the connection goes on."""

    def __init__(self, *, keep_alive: bool) -> None:
        super().__init__()
        self._keep_alive = keep_alive

    @property
    def prepared(self) -> bool:
        return True

    async def prepare(self, _request: web.BaseRequest) -> None:
        return None

    async def write_eof(self, _data: object = b"") -> None:
        return None


# They hold nothing of any one request.
_SENT: Final = Sent(keep_alive=True)
_SENT_LAST: Final = Sent(keep_alive=False)


class Downstream:
    """One answer to one client. `headers` are hal0's own; they count until the answer starts.

    `keepalive_s` is None unless comments may fill the silence of this request's stream. Everything that sends raises
    ConnectionError when the client has left.
    """

    __slots__ = (
        *("headers", "bytes_out", "started", "is_events", "_asked", "_transport", "_dialect", "_request_id", "_clock"),
        *("_chunked", "_keep_alive", "_tail", "_keepalive_s", "_silence", "_seen_out"),
    )

    def __init__(
        self, asked: Asked, dialect: Dialect, request_id: str, clock: Clock, *, keepalive_s: float | None
    ) -> None:
        self.headers = id_headers(dialect, request_id)
        self.bytes_out = 0
        self.started = False
        self.is_events = False
        self._asked = asked
        self._transport = asked.transport  # None: the client left before anything began
        self._dialect = dialect
        self._request_id = request_id
        self._clock = clock
        self._chunked = False
        self._keep_alive = False
        self._tail = b""
        self._keepalive_s = keepalive_s
        self._silence: Silence | None = None
        if keepalive_s is not None:
            self._seen_out = 0
            self._silence = Silence(asyncio.get_running_loop(), self._was_heard, self._quiet)
            self._silence.limit(keepalive_s)

    def say(self, outcome: Decision | Passage) -> None:
        """Who answers, and by which rule."""
        if outcome.slot is not None:
            self.headers["X-Hal0-Slot"] = outcome.slot
        self.headers["X-Hal0-Rule"] = outcome.rule.value

    def answer(self, status: int, reason: str, headers: RawHeaders, body: bytes) -> web.StreamResponse:
        """A complete answer in one write."""
        self.close()
        head = self._begin(status, reason, headers, len(body))
        self.bytes_out = len(body)
        transport = self._send(head + body)
        if (waiting := transport.get_write_buffer_size()) > _HIGH_WATER_BYTES:
            self._watch(transport, waiting, UNREAD_S)
        return _SENT if self._keep_alive else _SENT_LAST

    @property
    def rewords(self) -> bool:
        """Whether this client reads errors in a shape that others than hal0 seldom have; then it is `answer_error`."""
        return self._dialect is Dialect.ANTHROPIC

    def answer_error(self, status: int, reason: str, headers: RawHeaders, body: bytes) -> web.StreamResponse:
        """Somebody else's error, whole; its words, its status and its headers, in the shape that this client reads."""
        made = for_anthropic(status, unpacked(headers, body), self._request_id) if self.rewords else None
        if made is None:
            return self.answer(status, reason, headers, body)
        return self.answer(status, reason, retyped(headers, "application/json"), made)

    def start(self, status: int, reason: str, headers: RawHeaders, length: int | None) -> None:
        """Send the head; afterwards only `write`, `finish` and `fail` remain. `length` is the body's, if known."""
        events = (get(headers, b"content-type") or b"").startswith(_EVENTS)
        if events:
            self.headers["X-Accel-Buffering"] = "no"
        self.is_events = events and not is_encoded(headers)  # what is packed has no room for words of hal0's own
        if self.is_events:
            length = None  # it would not be true any more with a word of hal0's own
        else:
            self.close()
        self._send(self._begin(status, reason, headers, length))

    @property
    def may_speak(self) -> bool:
        """Whether hal0 may have something to say amid the answer, which then has to come as it is, not packed."""
        return self._silence is not None

    def flow(self) -> None:
        """From here on it is bytes of the answer that come."""
        if self._silence is not None and self._keepalive_s is not None:
            self._silence.limit(self._keepalive_s * _INSIDE_FACTOR)

    def passes(self, data: bytes) -> bool:
        """Send on, as it came, what is the next event in a chunk of its own and says nothing that has to be kept.

        False: it is anything else, or cannot go at once, and nothing was done. Most tokens pass here, and here alone.
        """
        transport = self._transport
        if self._tail or not self.bytes_out or not self._chunked or not data.endswith(_EVENT_END) or may_say(data):
            return False
        size = lone_size(data)
        if not size or transport is None or transport.is_closing() or transport.get_write_buffer_size():
            return False
        transport.write(data)
        self.bytes_out += size
        return True

    def write(self, data: bytes) -> bool:
        """A part of the body; False when the client does not keep up: wait until it is `drained`."""
        self.bytes_out += len(data)
        if data.endswith(FRAME_ENDS):
            self._tail = b""  # as if nothing had come yet
        else:
            self._tail = data[-_TAIL_BYTES:] if len(data) >= _TAIL_BYTES else (self._tail + data)[-_TAIL_BYTES:]
        return self._send_part(data).get_write_buffer_size() <= _HIGH_WATER_BYTES

    async def drained(self) -> None:
        """Until the client has taken most of what was written; one that never does is let go."""
        try:
            async with asyncio.timeout(UNREAD_S):
                await self._asked.writer.drain()
        except TimeoutError:
            if self._transport is not None:
                self._transport.abort()
            raise ConnectionResetError("the client takes nothing any more") from None

    def finish(self) -> web.StreamResponse:
        """The answer is complete."""
        self.close()
        if self._chunked:
            self._send(b"0\r\n\r\n")
        return _SENT if self._keep_alive else _SENT_LAST

    def fail(self, error: Hal0Error) -> web.StreamResponse:
        """The answer has begun and cannot be completed: say so where the format allows it, never look complete.

        The last chunk would make it look whole, and an abort would throw away the error in front of a slow reader;
        so the connection is closed after what is queued has been flushed.
        """
        self.close()
        transport = self._transport
        if transport is not None and not transport.is_closing():
            self._watch(transport, transport.get_write_buffer_size(), UNFLUSHED_S)
            if self.is_events:
                end = b"" if at_boundary(self._tail) else b"\n\n"
                self._send_part(end + error_event(error, self._dialect, self._request_id))
            transport.close()
        return _SENT_LAST

    def hurry(self) -> None:
        """The answer will be ended by hal0: a client that does not read must not hold that up."""
        if self._transport is not None:
            self._watch(self._transport, self._transport.get_write_buffer_size(), UNFLUSHED_S)

    def cut(self) -> None:
        """Whatever was sent stays without an end, and nothing may follow it."""
        if self._transport is not None:
            self._transport.close()

    def close(self) -> None:
        """No more comments."""
        if self._silence is not None:
            self._silence.end()
            self._silence = None

    # Bytes.

    def _begin(self, status: int, reason: str, headers: RawHeaders, length: int | None) -> bytes:
        """The head, in the version that the client speaks: HTTP/1.0 knows no chunks, and closes unless told not to."""
        self.started = True
        new, known = self._asked.version >= HttpVersion11, length is not None or status in BODILESS
        self._chunked = new and not known
        self._keep_alive = self._asked.keep_alive and (new or known)
        own = self.headers
        own["Date"] = date(int(self._clock.now()))
        if self._chunked:
            own["Transfer-Encoding"] = "chunked"
        if self._keep_alive is not new:
            own["Connection"] = "keep-alive" if self._keep_alive else "close"
        return answer_head(status, reason, headers, lines(own), length)

    def _send_part(self, data: bytes) -> asyncio.WriteTransport:
        return self._send(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def _send(self, data: bytes) -> asyncio.WriteTransport:
        transport = self._transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client left")
        transport.write(data)
        return transport

    def _watch(self, transport: asyncio.WriteTransport, waiting: int, patience_s: float) -> None:
        """Abort once nothing of what is queued has moved for so long."""

        def look() -> None:
            left = transport.get_write_buffer_size()
            if not left:
                return
            if left < waiting:
                self._watch(transport, left, patience_s)
            else:
                transport.abort()

        asyncio.get_running_loop().call_later(patience_s, look)

    # Comments.

    def _was_heard(self) -> bool:
        before, self._seen_out = self._seen_out, self.bytes_out
        return before != self.bytes_out

    def _quiet(self, _seconds: float) -> None:
        if at_boundary(self._tail) and not self._stalled():
            with suppress(ConnectionError):  # whoever answers will meet it
                if not self.started:
                    self.start(200, "OK", _COMMENTED, None)
                self._send_part(KEEPALIVE)

    def _stalled(self) -> bool:
        """A client that does not even read what is there needs no comment."""
        transport = self._transport
        return transport is None or transport.is_closing() or transport.get_write_buffer_size() > 0


@lru_cache(maxsize=1)
def date(second: int) -> str:
    """The Date header of this second, which is the same for hundreds of answers."""
    return formatdate(second, usegmt=True)
