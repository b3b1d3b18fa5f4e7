"""Finds where a body has to be cut so that some of its top-level members, or of its fields, are others."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from hal0.dispatch.body import Body
from hal0.dispatch.form import Form, NotForm
from hal0.dispatch.members import Members, NotJson
from hal0.dispatch.rewrite import Splice, form_splices, splices
from hal0.errors import Hal0Error
from hal0.lib import jsonio
from hal0.providers.base import Forward

_PARSE_LIMIT_BYTES: Final = 256 * 1024  # beyond, a parser call belongs into a thread


async def cuts_of(body: Body, forward: Forward) -> tuple[Splice, ...]:
    """What a provider wants to be different. Raises as `cuts_for`."""
    edits = forward.edits or {}
    if forward.revise is not None and not body.boundary:
        data = body.data if body.in_memory else b"".join([piece async for piece in body.pieces()])
        request = _object(data) if len(data) <= _PARSE_LIMIT_BYTES else await asyncio.to_thread(_object, data)
        edits = {**edits, **forward.revise(request)}
    return await cuts_for(body, edits) if edits else ()


def _object(data: bytes) -> Any:
    """Of a large body only the structure was looked at when it was read."""
    try:
        return jsonio.loads(data)
    except jsonio.JSONDecodeError as error:
        raise Hal0Error("request.invalid_json", f"cannot read the body as a JSON object: {error}") from None


async def cuts_for(body: Body, edits: Mapping[str, Any]) -> tuple[Splice, ...]:
    """Raises request.invalid_json, or request.invalid_form."""
    if body.boundary:
        return await _form_cuts(body, edits)
    members = Members(frozenset(edits), decode=False)
    try:
        async for piece in body.pieces():
            members.feed(piece)
        members.finish()
    except NotJson as error:
        raise Hal0Error("request.invalid_json", f"cannot read the body as a JSON object: {error}") from None
    return splices(members, edits)


async def _form_cuts(body: Body, edits: Mapping[str, Any]) -> tuple[Splice, ...]:
    form = Form(body.boundary, frozenset(edits))
    try:
        async for piece in body.pieces():
            form.feed(piece)
        form.finish()
    except NotForm as error:
        raise Hal0Error("request.invalid_form", f"cannot read the body as a form: {error}") from None
    return form_splices(form, body.boundary, edits)
