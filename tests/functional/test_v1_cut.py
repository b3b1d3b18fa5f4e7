"""Requests that hal0 ends because nobody may ask them any more: the client is told why, the other side is let go."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from hal0.errors import Hal0Error
from hal0.lib import jsonio
from tests.fakes.backend import Talk, delta, running
from tests.fakes.slots import LOADING, settled
from tests.functional.dispatch_app import World, world
from tests.functional.raw_client import RawClient, raw
from tests.functional.upstream_app import hang, table

GONE = Hal0Error("auth.required", "cannot go on: the key is not valid any more")
CHAT = "/v1/chat/completions"


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with running() as far, world(tmp_path, root={"upstreams": {"far": table(far, prefix="far/")}}) as made:
        await made.upstreams.prefetch()
        for side in (made.backend, far):
            side.behave("*", talks)
        yield made


async def talks(talk: Talk) -> None:
    """One event, then silence; nothing at all for whoever does not stream."""
    if jsonio.loads(talk.seen.body).get("stream"):
        await talk.open_events()
        await talk.chunk(delta("one"))
    await hang(talk)


async def cut(w: World) -> None:
    """End the one request that is under way, as the access check does."""
    await settled(lambda: bool(w.dispatcher._cuttable._under_way))
    (transport,) = w.dispatcher._cuttable._under_way
    assert w.dispatcher.cut(transport, GONE)


async def noted(w: World, status: int) -> None:
    await settled(lambda: [(record.status, record.code) for record in w.decisions] == [(status, "auth.required")])
    assert w.slots["primary"].in_flight == 0
    assert w.dispatcher.waiting(w.slots["primary"].name) == 0
    assert not w.dispatcher._cuttable._under_way


@pytest.mark.parametrize("model", ["primary", "far/fake"])
async def test_a_stream_ends_with_the_reason_and_never_looks_whole(w: World, model: str) -> None:
    async with raw(w.port) as client, asyncio.timeout(10):
        await client.post(CHAT, w.chat(model, stream=True))
        await client.reader.readuntil(b"one")
        await cut(w)
        read = await client.rest()
    event = read[read.rindex(b"data: ") + 6 :].split(b"\n\n")[0]
    assert jsonio.loads(event)["error"]["code"] == "auth.required"
    assert not read.endswith(b"0\r\n\r\n")
    await noted(w, 401)


async def refused(client: RawClient) -> bool:
    return (await client.head()).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("model", ["primary", "far/fake"])
async def test_whoever_still_waits_for_the_answer_is_refused(w: World, model: str) -> None:
    async with raw(w.port) as client, asyncio.timeout(10):
        await client.post(CHAT, w.chat(model, pad="x" * 100_000))
        await cut(w)
        assert await refused(client)
    await noted(w, 401)


def loads(w: World) -> None:
    w.slots["primary"].become(**LOADING)


def full(w: World) -> None:
    slot = w.slots["primary"]
    slot.become(max_inflight=1)
    slot.in_flight = 1


@pytest.mark.parametrize("waits", [loads, full])
async def test_whoever_still_waits_for_a_place_leaves_it(w: World, waits: Callable[[World], None]) -> None:
    waits(w)
    async with raw(w.port) as client, asyncio.timeout(10):
        await client.post(CHAT, w.chat("primary"))
        await cut(w)
        assert await refused(client)
    w.slots["primary"].in_flight = 0
    await noted(w, 401)


async def test_where_nothing_is_under_way_there_is_nothing_to_cut(w: World) -> None:
    assert not w.dispatcher.cut(asyncio.Transport(), GONE)
