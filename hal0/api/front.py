"""One client's connection. Ordinary requests for models are taken here, everything else is aiohttp's.

aiohttp's server takes a small request twice as long as all that hal0 does with it. So a connection starts here: as
long as its requests are whole, small and plainly spelled POSTs of exact `/v1` paths, nothing stands between the
client's bytes and the dispatcher. With the first that is not, the connection becomes aiohttp's for good, which sees
that request from its first byte on. Access is checked by the same door, and failures look the same.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any, Final, NamedTuple, cast

from aiohttp import web

from hal0.api.arrival import Arrival
from hal0.api.crowd import Crowd
from hal0.api.errors import refusal
from hal0.api.heads import read
from hal0.api.ids import new_request_id
from hal0.api.middleware import Check
from hal0.dispatch.dispatcher import Dispatcher
from hal0.dispatch.downstream import Downstream
from hal0.dispatch.express import Express
from hal0.dispatch.headers import END, LENGTH
from hal0.dispatch.lane import Lane
from hal0.dispatch.surface import PathRow
from hal0.dispatch.unforeseen import unexpected
from hal0.errors import Hal0Error
from hal0.lib.aio import Room, Signal
from hal0.lib.outbox import Outbox
from hal0.vocab import Access

_log: Final = logging.getLogger("hal0.api")
_METHOD: Final = b"POST "
_OTHER_END: Final = b"\n\n"  # of a head whose lines do not end as they have to
_HEAD_BYTES: Final = 16 * 1024
# A request that is waited for whole. Beyond, a body is read while it comes, and may wait on disk.
_WHOLE_BYTES: Final = 64 * 1024


class Parts(NamedTuple):
    """What all connections share. `rows` are the exact paths; `otherwise` makes aiohttp's protocol for a connection."""

    dispatcher: Dispatcher
    check: Check
    rows: Mapping[str, PathRow]
    otherwise: Callable[[], asyncio.Protocol]
    idle_s: float
    crowd: Crowd


