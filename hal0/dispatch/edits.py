"""Finds where a body has to be cut so that some of its top-level members are others."""

from collections.abc import Mapping
from typing import Any

from hal0.dispatch.body import Body
from hal0.dispatch.members import Members, NotJson
from hal0.dispatch.rewrite import Splice, splices
from hal0.errors import Hal0Error


async def cuts_for(body: Body, edits: Mapping[str, Any]) -> tuple[Splice, ...]:
    """Raises request.invalid_json."""
    members = Members(frozenset(edits), decode=False)
    try:
        async for piece in body.pieces():
            members.feed(piece)
        members.finish()
    except NotJson as error:
        raise Hal0Error("request.invalid_json", f"cannot read the body as a JSON object: {error}") from None
    return splices(members, edits)
