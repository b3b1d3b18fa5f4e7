"""Runs requests that a provider answers itself (Serve): the other way besides forwarding bytes."""

import asyncio
from collections.abc import Callable, Mapping
from http import HTTPStatus

from aiohttp import web

from hal0.dispatch.body import Body
from hal0.dispatch.downstream import Downstream
from hal0.dispatch.trace import Trace
from hal0.errors import Hal0Error
from hal0.providers.base import Serve
from hal0.slots.handle import Serving


class ServedExchange:
    """The provider's view of one request; see hal0.providers.base.Exchange."""

    def __init__(self, path: str, body: Body, down: Downstream, trace: Trace, clock: Callable[[], float]) -> None:
        """`clock` is the event loop's."""
        self.path = path
        self._body = body
        self._down = down
        self._trace = trace
        self._clock = clock
        self._response: web.StreamResponse | None = None

    async def read_body(self) -> bytes:
        return b"".join([piece async for piece in self._body.pieces()])

    async def send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        trace = self._trace
        trace.status, trace.head_at = status, self._clock()
        self._down.headers["X-Hal0-Overhead-Ms"] = f"{trace.overhead_ms(trace.head_at) or 0.0:.2f}"
        raw = [(name.encode("latin-1"), value.encode("utf-8")) for name, value in headers.items()]
        self._response = self._down.answer(status, HTTPStatus(status).phrase, raw, body)

    async def run(self, serve: Serve, serving: Serving) -> web.StreamResponse:
        """Until the provider has answered; raises what it raises, or the error that hal0 ended it with."""
        ended_by: list[Hal0Error] = []
        self._trace.sent_at = self._clock()  # all that the provider does is the engine's work, as a client sees it
        work = asyncio.ensure_future(serve.handler(self, serving.endpoint))

        def abort(error: Hal0Error) -> None:
            ended_by.append(error)
            work.cancel()

        serving.on_abort(abort)
        try:
            await work
        except asyncio.CancelledError:
            work.cancel()  # the client left
            if ended_by:
                raise ended_by[0] from None
            raise
        if self._response is None:
            raise Hal0Error("system.internal", f"cannot answer {self.path}: the provider sent nothing")
        return self._response