class Fronts:
    """Makes the protocol of every new connection; knows those that have not become aiohttp's."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._open: set[Front] = set()
        self._left = Signal()
        self.outbox = Outbox(asyncio.get_running_loop())

    def __call__(self) -> asyncio.Protocol:
        return Front(self._parts, self)

    def came(self, front: "Front") -> bool:
        """Whether there is room for it."""
        self._open.add(front)
        return self._parts.crowd.admits(front, self._open)

    def left(self, front: "Front") -> None:
        self._open.discard(front)
        self._left.notify()

    async def stop(self, grace_s: float) -> None:
        """No request begins any more; those under way have the grace time, then they are ended."""
        for front in list(self._open):
            front.finish()
        try:
            async with asyncio.timeout(grace_s):
                while self._open:
                    await self._left.wait()
        except TimeoutError:
            for front in list(self._open):
                front.cut()
            while self._open:
                await self._left.wait()


class Front(asyncio.Protocol):
    """One connection: `_lane` is what its last head was found to mean, `_waiting` what came ahead of its turn."""

    def __init__(self, parts: Parts, fronts: Fronts) -> None:
        self._parts = parts
        self._fronts = fronts
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiting = b""
        self._lane: Lane | None = None
        self._arrival: Arrival | None = None
        self._row: PathRow | None = None
        self._request_id = ""
        self._key = b""
        self._stamp: object = None
        self._express: Express | None = None
        self._task: asyncio.Task[None] | None = None
        self._room = Room()
        self._paused = False
        self._finishing = False
        self._heard_at = self._loop.time()
        self._timer = self._loop.call_later(parts.idle_s, self._look)

    # What the transport says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        room = self._fronts.came(self)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if not room:  # but the machine's owner gets in
                self.leave()

    def data_received(self, data: bytes) -> None:
        if not self._waiting or END in self._waiting:  # a head that comes in drops keeps no connection
            self._heard_at = self._loop.time()
        data = self._waiting + data if self._waiting else data
        if not self._busy:
            self._take(data)
            return
        self._waiting = data
        if len(data) > _WHOLE_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._waiting = b""  # nobody is left to answer
        self._timer.cancel()
        self._fronts.left(self)
        self.resume_writing()
        self._break_off()

    def pause_writing(self) -> None:
        self._room.pause()

    def resume_writing(self) -> None:
        self._room.resume()
        self._go_on_reading()

    async def drain(self) -> None:
        """Until the client has taken most of what was written."""
        await self._room.wait()
        if self._transport is None:
            raise ConnectionResetError("the client left")

    # What the crowd asks.

    @property
    def quiet_since(self) -> float | None:
        busy = self._express is not None or self._task is not None
        return None if busy or self._transport is None or self._transport.is_closing() else self._heard_at

    def leave(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # What a request says of its end.

    def send(self, answer: bytes) -> None:
        if self._transport is not None:
            self._fronts.outbox.post(self._transport, answer)

    def done(self) -> None:
        self._express = self._task = None
        self._heard_at = self._loop.time()
        if self._finishing:
            self._close()
        else:
            self._go_on_reading()

    def go_on(self, work: Coroutine[Any, Any, web.StreamResponse]) -> None:
        self._express = None
        self._task = self._loop.create_task(self._see_through(work))

    # What the server says when it stops.

    def finish(self) -> None:
        """No other request on this connection."""
        self._finishing = True
        if self._express is None and self._task is None:
            self._close()

    def cut(self) -> None:
        self._break_off()
        self._fronts.outbox.flush()
        if self._transport is not None:
            self._transport.abort()

    # Requests.

    @property
    def transport(self) -> asyncio.Transport | None:
        return self._transport

    @property
    def _busy(self) -> bool:
        return self._express is not None or self._task is not None or self._room.full

    def _take(self, data: bytes) -> None:
        """Begin the first request in these bytes, if it is whole."""
        end = data.find(END)
        length = LENGTH.search(data, 0, end + 2) if end > 0 else None
        if length is None:
            # A head that is still coming is waited for; whether it is ordinary is seen then.
            comes = end < 0 and _OTHER_END not in data
            if comes and len(data) <= _HEAD_BYTES and data.startswith(_METHOD[: len(data)]):
                self._waiting = data
                return
            self._hand_over(data)
            return
        body_at = end + len(END)
        whole = body_at + int(length[1])
        # The head without the length of its body: what else follows from it is known from the last time.
        key = data[: length.start(1)] + data[length.end(1) : body_at]
        if end > _HEAD_BYTES or whole > _WHOLE_BYTES or not (key == self._key or self._meet(key, data[:body_at])):
            self._hand_over(data)
        elif len(data) < whole:
            self._waiting = data
        else:
            self._waiting = data[whole:]
            self._request(data[body_at:whole])

    def _meet(self, key: bytes, head: bytes) -> bool:
        """Read a head that is not the last one's; whether it is an ordinary one, of a path that is known."""
        heading = read(head)
        row = None if heading is None else self._parts.rows.get(heading.target)
        if heading is None or row is None:
            return False
        self._key, self._lane = key, None
        self._arrival, self._row = Arrival(heading, self), row
        return True

    def _request(self, body: bytes) -> None:
        parts, lane, arrival = self._parts, self._lane, self._arrival
        assert arrival is not None
        request_id = self._request_id = arrival.own_id or new_request_id()
        if lane is None or self._stamp != parts.check.stamp():
            self._stamp = parts.check.stamp()
            self.go_on(self._first(arrival, body))
            return
        try:
            parts.check.used(lane.principal)
        except Hal0Error as error:
            self._turned_away(error)
            self._refuse(error)
            self._loop.call_soon(self._next)
            return
        try:
            express = parts.dispatcher.at_once(lane, body, request_id, self)
        except Exception as error:  # as around every request: the client gets JSON, and we the traceback
            self._mistake(error)
            self._loop.call_soon(self._next)
            return
        if express is None:
            self.go_on(parts.dispatcher.answer(lane, body, request_id))
        elif self._task is None:
            self._express = express

    async def _first(self, arrival: Arrival, body: bytes) -> web.StreamResponse:
        """The first request with this head: who sends it, the door has to find out."""
        parts = self._parts
        self._lane = None
        try:
            principal = await parts.check(arrival, Access.INFERENCE)
        except Hal0Error as error:
            self._turned_away(error)
            raise
        assert self._row is not None
        self._lane = lane = Lane(arrival, self._row, principal)
        return await parts.dispatcher.answer(lane, body, self._request_id)

    def _turned_away(self, error: Hal0Error) -> None:
        """What the dispatcher never sees is remembered all the same."""
        assert self._arrival is not None
        self._parts.dispatcher.turned_away(self._arrival, self._request_id, error.status, error.code)

    async def _see_through(self, work: Coroutine[Any, Any, web.StreamResponse]) -> None:
        """What aiohttp and the middleware do around a handler."""
        try:
            goes_on = bool((await work).keep_alive)
        except Hal0Error as error:
            goes_on = self._refuse(error)
        except ConnectionError:  # the client left
            goes_on = False
        except Exception as error:  # the outermost line of a request: the client gets JSON and we the traceback
            goes_on = self._mistake(error)
        if goes_on:
            self.done()
        else:
            self._task = None
            self._close()

    def _mistake(self, error: Exception) -> bool:
        """What nobody foresaw, which is being handled; whether the connection goes on."""
        _log.exception("request %s failed", self._request_id)
        return self._refuse(unexpected(error))

    def _hand_over(self, data: bytes) -> None:
        """From this request on the connection is aiohttp's."""
        transport = self._transport
        if transport is None or self._finishing:
            self._close()
            return
        self._fronts.outbox.flush()  # the heir writes behind the answers before
        if self._room.full:  # and would never hear that the client does not read them
            self._waiting = data
            return
        self._timer.cancel()
        self._fronts.left(self)
        self._waiting = b""
        if self._paused:
            self._paused = False  # from here on the heir alone says when to read
            transport.resume_reading()
        heir = self._parts.otherwise()
        transport.set_protocol(heir)
        heir.connection_made(transport)
        heir.data_received(data)

    def _refuse(self, error: Hal0Error) -> bool:
        """Tell the client, as `errors.error_response` does; whether the connection goes on."""
        assert self._arrival is not None
        assert self._row is not None
        down = Downstream(
            self._arrival, self._row.dialect, self._request_id, self._parts.dispatcher.clock, keepalive_s=None
        )
        headers, body = refusal(error, self._row.dialect, self._request_id)
        down.headers.update(headers)
        self._fronts.outbox.flush()
        try:
            down.answer(error.status, HTTPStatus(error.status).phrase, (), body)
        except ConnectionError:
            return False
        return True

    def _next(self) -> None:
        """After an answer in the turn of its request: of many that came ahead, each in a turn of its own, not in the
        call of the one before."""
        if self._express is None and self._task is None:
            self.done()

    def _go_on_reading(self) -> None:
        """Begin what came ahead of its turn, unless something is under way or the client does not read."""
        if self._busy:
            return
        data, self._waiting = self._waiting, b""
        if data:
            self._take(data)
        transport = self._transport
        if self._paused and len(self._waiting) <= _WHOLE_BYTES and transport is not None and not transport.is_closing():
            self._paused = False
            transport.resume_reading()

    def _break_off(self) -> None:
        """The client has left, or has to."""
        task, express = self._task, self._express
        self._task = self._express = None
        if task is not None:
            # In the next turn: one that is cancelled before its first step never runs, and lets go of nothing.
            self._loop.call_soon(task.cancel)
        elif express is not None:
            express.leave()

    def _close(self) -> None:
        self._fronts.outbox.flush()
        if self._transport is not None:
            self._transport.close()

    def _look(self) -> None:
        """Silence ends the connection, also inside a head, or while the client does not read what it asked for; inside
        a body, it is aiohttp's business."""
        due = self._heard_at + self._parts.idle_s
        if self._express is not None or self._task is not None or self._loop.time() < due:
            self._timer = self._loop.call_later(self._parts.idle_s, self._look)
        elif self._room.full and self._transport is not None:
            self._transport.abort()
        elif END in self._waiting:
            self._hand_over(self._waiting)
        else:
            self._close()
