"""Runs requests that a provider answers itself (Serve): the other way besides forwarding bytes."""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Final

from aiohttp import web

from hal0.dispatch.asked import Asked
from hal0.dispatch.body import Body
from hal0.dispatch.downstream import Downstream
from hal0.dispatch.form import NotForm, parts_of
from hal0.dispatch.gallery import Gallery, Picture
from hal0.dispatch.headers import RawHeaders
from hal0.dispatch.trace import Trace
from hal0.errors import Hal0Error
from hal0.providers.base import Part, Serve
from hal0.slots.handle import Serving

# Where the pictures of `keep` are asked for; their names follow.
PICTURES: Final = "/v1/images/results/"
_HOST: Final = re.compile(r"[A-Za-z0-9._:\[\]-]+")


class ServedExchange:
    """The provider's view of one request; see hal0.providers.base.Exchange."""

    def __init__(
        self,
        asked: Asked,
        path: str,
        body: Body,
        down: Downstream,
        trace: Trace,
        clock: Callable[[], float],
        gallery: Gallery,
        *,
        deadline_s: float,
    ) -> None:
        """`clock` is the event loop's."""
        self.path = path
        self.at = trace.at
        self.deadline_s = deadline_s
        self._asked = asked
        self._body = body
        self._down = down
        self._trace = trace
        self._clock = clock
        self._gallery = gallery
        self._response: web.StreamResponse | None = None

    @property
    def size(self) -> int:
        return self._body.size

    async def read_body(self) -> bytes:
        return b"".join([piece async for piece in self._body.pieces()])

    async def read_form(self) -> Sequence[Part] | None:
        if not self._body.boundary:
            return None
        data = await self.read_body()
        try:
            return await asyncio.to_thread(parts_of, data, self._body.boundary)
        except NotForm as error:
            raise Hal0Error("request.invalid_form", f"cannot read the body as a form: {error}") from None

    async def send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self._answers(status)
        self._response = self._down.answer(status, HTTPStatus(status).phrase, _raw(headers), body)

    async def start(self, status: int, headers: Mapping[str, str]) -> None:
        self._answers(status)
        self._down.start(status, HTTPStatus(status).phrase, _raw(headers), None)

    async def write(self, data: bytes) -> None:
        if not self._down.write(data):
            await self._down.drained()

    async def keep(self, picture: bytes, content_type: str) -> str:
        return origin_of(self._asked) + PICTURES + await self._gallery.keep(Picture(picture, content_type))

    async def run(self, serve: Serve, serving: Serving) -> web.StreamResponse:
        """Until the provider has answered; raises what it raises, or the error that hal0 ended it with."""
        ended_by: list[Hal0Error] = []
        self._trace.sent_at = self._clock()  # all that the provider does is the engine's work, as a client sees it
        work = asyncio.ensure_future(serve.handler(self, serving.endpoint))

        def abort(error: Hal0Error) -> None:
            ended_by.append(error)
            work.cancel()

        serving.on_abort(abort, lambda: self._down.bytes_out)
        try:
            await work
        except asyncio.CancelledError:
            work.cancel()  # the client left
            if ended_by:
                raise ended_by[0] from None
            raise
        except Hal0Error as error:
            self._trace.failed(error)
            raise
        if self._down.started and self._response is None:
            return self._down.finish()
        if self._response is None:
            raise Hal0Error("system.internal", f"cannot answer {self.path}: the provider sent nothing")
        return self._response

    def _answers(self, status: int) -> None:
        trace = self._trace
        trace.status, trace.head_at = status, self._clock()
        self._down.headers["X-Hal0-Overhead-Ms"] = f"{trace.overhead_ms(trace.head_at) or 0.0:.2f}"


def origin_of(asked: Asked) -> str:
    """Where the client finds hal0, as it or a proxy between said: nobody else reads what this is for."""
    scheme = "https" if asked.headers.get("X-Forwarded-Proto", "").strip().lower() == "https" else "http"
    named = (asked.headers.get(name, "") for name in ("X-Forwarded-Host", "Host"))
    return f"{scheme}://{next((host for host in named if _HOST.fullmatch(host)), '127.0.0.1')}"


def _raw(headers: Mapping[str, str]) -> RawHeaders:
    return [(name.encode("latin-1"), value.encode("utf-8")) for name, value in headers.items()]
