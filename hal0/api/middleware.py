"""What every request passes: an id, the access check of its route, and one place that renders failures."""

import logging
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from aiohttp import web
from aiohttp.typedefs import Middleware

from hal0.access.principal import Principal
from hal0.api.arrival import Visit
from hal0.api.cors import Cors
from hal0.api.errors import SECURITY, error_response, from_http
from hal0.api.ids import new_request_id, own_request_id
from hal0.api.route import Handler, Route, route_of
from hal0.dispatch.intake import invite
from hal0.dispatch.unforeseen import unexpected
from hal0.errors import Hal0Error
from hal0.vocab import Access

_log: Final = logging.getLogger("hal0.api")


REQUEST_ID_KEY: Final = web.RequestKey("request_id", str)
PRINCIPAL_KEY: Final = web.RequestKey("principal", Principal)


class Check(Protocol):
    """Says who asks, or raises auth.* and access.* errors. Called before the body of a request is read."""

    async def __call__(self, visit: Visit, access: Access, /) -> Principal: ...

    def stamp(self) -> object:
        """Equal as long as the same head on the same connection has the same answer."""
        ...

    def used(self, principal: Principal) -> None:
        """Another request with that head came."""
        ...


# Hears how a request ended: its status, and the code of its error.
Told = Callable[[web.Request, int, str | None], None]


def edge(check: Check, cors: Cors, told: Told) -> Middleware:
    """The one middleware. A path that is not in the table is checked as `Access.OPEN` before it is 404 or 405."""

    @web.middleware
    async def pass_edge(request: web.Request, handler: Handler) -> web.StreamResponse:
        request_id = request[REQUEST_ID_KEY] = request_id_of(request.headers)
        route, code = route_of(request), None
        try:
            request[PRINCIPAL_KEY] = await check(request, route.access if route else Access.OPEN)
            _go_on(request, route)
            response = cors.preflight(request) or await handler(request)
        except web.HTTPException as error:
            refused = from_http(error, request.method, request.path)
            response, code = error_response(refused, request.path, request_id), refused.code
            if isinstance(error, web.HTTPMethodNotAllowed):
                response.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
        except Hal0Error as error:
            response, code = error_response(error, request.path, request_id), error.code
        except ConnectionError:
            if request.transport is not None and not request.transport.is_closing():
                raise
            # The client left. Any answer meets the closed connection in silence; raising would log a traceback.
            response, code = web.Response(status=499), "request.client_gone"
        except Exception as error:  # the outermost line of a request: the client gets JSON and we the traceback
            _log.exception("request %s failed", request_id)
            mistake = unexpected(error)
            response, code = error_response(mistake, request.path, request_id), mistake.code
        told(request, response.status, code)
        if not response.prepared:
            response.headers.setdefault("X-Request-ID", request_id)
            for name, value in (*SECURITY.items(), *cors.headers(request).items()):
                response.headers.setdefault(name, value)
        return response

    return pass_edge


def request_id_of(headers: Mapping[str, str]) -> str:
    """The client's own id when it is harmless, else a new one."""
    return own_request_id(headers) or new_request_id()


def _go_on(request: web.Request, route: Route | None) -> None:
    """Have a client that waits for it send its body; handlers with `own_continue` do that themselves."""
    if route is not None and not route.own_continue:
        invite(request)
