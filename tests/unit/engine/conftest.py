"""A scripted podman and an engine on it."""

from collections.abc import AsyncIterator

import pytest

from hal0.engine.podman import PodmanEngine
from tests.fakes.podman_api import ScriptedPodman, scripted_podman


@pytest.fixture
async def api() -> AsyncIterator[ScriptedPodman]:
    async with scripted_podman() as podman:
        yield podman


@pytest.fixture
async def engine(api: ScriptedPodman) -> AsyncIterator[PodmanEngine]:
    made = PodmanEngine(api.socket)
    yield made
    await made.aclose()
