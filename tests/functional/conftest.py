"""What tests of the edge share."""

import pytest
from aiohttp import web

from hal0.api.connection import Connections


@pytest.fixture
def left_over(monkeypatch: pytest.MonkeyPatch) -> list[web.RequestHandler]:
    """The connections that became aiohttp's."""
    made: list[web.RequestHandler] = []
    call = Connections.__call__

    def counted(server: Connections) -> web.RequestHandler:
        made.append(call(server))
        return made[-1]

    monkeypatch.setattr(Connections, "__call__", counted)
    return made
