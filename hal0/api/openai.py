"""The `/v1` edge: dispatched paths straight from the surface table, and the model list."""

from typing import Final

from aiohttp import web

from hal0.api.cors import CORS
from hal0.api.middleware import PRINCIPAL_KEY, REQUEST_ID_KEY
from hal0.api.route import Handler, Route
from hal0.dispatch.catalog import ModelList, find
from hal0.dispatch.dispatcher import Dispatcher
from hal0.dispatch.serve import PICTURES
from hal0.dispatch.surface import SURFACE, BodyKind, PathRow
from hal0.errors import Hal0Error
from hal0.upstreams.link import VIA
from hal0.vocab import Access
from hal0.wire.openai import ModelsView, ModelView

_MEDIA: Final = {
    BodyKind.JSON: ("application/json",),
    BodyKind.FORM: ("multipart/form-data", "application/json"),
    BodyKind.RAW: ("*/*",),
    BodyKind.NONE: (),
}

# What a slot's engine answers is read by programs. A browser that is led there by its operator's session must not
# take it for a page of hal0's own, which may do all that the operator may.
_NO_PAGE: Final = {"Content-Security-Policy": "sandbox; frame-ancestors 'none'", "X-Content-Type-Options": "nosniff"}

DISPATCHER: Final = web.AppKey("dispatcher", Dispatcher)
MODEL_LIST: Final = web.AppKey("model_list", ModelList)


def _route(row: PathRow, spelling: str) -> Route:
    return Route(
        row.method,
        spelling,
        _dispatched(row),
        Access.INFERENCE,
        row.summary,
        own_continue=True,
        recorded=True,
        query=("model",) if row.body is BodyKind.NONE else (),
        media=() if row.method == "GET" else _MEDIA[row.body],
        head=False,
    )


def _dispatched(row: PathRow) -> Handler:
    guarding = _NO_PAGE if row.only_here else {}

    async def handler(request: web.Request) -> web.StreamResponse:
        return await request.app[DISPATCHER].handle(
            request,
            row,
            request_id=request[REQUEST_ID_KEY],
            principal=request[PRINCIPAL_KEY],
            headers={**request.app[CORS].headers(request), **guarding},
        )

    return handler


async def list_models(request: web.Request) -> web.StreamResponse:
    """Another hal0 that asks for its own list is told what is here, not what is elsewhere."""
    table = request.app[DISPATCHER].table()
    body = request.app[MODEL_LIST].json_bytes(table, here=VIA in request.headers)
    return web.Response(body=body, content_type="application/json")


async def get_model(request: web.Request) -> web.StreamResponse:
    asked = request.match_info["id"]
    view = find(request.app[DISPATCHER].table(), asked)
    if view is None:
        raise Hal0Error("model.not_found", f"cannot find the model {asked!r}", param="model")
    return web.Response(body=view.json_bytes(), content_type="application/json")


async def show_picture(request: web.Request) -> web.StreamResponse:
    """Its name is the right to it: a page that shows it, or a program that fetches it, has no key at hand."""
    picture = await request.app[DISPATCHER].gallery.get(request.match_info["name"])
    headers = {"Cache-Control": "private, max-age=3600", "X-Content-Type-Options": "nosniff"}
    return web.Response(body=picture.data, content_type=picture.content_type, headers=headers)


ROUTES: Final = (
    *(_route(row, spelling) for row in SURFACE for spelling in row.spellings),
    Route("GET", "/v1/models", list_models, Access.OPEN, "List the models.", response=ModelsView),
    Route("GET", "/v1/models/{id:.+}", get_model, Access.OPEN, "Show one model.", response=ModelView),
    Route("GET", PICTURES + "{name}", show_picture, Access.OPEN, "Fetch a picture that was made."),
)
