"""A lean HTTP/1.1 client for slots: one request at a time per connection, bytes in and out.

The general client spends more on a small request than the engine does. Slots speak plain HTTP/1.1 on loopback, so
this one leaves out everything else: no redirects, cookies, TLS, decompression.
"""

import asyncio
from collections.abc import AsyncIterable, Callable
from typing import Final, cast

import httptools

from hal0.dispatch.answers import Familiar, Head, Whole
from hal0.dispatch.silence import Silence
from hal0.errors import Hal0Error
from hal0.lib.aio import Room
from hal0.lib.outbox import Outbox

# Read-ahead from a slot whose client reads slowly: enough to keep a fast client busy, little enough times 1000.
_HIGH_WATER_BYTES: Final = 64 * 1024
_LOW_WATER_BYTES: Final = 16 * 1024
_MAX_HEAD_BYTES: Final = 64 * 1024
_LENGTH: Final = b"content-length"
_LENGTH_LETTERS: Final = len(_LENGTH)


Take = Callable[[bytes], bool]
"""Gets bytes as they arrive, and answers whether it wants more.

May raise ConnectionError.
"""


class Stale(Exception):
    """A reused connection ended before a single byte of its answer: the request may be sent once more."""


class Connection(asyncio.Protocol):
    """One connection to a slot: `send`, `head`, then `pour` or `chunk` until the end, then back to the pool.

    Every wait ends in data, in a Hal0Error (upstream.unreachable before the head, upstream.broken after,
    upstream.timeout) or in what `abort` was given.
    """

    __slots__ = (
        *(
            "reused",
            "idle_since",
            "on_news",
            "_loop",
            "_outbox",
            "_transport",
            "_parser",
            "_familiar",
            "_waiter",
            "_take",
            "_pass",
            "_room",
        ),
        *("_error", "_busy", "_answered", "_paused", "_silence", "_heard", "_head", "_reason", "_length"),
        *("_headers", "_head_bytes", "_chunks", "_buffered", "_complete", "_between_chunks", "_sent", "_keep"),
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, outbox: Outbox) -> None:
        self.reused = False
        self.idle_since = 0.0
        self.on_news: Callable[[], None] | None = None  # called instead of waking who waits; they never do both
        self._loop = loop
        self._outbox = outbox
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._familiar = Familiar()
        self._waiter: asyncio.Future[None] | None = None
        self._take: Take | None = None
        self._pass: Take | None = None  # only beside `_take`
        self._room = Room()  # none while the slot does not read
        self._error: Exception | None = None
        self._busy = False
        self._answered = False
        self._paused = False
        self._heard = False
        self._silence = Silence(loop, self._was_heard, self._silent)
        self._reset()

    def _reset(self) -> None:
        self._head: Head | None = None
        self._reason = b""
        self._length: int | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._complete = False
        self._between_chunks = False  # and nothing of the next one is here
        self._sent = False
        self._keep = False

    # What the dispatcher does.

    @property
    def usable(self) -> bool:
        return self._error is None and self._transport is not None and not self._transport.is_closing()

    @property
    def complete(self) -> bool:
        """The whole answer is here, though it may not have been taken yet."""
        return self._complete

    @property
    def begun(self) -> Head | None:
        """The head of the answer, once it is here."""
        return self._head

    @property
    def failed(self) -> bool:
        """Nothing more will come; whoever asks for it is told why."""
        return self._error is not None

    def expects(self, most: int, between_bytes_s: float) -> bool:
        """Whether the answer has a length, of at most `most` bytes; then the rest of it is waited for."""
        length = None if self._head is None else self._head.length
        if length is None or length > most:
            return False
        self._silence.limit(between_bytes_s)
        return True

    async def send(self, head: bytes, pieces: AsyncIterable[bytes], first_byte_s: float) -> None:
        """Send one request; stops early when the answer is already there."""
        self._begin(first_byte_s)
        self._write(head)
        async for piece in pieces:
            if self._error is not None or self._head is not None:
                break
            self._write(piece)
            await self._room.wait()
        else:
            self._sent = True
        self._silence.begin()

    def send_whole(self, request: bytes, first_byte_s: float) -> None:
        """Send one request that fits into one write, at the end of this turn."""
        self._begin(first_byte_s)
        if self._transport is not None:
            self._outbox.post(self._transport, request)
        self._sent = True

    async def head(self) -> Head:
        while self._head is None:
            await self._wait()
        return self._head

    async def chunk(self, between_bytes_s: float) -> bytes:
        """The bytes that have arrived since the last call; b"" at the end of a complete answer."""
        while not self._chunks:
            if self._complete:
                return b""
            self._silence.limit(between_bytes_s)
            await self._wait()
        data = self.arrived()
        self._go_on()
        return data

    def arrived(self) -> bytes:
        """The bytes that are here and were not taken yet."""
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._buffered = 0
        return data

    async def pour(self, take: Take, between_bytes_s: float, passes: Take | None = None) -> bool:
        """Hand bytes to `take` in the very moment in which they arrive: nobody has to wake up for each of them.

        True at the end of a complete answer; False when `take` has said (with False) that it wants no more for now.
        `passes` is shown what comes between two chunks before anybody has read it, and says whether it dealt with it:
        only with a whole chunk may it do that.
        """
        self._take, self._pass = take, passes
        try:
            wanted = self._hand_over_all()
            self._go_on()
            while wanted and not self._complete:
                self._silence.limit(between_bytes_s)
                await self._wait()
                wanted = self._hand_over_all()
        finally:
            self._take = self._pass = None
        return self._complete and not self._chunks

    def abort(self, error: Exception) -> None:
        """End the exchange now; whoever waits gets `error`, bytes already here are still handed out."""
        self._fail(error)

    def close(self) -> None:
        """Let go of the connection at once; nothing more is delivered."""
        self._busy = False
        self._silence.end()
        if self._transport is not None:
            self._transport.abort()

    def finish(self) -> bool:
        """End of an exchange: whether the connection may carry another one; if not, it is closed."""
        self._busy = False
        if self._complete and self._sent and self._keep and not self._chunks and self.usable:
            self._silence.limit(0.0)
            self.idle_since = self._loop.time()
            return True
        self.close()
        return False

    # What the transport says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if not self._busy or self._complete:
            self.close()  # an engine that speaks out of turn cannot be trusted with the next request
            return
        self._heard = True
        if not self._answered:
            self._answered = True
            if (whole := self._familiar.look(data)) is not None:
                self._has(whole)
                return
        if self._between_chunks and self._pass is not None and self._pass(data):
            return
        if self._read(data):
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._silence.end()
        if self._ends_with_the_connection() and exc is None and self._error is None:
            self._complete = True
        elif self._busy and not self._complete:
            self._fail(self._lost())
        self._wake()
        self.resume_writing()

    def pause_writing(self) -> None:
        self._room.pause()

    def resume_writing(self) -> None:
        self._room.resume()

    # What the parser says.

    def on_message_begin(self) -> None:
        if self._complete:  # bytes behind an answer would be read as the beginning of the next one
            self._keep = False

    def on_status(self, data: bytes) -> None:
        self._reason += data

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head is not None:  # trailers are for one connection only
            return
        if len(name) == _LENGTH_LETTERS and name.lower() == _LENGTH:
            if self._length is not None:
                self._familiar.doubt()
            self._length = int(value)  # the parser has refused what is no number
        else:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._head is not None:
            raise ValueError("a second answer behind the first is nobody's")  # the parser fails, and with it the rest
        status = self._parser.get_status_code()
        if status >= 200:
            self._head = Head(status, self._reason.decode("latin-1"), tuple(self._headers), self._length)
        else:  # 1xx announces the real one
            self._familiar.doubt()
            self._reason = b""
            self._headers.clear()
            self._length = None

    def on_chunk_header(self) -> None:
        self._between_chunks = False

    def on_chunk_complete(self) -> None:
        self._between_chunks = True

    def on_body(self, data: bytes) -> None:
        self._chunks.append(data)
        self._buffered += len(data)

    def on_message_complete(self) -> None:
        if self._head is not None:
            self._complete = True
            self._keep = self._parser.should_keep_alive()
            self._familiar.learn(self._head, keep=self._keep)

    # What they share.

    def _has(self, whole: Whole) -> None:
        """The answer came in one piece that needs no parser."""
        self._head, body, self._keep = whole
        self._complete = True
        if body:
            self._chunks.append(body)
            self._buffered = len(body)
        self._wake()

    def _read(self, data: bytes) -> bool:
        """Let the parser read it; whether there is something for who waits."""
        if self._head is None:
            self._head_bytes += len(data)
        self._between_chunks = False
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(Hal0Error("upstream.broken", "cannot read the slot's answer: it is not HTTP"))
            return False
        # The parser says nothing of a size line that has begun and has no end yet.
        self._between_chunks = self._between_chunks and data.endswith(b"\n")
        if self._head is None and self._head_bytes > _MAX_HEAD_BYTES:
            self._fail(Hal0Error("upstream.broken", "cannot read the slot's answer: its headers have no end"))
        elif self._take is not None:
            return not self._hand_over_all() or self._complete  # else whoever pours sleeps on
        elif self._buffered > _HIGH_WATER_BYTES and not self._paused and not self._complete:
            assert self._transport is not None
            self._paused = True
            self._transport.pause_reading()
        return True

    def _begin(self, first_byte_s: float) -> None:
        self._reset()
        self._busy = True
        self._answered = False
        self._silence.begin()
        self._silence.limit(first_byte_s)

    def _hand_over_all(self) -> bool:
        """Pour out what is here; whether more is wanted."""
        if self._take is None or not self._chunks:
            return self._take is not None
        try:
            if not self._take(self.arrived()):
                self._take = self._pass = None
        except ConnectionError as error:  # the client left; whoever pours is told
            self._fail(error)
        return self._take is not None

    def _go_on(self) -> None:
        """Read again, if reading was paused because nobody took what had come."""
        if self._paused and self._transport is not None:
            self._paused = False
            self._silence.begin()
            self._transport.resume_reading()

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self.on_news is not None:
            self.on_news()
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: Exception) -> None:
        if self._error is None:
            self._error = error
        self._silence.end()
        if self._transport is not None:
            self._transport.abort()
        self._wake()
        self.resume_writing()

    def _was_heard(self) -> bool:
        heard, self._heard = self._heard, False
        return heard

    def _silent(self, seconds: float) -> None:
        if not self._paused:  # else it is the client who is slow
            message = f"cannot wait longer: the engine was silent for {seconds:g} s"
            self._fail(Hal0Error("upstream.timeout", message))

    def _lost(self) -> Exception:
        if self._head is not None:
            return Hal0Error("upstream.broken", "cannot finish the answer: the engine broke off")
        if self.reused and not self._answered:
            return Stale()
        return Hal0Error("upstream.unreachable", "cannot get an answer: the engine closed the connection")

    def _ends_with_the_connection(self) -> bool:
        """Without a length the end of the connection is the end of the answer (HTTP/1.0 style)."""
        head = self._head
        return head is not None and head.length is None and head.get(b"transfer-encoding") is None
