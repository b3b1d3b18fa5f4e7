"""What tests of the edge share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from hal0.api.connection import Connections
from tests.fakes.comfy import FakeComfy, running
from tests.functional.curating import Curate, curating
from tests.functional.dispatch_app import World
from tests.functional.images_app import MODEL, drawing
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
async def comfy() -> AsyncIterator[FakeComfy]:
    async with running(checkpoints=[f"sd15/{MODEL}.safetensors"]) as it:
        yield it


@pytest.fixture
async def studio(tmp_path: Path, comfy: FakeComfy) -> AsyncIterator[World]:
    """A hal0 that draws with `comfy`."""
    async with drawing(tmp_path, comfy) as it:
        yield it


@pytest.fixture
def curate(monkeypatch: pytest.MonkeyPatch) -> Curate:
    """Makes the catalog the one entry that it is given."""
    return curating(monkeypatch)
