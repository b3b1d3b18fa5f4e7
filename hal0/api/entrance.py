"""Who takes new connections of an application: hal0's front where there is a dispatcher, else aiohttp alone."""

from typing import Final

from aiohttp import web

from hal0.api.connection import Connections
from hal0.api.crowd import Crowd
from hal0.api.front import Fronts, Parts
from hal0.api.middleware import Check
from hal0.api.openai import DISPATCHER
from hal0.dispatch.surface import SURFACE, BodyKind

CHECK: Final = web.AppKey[Check]("check")


def fronts_of(app: web.Application, otherwise: Connections, *, idle_s: float) -> Fronts | None:
    """None for an application without a dispatcher or without an access check."""
    if DISPATCHER not in app or CHECK not in app:
        return None
    plain = [row for row in SURFACE if row.method == "POST" and row.body is BodyKind.JSON]
    rows = {spelling: row for row in plain for spelling in row.spellings}
    return Fronts(Parts(app[DISPATCHER], app[CHECK], rows, otherwise, idle_s, Crowd(lambda: otherwise.inherited)))
