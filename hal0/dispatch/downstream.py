"""The client's side of a proxied answer: starts it once, keeps it alive while it waits, and ends it honestly."""

import asyncio
from typing import Final

from aiohttp import web

from hal0.dispatch.frames import KEEPALIVE, at_boundary, error_event
from hal0.dispatch.surface import Dialect
from hal0.errors import Hal0Error

# A client that takes nothing for this long after its answer has ended will not see the end anyway.
UNFLUSHED_S: Final = 2.0
# Inside a stream comments come less often than before it: engines have pings of their own.
_INSIDE_FACTOR: Final = 1.5


class Downstream:
    """One answer to one client. `headers` are hal0's own; they count until the answer starts.

    `keepalive_s` is None unless comments may fill the silence of this request's stream.
    """

    def __init__(self, request: web.Request, dialect: Dialect, request_id: str, *, keepalive_s: float | None) -> None:
        self.headers: dict[str, str] = {"X-Request-ID": request_id}
        self.bytes_out = 0
        self.is_events = False
        self._request = request
        self._dialect = dialect
        self._request_id = request_id
        self._response: web.StreamResponse | None = None
        self._tail = b""
        self._loop = asyncio.get_running_loop()
        self._keepalive_s = keepalive_s
        self._wrote_at = self._loop.time()
        self._flowing = False
        self._timer: asyncio.TimerHandle | None = None
        self._comment: asyncio.Task[None] | None = None
        if keepalive_s is not None:
            self._timer = self._loop.call_later(keepalive_s, self._quiet)

    @property
    def started(self) -> bool:
        return self._response is not None

    async def start(self, status: int, reason: str | None, headers: list[tuple[str, str]]) -> None:
        """Send the head; afterwards only `write`, `finish` and `fail` remain."""
        response = web.StreamResponse(status=status, reason=reason, headers=[*headers, *self.headers.items()])
        content_type = response.headers.get("Content-Type", "")
        self.is_events = content_type.startswith("text/event-stream")
        if self.is_events:
            response.headers["X-Accel-Buffering"] = "no"
        else:
            self._stop_comments()
        self._response = response
        await response.prepare(self._request)

    async def settle(self) -> None:
        """Wait for a comment that is just being written; from here on bytes of the answer flow."""
        if self._comment is not None:
            await self._comment
            self._comment = None
        self._flowing = True

    async def write(self, data: bytes) -> None:
        assert self._response is not None
        self.bytes_out += len(data)
        self._wrote_at = self._loop.time()
        self._tail = data[-4:] if len(data) >= 4 else (self._tail + data)[-4:]
        await self._response.write(data)

    async def finish(self) -> web.StreamResponse:
        """The answer is complete."""
        assert self._response is not None
        self._stop_comments()
        await self._response.write_eof()
        return self._response

    async def fail(self, error: Hal0Error) -> web.StreamResponse:
        """The answer has begun and cannot be completed: say so where the format allows it, never look complete.

        Returning normally would end a chunked answer as if it were whole, and an abort would throw away the error
        in front of a slow reader; so the connection is closed after what is queued has been flushed.
        """
        assert self._response is not None
        self.close()
        transport = self._request.transport
        if transport is None or transport.is_closing():
            return self._response
        self._watch(transport, transport.get_write_buffer_size())
        if self.is_events:
            end = b"" if at_boundary(self._tail) else b"\n\n"
            await self._response.write(end + error_event(error, self._dialect, self._request_id))
        transport.close()
        return self._response

    def hurry(self) -> None:
        """The answer will be ended by hal0: a client that does not read must not hold that up."""
        transport = self._request.transport
        if transport is not None:
            self._watch(transport, transport.get_write_buffer_size())

    def close(self) -> None:
        """No more comments."""
        self._stop_comments()
        if self._comment is not None:
            self._comment.cancel()
            self._comment = None

    def _watch(self, transport: asyncio.WriteTransport, waiting: int) -> None:
        """Abort once nothing of what is queued has moved for UNFLUSHED_S."""

        def look() -> None:
            left = transport.get_write_buffer_size()
            if not left:
                return
            if left < waiting:
                self._watch(transport, left)
            else:
                transport.abort()

        self._loop.call_later(UNFLUSHED_S, look)

    # Keep-alive.

    def _stop_comments(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._keepalive_s = None

    def _quiet(self) -> None:
        """The timer's call: it looks at the clock rather than being moved for every chunk."""
        self._timer = None
        if self._keepalive_s is None:
            return
        interval = self._keepalive_s * (_INSIDE_FACTOR if self._flowing else 1.0)
        due = self._wrote_at + interval
        now = self._loop.time()
        if now < due:
            self._timer = self._loop.call_at(due, self._quiet)
            return
        if at_boundary(self._tail) and self._comment is None and not self._stalled():
            self._comment = self._loop.create_task(self._write_comment())
            self._comment.add_done_callback(self._commented)
        self._wrote_at = now
        self._timer = self._loop.call_later(interval, self._quiet)

    def _stalled(self) -> bool:
        """A client that does not even read what is there needs no comment."""
        transport = self._request.transport
        return transport is None or transport.is_closing() or transport.get_write_buffer_size() > 0

    async def _write_comment(self) -> None:
        if self._response is None:
            await self.start(200, None, [("Content-Type", "text/event-stream"), ("Cache-Control", "no-cache")])
        assert self._response is not None
        await self._response.write(KEEPALIVE)

    def _commented(self, task: asyncio.Task[None]) -> None:
        if self._comment is task:
            self._comment = None
        if not task.cancelled():
            task.exception()  # a client that left ends the request by itself
