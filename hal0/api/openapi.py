"""The OpenAPI 3.1 document, generated from the route table: what is served is what is described."""

import re
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Final, Literal

from aiohttp import web
from pydantic.json_schema import models_json_schema

from hal0 import __version__
from hal0.api.route import Route, routes_of
from hal0.errors import TABLE
from hal0.lib import jsonio
from hal0.wire.base import View
from hal0.wire.events import EventView

_PARAMETER: Final = re.compile(r"\{(\w+)(?::[^{}]*)?\}")
_REF: Final = "#/components/schemas/{model}"
_JSON: Final = "application/json"
_ERROR: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code", "details", "hint", "request_id"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
                "details": {"type": "object"},
                "hint": {"type": "string"},
                "request_id": {"type": ["string", "null"]},
            },
        }
    },
}

_QUERY: Final = {
    "model": ("string", "A slot or a model; the slot for the path unless told."),
    "slot": ("string", "The slot that would load it; the one for its task unless told."),
    "q": ("string", "Words to look for."),
    "context": ("integer", "Tokens of context; what the slot is configured with unless told."),
    "parallel": ("integer", "Requests at the same time; what the slot is configured with unless told."),
    "with": ("string", "Slots that are to be loaded besides, with commas between them."),
    "wait": ("boolean", "Answer when the job has ended (200), or after timeout_s (202)."),
    "timeout_s": ("number", "How long to wait, in seconds; 600 unless told, at most 3600."),
    "tail": ("integer", "How many lines back to begin; 200 unless told."),
    "follow": ("boolean", "Go on with what comes, as server-sent events."),
    "limit": ("integer", "How many at most; 50 unless told, at most 500."),
    "before": ("string", "The `next` of the page before."),
    "since": ("number", "From this time on, in seconds since the epoch."),
    "until": ("number", "Before this time, in seconds since the epoch."),
    "status": ("string", "The true status, such as 503, or 5xx for all of its class."),
    "failed": ("boolean", "Only what ended with 400 or more."),
    "target": ("string", "The slot or upstream that was to answer."),
    "asked_model": ("string", "The model as it was asked for."),
    "key": ("string", "The id of the key."),
    "path": ("string", "The path of the request."),
    "rule": ("string", "The rule that decided."),
    "code": ("string", "The error code that it ended with."),
    "id": ("string", "The request's id."),
    "kind": ("string", "What happened, such as slot.ready, or slot for all of its kind."),
    "subject": ("string", "The slot, upstream or other thing that it happened to."),
    "topics": ("string", "Which topics, separated by commas; all but `decision` unless told."),
    "after": ("string", "The id of the last event seen; the header Last-Event-ID says the same."),
}

Document = dict[str, Any]


async def show(request: web.Request) -> web.Response:
    return web.Response(body=jsonio.dumps(document(routes_of(request.app))), content_type=_JSON)


def document(routes: Iterable[Route]) -> Document:
    """Paths in the order of the table. `x-hal0-access` says what a caller needs, `x-hal0-errors` what a code means."""
    table = tuple(routes)
    schemas = _schemas(table)
    paths: dict[str, Document] = {}
    for route in table:
        paths.setdefault(_PARAMETER.sub(r"{\1}", route.path), {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "hal0",
            "version": __version__,
            "summary": "Inference slots behind one OpenAI-compatible API.",
        },
        "paths": paths,
        "components": {"schemas": {**schemas, "Error": _ERROR}},
        "x-hal0-errors": {code: asdict(spec) for code, spec in TABLE.items()},
    }


def _schemas(table: tuple[Route, ...]) -> Document:
    views: list[tuple[type[View], Literal["validation", "serialization"]]] = []
    for route in table:
        views += [(route.request, "validation")] if route.request else []
        views += [(route.response, "serialization")] if route.response else []
    _, definitions = models_json_schema(views, ref_template=_REF)
    schemas: Document = definitions["$defs"]
    return schemas


def _operation(route: Route) -> Document:
    operation: Document = {
        "summary": route.summary,
        "operationId": f"{route.method.lower()}{re.sub(r'[^a-zA-Z0-9]+', '_', route.path).rstrip('_')}",
        "x-hal0-access": route.access.value,
        "responses": {
            "2XX": {"description": "Done, or under way.", **_content(route.response)},
            "default": {"description": "A failure.", "content": {_JSON: {"schema": _ref("Error")}}},
        },
    }
    path = [_parameter(match[1], "path", "string") for match in _PARAMETER.finditer(route.path)]
    query = [_parameter(name, "query", *_QUERY[name]) for name in route.query]
    if path or query:
        operation["parameters"] = path + query
    if route.media:
        # Members are the engine's business; hal0 reads `model` and `stream`, and passes everything on.
        schema = {"type": "object", "properties": {"model": {"type": "string"}}}
        content = {media: {} if media == "*/*" else {"schema": schema} for media in route.media}
        operation["requestBody"] = {"required": "*/*" not in content, "content": content}
    if route.request is not None:
        needed = any(field.is_required() for field in route.request.model_fields.values())
        operation["requestBody"] = {"required": needed, **_content(route.request)}
    return operation


def _parameter(name: str, where: str, kind: str, description: str = "") -> Document:
    told = {"description": description} if description else {}
    return {"name": name, "in": where, "required": where == "path", "schema": {"type": kind}, **told}


def _content(view: type[View] | None) -> Document:
    media = "text/event-stream" if view is EventView else _JSON
    return {} if view is None else {"content": {media: {"schema": _ref(view.__name__)}}}


def _ref(name: str) -> Document:
    return {"$ref": _REF.format(model=name)}
