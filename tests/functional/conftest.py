"""What tests of the edge share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from hal0.api.connection import Connections
from tests.functional.curating import Curate, curating
from tests.functional.pulling import Place, pulling


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


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    async with pulling(tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
def curate(monkeypatch: pytest.MonkeyPatch) -> Curate:
    """Makes the catalog the one entry that it is given."""
    return curating(monkeypatch)
