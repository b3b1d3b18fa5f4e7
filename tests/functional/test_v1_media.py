"""Pictures and sounds by address: fetched by hal0 where that is wanted, never by an engine."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hal0.dispatch.inlining import refused
from hal0.lib import jsonio
from hal0.vocab import Phase
from tests.fakes.slots import settled
from tests.functional.dispatch_app import World, world
from tests.functional.raw_client import raw

PNG = b"\x89PNG\r\n\x1a\n"
INLINE = "data:image/png;base64,iVBORw0KGgo="
ADDRESS = "http://pictures.example/"


async def fetch(address: str) -> bytes:
    if address == ADDRESS + "slow":
        await asyncio.Event().wait()
    if address != ADDRESS:
        raise refused("cannot fetch it")
    return PNG


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path, fetch=fetch, remote_media=True, keepalive_s=0.05) as made:
        yield made


def body(address: str, **members: Any) -> dict[str, Any]:
    content = [{"type": "image_url", "image_url": {"url": address}}]
    return {"model": "fake-chat", "messages": [{"role": "user", "content": content}], **members}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/messages", "/slot/primary/v1/anything"])
async def test_the_slot_gets_the_file(w: World, path: str) -> None:
    async with w.http.post(w.url + path, data=jsonio.dumps(body(ADDRESS))) as answer:
        assert answer.status == 200
        assert float(answer.headers["X-Hal0-Overhead-Ms"]) >= 0
    (seen,) = w.backend.seen
    assert jsonio.loads(seen.body)["messages"] == body(INLINE)["messages"]


@pytest.mark.parametrize("stream", [True, False])
async def test_what_cannot_be_fetched_is_told_and_loads_nothing(w: World, stream: bool) -> None:
    w.slots["primary"].become(phase=Phase.OFFLINE, endpoint=None)
    async with w.http.post(w.url + "/v1/messages", json=body(ADDRESS + "gone", stream=stream)) as answer:
        assert answer.status == 400
        assert (await answer.json())["type"] == "error"
    (record,) = w.decisions
    assert (record.status, record.code) == (400, "request.remote_media")
    assert w.slots["primary"].loads == 0
    assert not w.backend.seen


async def test_a_stream_shows_signs_of_life_meanwhile_and_a_client_that_leaves_is_let_go(w: World) -> None:
    async with raw(w.port) as client, asyncio.timeout(10):
        await client.post("/v1/chat/completions", body(ADDRESS + "slow", stream=True))
        await client.reader.readuntil(b": ")
    await settled(lambda: [record.status for record in w.decisions] == [499])
    assert not w.dispatcher._cuttable._under_way
