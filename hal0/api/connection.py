"""aiohttp's connection to a client, but for what it would say by itself: bytes that are no HTTP get hal0's error."""

import logging
from collections.abc import Callable, Collection
from typing import Any, Final, cast

from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import LineTooLong
from multidict import CIMultiDict, CIMultiDictProxy

from hal0.api.errors import error_response
from hal0.dispatch.unforeseen import unexpected
from hal0.errors import Hal0Error

_log: Final = logging.getLogger("hal0.api")

Factory = Callable[..., web.BaseRequest]


class Connection(web.RequestHandler):
    """Its own words for bad bytes would repeat them, in the answer and in the log: keys and all."""

    __slots__ = ()

    @property
    def quiet_since(self) -> float | None:
        """Of one that waits for a request; told by when aiohttp would end it, which is as far ahead for all."""
        waiter = self._waiter
        return None if waiter is None or waiter.done() else self._next_keepalive_close_time

    def leave(self) -> None:
        self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer for what never became a request; it ends the connection. Raises ConnectionError once one began."""
        if status < 500:
            _log.info("refused bytes from %s that are no HTTP (%s)", request.remote, type(exc).__name__)
            error = Hal0Error("request.invalid", f"cannot read the request: {_fault(exc)}")
        else:
            _log.error("a request from %s failed", request.remote, exc_info=exc)
            error = unexpected(exc)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun; a second one would be taken for a part of it")
        response = error_response(error, request.path, None)
        response.force_close()
        return response


def _fault(exc: BaseException | None) -> str:
    if isinstance(exc, LineTooLong):
        return "its address or one of its headers is longer than 8190 bytes"
    return "it is not proper HTTP"


class Connections(web.Server):
    """What `made`, aiohttp's own server of an application, is; but its connections are ours."""

    def __init__(self, made: web.Server) -> None:
        super().__init__(
            made.request_handler,
            request_factory=_expecting_nothing(made.request_factory),
            handler_cancellation=made.handler_cancellation,
            **made._kwargs,  # noqa: SLF001  what connections are made with; nothing public tells
        )

    @property
    def inherited(self) -> Collection[Connection]:
        """All that are open; every one is of our making."""
        return cast("Collection[Connection]", self._connections.keys())

    def __call__(self) -> web.RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)


def _expecting_nothing(make: Factory) -> Factory:
    """Makes requests whose expectations are seen in `raw_headers` alone, where `intake.invite` looks when it is time.

    aiohttp would ask for the body before anybody has looked who sends it, where there is no route; and refuse what it
    does not know, which may be passed over (RFC 9110 10.1.1), in words of its own and of the client's.
    """

    def made(message: RawRequestMessage, *rest: Any) -> web.BaseRequest:
        if "Expect" in message.headers:
            kept = CIMultiDict(message.headers)
            del kept["Expect"]
            message = message._replace(headers=CIMultiDictProxy(kept))
        return make(message, *rest)

    return made


class Runner(web.AppRunner):
    """aiohttp's runner of an application, with our connections."""

    @property
    def connections(self) -> Connections:
        """Of a runner that is set up."""
        assert isinstance(self.server, Connections)
        return self.server

    async def _make_server(self) -> web.Server:
        return Connections(await super()._make_server())
