"""Finds where a body has to be cut so that some of its top-level members, or of its fields, are others."""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

from hal0.dispatch.body import Body
from hal0.dispatch.form import Form, NotForm
from hal0.dispatch.members import Members, NotJson
from hal0.dispatch.rewrite import Splice, form_splices, splices
from hal0.errors import Hal0Error
from hal0.lib import jsonio
from hal0.providers.base import Forward

S = TypeVar("S", Form, Members)

_PARSE_LIMIT_BYTES: Final = 256 * 1024  # beyond, a parser call belongs into a thread


def with_defaults(forward: Forward, defaults: Mapping[str, Any]) -> Forward:
    """With these members in the body where it leaves them out; the provider's own words win."""

    def revise(request: Mapping[str, Any]) -> Mapping[str, Any]:
        known = {*request, *(forward.edits or ())}
        left_out = {name: value for name, value in defaults.items() if name not in known}
        return {**left_out, **(forward.revise(request) if forward.revise is not None else {})}

    return replace(forward, revise=revise)


async def cuts_of(body: Body, forward: Forward) -> tuple[Splice, ...]:
    """What a provider wants to be different. Raises as `cuts_for`, and what the provider refuses."""
    edits = forward.edits or {}
    if forward.check is not None and body.boundary:
        forward.check(await form_values(body, forward.fields))
    if forward.revise is not None and not body.boundary:
        data = body.data if body.in_memory else b"".join([piece async for piece in body.pieces()])
        request = object_in(data) if len(data) <= _PARSE_LIMIT_BYTES else await asyncio.to_thread(object_in, data)
        edits = {**edits, **forward.revise(request)}
    return await cuts_for(body, edits) if edits else ()


def object_in(data: bytes) -> Any:
    """A body that is one JSON object. Of a large one only the structure was looked at when it was read."""
    try:
        return jsonio.loads(data)
    except jsonio.JSONDecodeError as error:
        raise _not_json(error) from None


async def cuts_for(body: Body, edits: Mapping[str, Any]) -> tuple[Splice, ...]:
    """Raises request.invalid_json, or request.invalid_form."""
    names = frozenset(edits)
    try:
        if body.boundary:
            form = await _fed(Form(body.boundary, names), body)
            return form_splices(form, body.boundary, edits)
        return splices(await _fed(Members(names, decode=False), body), edits)
    except NotForm as error:
        raise _not_form(error) from None
    except NotJson as error:
        raise _not_json(error) from None


async def form_values(body: Body, names: Collection[str]) -> Mapping[str, str]:
    """These text fields of a form, those that it has. Raises request.invalid_form."""
    try:
        return (await _fed(Form(body.boundary, frozenset(names)), body)).values
    except NotForm as error:
        raise _not_form(error) from None


async def _fed(scanner: S, body: Body) -> S:
    async for piece in body.pieces():
        scanner.feed(piece)
    scanner.finish()
    return scanner


def _not_form(why: ValueError) -> Hal0Error:
    return Hal0Error("request.invalid_form", f"cannot read the body as a form: {why}")


def _not_json(why: ValueError) -> Hal0Error:
    return Hal0Error("request.invalid_json", f"cannot read the body as a JSON object: {why}")
