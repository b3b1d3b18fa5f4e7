"""JSON bodies in, views out, and the few query parameters: what every handler of the operator API needs."""

import asyncio
import math
from typing import Final, TypeVar

from aiohttp import web
from pydantic import ValidationError

from hal0.dispatch.peek import refuse_early
from hal0.errors import Hal0Error
from hal0.lib import jsonio
from hal0.wire.base import View

_BODY_LIMIT_BYTES: Final = 256 * 1024  # no body of an operator's verb comes near
_BODY_S: Final = 30.0
_TRUE: Final = frozenset({"true", "1", "yes", ""})
_FALSE: Final = frozenset({"false", "0", "no"})

_HEADERS: Final = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}

V = TypeVar("V", bound=View)


def answer(view: View, status: int = 200) -> web.Response:
    return web.Response(body=view.json_bytes(), status=status, content_type="application/json", headers=_HEADERS)


async def body_as(request: web.Request, kind: type[V]) -> V:
    """The JSON body as a view; an empty body is an empty object. Raises request.* naming the field at fault."""
    raw = await small_body(request)
    try:
        document = jsonio.loads(raw) if raw.strip() else {}
    except jsonio.JSONDecodeError as err:
        raise Hal0Error("request.invalid_json", f"cannot read the body: {err}") from err
    try:
        return kind.model_validate(document)
    except ValidationError as err:
        raise _invalid(err, kind) from err


async def small_body(request: web.Request) -> bytes:
    """The whole body. Raises request.* for one that is large, compressed or does not come."""
    refuse_early(request.headers, _BODY_LIMIT_BYTES)
    data = bytearray()
    try:
        async with asyncio.timeout(_BODY_S):
            async for piece in request.content.iter_any():
                data += piece
                if len(data) > _BODY_LIMIT_BYTES:
                    raise Hal0Error("request.too_large", f"cannot take a body of more than {_BODY_LIMIT_BYTES} bytes")
    except TimeoutError as err:
        raise Hal0Error("request.invalid", f"cannot read the body: it did not come within {_BODY_S:.0f} s") from err
    return bytes(data)


def _invalid(fault: ValidationError, kind: type[View]) -> Hal0Error:
    """The first fault in words; which members there are, when one is unknown."""
    first = fault.errors(include_url=False, include_context=False, include_input=False)[0]
    field = ".".join(map(str, first["loc"]))
    if not field:
        return Hal0Error("request.invalid", "cannot read the body: it is not a JSON object")
    if first["type"] == "extra_forbidden":
        known = ", ".join(kind.model_fields) or "none"
        message = f"cannot use the member {field!r}: there is no such member (known: {known})"
    else:
        said = kind.model_fields.get(field) if first["type"] == "string_pattern_mismatch" else None
        why = f"{first['msg'][:1].lower()}{first['msg'][1:]}"
        if said is not None and said.description is not None:  # of its pattern, in words
            why = f"it is {said.description}"
        message = f"cannot use the member {field!r}: {why}"
    return Hal0Error("request.invalid", message, param=field)


def flag(request: web.Request, name: str) -> bool:
    """A query parameter that is true or false; false when absent."""
    text = request.query.get(name, "false").lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise Hal0Error("request.invalid", f"cannot use {name}={text!r}: it is true or false", param=name)


def number(request: web.Request, name: str, default: float, *, most: float) -> float:
    """A query parameter between 0 and `most`."""
    text = request.query.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= most:  # false for nan, too
        raise Hal0Error("request.invalid", f"cannot use {name}={text!r}: it is a number from 0 to {most:g}", param=name)
    return value
