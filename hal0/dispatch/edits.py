"""Finds where a body has to be cut so that some of its top-level members, or of its fields, are others."""

import asyncio
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeVar

from hal0.dispatch.body import Body
from hal0.dispatch.form import Form, NotForm
from hal0.dispatch.members import Members, NotJson
from hal0.dispatch.rewrite import Splice, form_splices, splices
from hal0.dispatch.unhurried import AT_ONCE_BYTES, value_of
from hal0.errors import Hal0Error
from hal0.lib.spread import spread
from hal0.providers.base import Forward

S = TypeVar("S", Form, Members)

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


async def cuts_of(body: Body, forward: Forward, defaults: Mapping[str, Any] = _NOTHING) -> tuple[Splice, ...]:
    """What a provider wants to be different, and `defaults` for what the body leaves out; the provider's words win.

    Raises as `cuts_for`, and what the provider refuses.
    """
    edits = forward.edits or _NOTHING
    if forward.check is not None and body.boundary:
        forward.check(await form_values(body, forward.fields or ()))
    if forward.revise is not None and not body.boundary:
        edits = {**edits, **forward.revise(await _request_in(body))}
    return await cuts_for(body, edits, defaults) if edits or defaults else ()


async def request_of(body: Body, fields: Collection[str] | None) -> Mapping[str, Any]:
    """Those of these fields of a form, or members of a JSON body, that it has; None: all of a JSON body.

    Raises as `cuts_for`.
    """
    if body.boundary:
        return await form_values(body, fields or ())
    if fields is None:
        return await _request_in(body)
    try:
        return (await _fed(Members(fields), body)).values if fields else _NOTHING
    except NotJson as error:
        raise _not_json(error) from None


async def cuts_for(body: Body, edits: Mapping[str, Any], defaults: Mapping[str, Any] = _NOTHING) -> tuple[Splice, ...]:
    """Raises request.invalid_json, or request.invalid_form."""
    try:
        if body.boundary:
            form = await _fed(Form(body.boundary, frozenset(edits)), body)
            return form_splices(form, body.boundary, edits)
        found = await _fed(Members(frozenset((*edits, *defaults)), decode=False), body)
        edits = {**{name: value for name, value in defaults.items() if name not in found.spans}, **edits}
        if body.size <= AT_ONCE_BYTES:
            return splices(found, edits)
        return await asyncio.to_thread(splices, found, edits)
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


async def _request_in(body: Body) -> Mapping[str, Any]:
    """A body that is one JSON object. Of a large one only the structure was looked at when it was read."""
    try:
        request: Mapping[str, Any] = await value_of(body)
    except ValueError as error:
        raise _not_json(error) from None
    return request


async def _fed(scanner: S, body: Body) -> S:
    async for piece in body.pieces():
        await spread(scanner.feed, piece)
    scanner.finish()
    return scanner


def _not_form(why: ValueError) -> Hal0Error:
    return Hal0Error("request.invalid_form", f"cannot read the body as a form: {why}")


def _not_json(why: ValueError) -> Hal0Error:
    return Hal0Error("request.invalid_json", f"cannot read the body as a JSON object: {why}")
