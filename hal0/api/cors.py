"""Tells browsers which pages of other origins may call `/v1`, on every answer and when they ask first."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from aiohttp import web

from hal0.access.pages import answer_headers, page_allowed, preflight_headers
from hal0.config.access import AccessConfig
from hal0.errors import Hal0Error

_NONE: Final[Mapping[str, str]] = MappingProxyType({})


class Cors:
    def __init__(self, config: Callable[[], AccessConfig]) -> None:
        self._config = config

    def headers(self, request: web.Request) -> Mapping[str, str]:
        """What an answer to this request carries: something only for an allowed page."""
        origin = request.headers.get("Origin")
        if origin is None or not page_allowed(origin, request.path, self._config().cors_origins):
            return _NONE
        return answer_headers(origin)

    def preflight(self, request: web.Request) -> web.Response | None:
        """The answer to a browser that asks whether a page may call; None for any other request.

        Raises access.origin_not_allowed.
        """
        if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers:
            return None
        origin = request.headers.get("Origin", "")
        if not page_allowed(origin, request.path, self._config().cors_origins):
            message = f"cannot let pages of {origin[:200]!r} call {request.path}"
            raise Hal0Error("access.origin_not_allowed", message)
        wanted = request.headers.get("Access-Control-Request-Headers")
        private = request.headers.get("Access-Control-Request-Private-Network") == "true"
        return web.Response(status=204, headers=preflight_headers(origin, wanted, private_network=private))


CORS: Final = web.AppKey("cors", Cors)
