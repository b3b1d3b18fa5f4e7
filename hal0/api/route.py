"""One row of the route table: everything that is true of a path, in one value."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from hal0.vocab import Access
from hal0.wire.base import View

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """`path` is in aiohttp's spelling ({name}). `request` and `response` are the JSON bodies, for OpenAPI.

    `query` names the query parameters, which `api.openapi` describes; `media` what else than a view a body may be.
    `own_continue`: the handler itself answers `Expect: 100-continue`, after it has looked at the headers;
    `recorded`: and leaves a record of every request. `head`: a GET also answers HEAD.
    """

    method: str
    path: str
    handler: Handler
    access: Access
    summary: str
    request: type[View] | None = None
    response: type[View] | None = None
    own_continue: bool = False
    recorded: bool = False
    query: tuple[str, ...] = ()
    media: tuple[str, ...] = ()
    head: bool = True


_ROUTES: Final = web.AppKey("routes", dict[object, Route])


def register(app: web.Application, routes: Iterable[Route]) -> None:
    """Add the routes to the application."""
    table: dict[object, Route] = {}
    app[_ROUTES] = table
    for route in routes:
        methods = ("GET", "HEAD") if route.method == "GET" and route.head else (route.method,)
        for method in methods:
            table[app.router.add_route(method, route.path, route.handler)] = route


def routes_of(app: web.Application) -> tuple[Route, ...]:
    """The table of an application, in its order."""
    return tuple(dict.fromkeys(app[_ROUTES].values()))  # a GET stands there twice, for HEAD as well


def route_of(request: web.Request) -> Route | None:
    """The row of the table that a request has hit; None when there is none (404, 405). What is no row is a mistake."""
    match_info = request.match_info
    return None if match_info.http_exception is not None else request.app[_ROUTES][match_info.route]
