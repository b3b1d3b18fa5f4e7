"""All five built-ins, the reranker and slots of one's own, each on its real engine, pictures too, loaded at once."""

import asyncio
import base64
from collections.abc import Iterator

import pytest

from tests.podman.engines.world import IMG, SEATS, World, built_world
from tests.podman.service import Podman


@pytest.fixture(scope="module")
def world(podman: Podman) -> Iterator[World]:
    with built_world(podman, (*SEATS, IMG)) as made:
        asyncio.run(made.load(at_once=True))
        yield made


async def test_all_are_loaded_at_once_and_one_of_them_draws(world: World) -> None:
    async with world.daemon.operator() as operator:
        views = (await operator.get("/api/slots"))["items"]
    loaded = {view["name"] for view in views if view["state"] == "ready"}
    assert loaded == {seat.slot for seat in world.seats} >= {"primary", "embed", "stt", "tts", "img"}
    async with world.openai() as client:
        drawn = await client.images.generate(
            model="img", prompt="a river", size="128x128", extra_body={"steps": 1, "seed": 7}
        )
    assert drawn.data
    assert base64.b64decode(drawn.data[0].b64_json or "").startswith(b"\x89PNG")
