"""Server-sent events that last: frames as they come, heartbeats in the silence, an end when hal0 stops."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Final

from aiohttp import web

from hal0.access.principal import Principal
from hal0.api.middleware import PRINCIPAL_KEY
from hal0.errors import Hal0Error
from hal0.lib import jsonio
from hal0.lib.aio import cancelled

_log: Final = logging.getLogger("hal0.api")

HEARTBEAT_S: Final = 10.0  # clients take three missed ones for a dead server
_STALLED_S: Final = 60.0  # a client that takes no byte for so long has left without saying so
# Of one caller: each is told everything anew at its begin, and of every change by itself.
MOST_STREAMS: Final = 64
_HEARTBEAT: Final = b": heartbeat\n\n"
_HEADERS: Final = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def frame(data: bytes, *, event: str | None = None, event_id: str | None = None) -> bytes:
    """One event; `data` is JSON and therefore a single line."""
    name = b"" if event is None else b"event: %s\n" % event.encode()
    number = b"" if event_id is None else b"id: %s\n" % event_id.encode()
    return name + number + b"data: " + data + b"\n\n"


class Streams:
    """The open streams of one application."""

    def __init__(self, *, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._heartbeat_s = heartbeat_s
        self._stopping = asyncio.Event()
        self._open: Counter[str | None] = Counter()  # by the proof of who listens

    async def send(self, request: web.Request, frames: AsyncIterator[bytes]) -> web.StreamResponse:
        """Send frames until they end, the client leaves, or hal0 stops. Raises server.exhausted."""
        if request.method == "HEAD":
            return web.Response(headers=_HEADERS)
        with self._counted(request[PRINCIPAL_KEY]):
            return await self._sent(request, frames)

    @contextmanager
    def _counted(self, listener: Principal) -> Iterator[None]:
        proof = listener.key_id or listener.session_id
        if self._open[proof] >= MOST_STREAMS:
            raise Hal0Error(
                "server.exhausted",
                f"cannot open another event stream: {MOST_STREAMS} of yours are open",
                hint="Close one: a page or a program that listens to events.",
            )
        self._open[proof] += 1
        try:
            yield
        finally:
            self._open[proof] -= 1
            if not self._open[proof]:
                del self._open[proof]

    async def _sent(self, request: web.Request, frames: AsyncIterator[bytes]) -> web.StreamResponse:
        response = web.StreamResponse(headers=_HEADERS)
        await response.prepare(request)
        works = (_send(response, frames), self._beat(response), self._end())
        tasks = [asyncio.create_task(work, name=f"sse {request.path}") for work in works]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                await cancelled(task)
        for task in done:
            task.result()
        return response

    async def stop(self, _: web.Application) -> None:
        """When the server begins to stop: streams that would last for ever end now, not after the grace time."""
        self._stopping.set()

    async def _beat(self, response: web.StreamResponse) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_s)
            await _write(response, _HEARTBEAT)

    async def _end(self) -> None:
        await self._stopping.wait()


STREAMS: Final = web.AppKey("streams", Streams)


async def _send(response: web.StreamResponse, frames: AsyncIterator[bytes]) -> None:
    try:
        async for data in frames:
            await _write(response, data)
    except ConnectionError:
        raise
    except Exception as err:  # the outermost line of a task: headers are gone, so a failure can only be an event
        if not isinstance(err, Hal0Error):
            _log.exception("an event stream failed")
            err = Hal0Error("system.internal", "cannot go on: hal0 made a mistake")
        await _write(response, frame(jsonio.dumps(err.body()), event="error"))


async def _write(response: web.StreamResponse, data: bytes) -> None:
    try:
        async with asyncio.timeout(_STALLED_S):
            await response.write(data)
    except TimeoutError as err:
        raise ConnectionResetError("the client takes nothing any more") from err
