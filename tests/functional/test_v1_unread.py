"""Clients that are there and do not read: they hold nothing for ever, and nobody up."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from hal0.providers.base import AnswerMode, Forward
from tests.fakes.backend import Talk, delta, running
from tests.fakes.slots import FakeProvider, settled
from tests.functional.dispatch_app import World, world
from tests.functional.raw_client import CHAT, raw
from tests.functional.test_v1_uploads import MIB, resident
from tests.functional.upstream_app import house

EVENT: Final = delta("x" * 100_000)


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as it:
        yield it


@pytest.mark.parametrize("asks", ["", "Connection: close\r\n"])  # read by hal0's front, by aiohttp
async def test_a_reader_that_stops_reading_gives_its_place_to_others(
    w: World, asks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there, takes nothing and says nothing: without an end whoever waits behind it would never get in."""
    monkeypatch.setattr("hal0.dispatch.downstream.UNREAD_S", 0.3)

    async def flood(talk: Talk) -> None:
        await talk.open_events()
        while True:
            await talk.chunk(EVENT)

    w.slots["primary"].become(max_inflight=1)
    w.backend.behave("fake-chat", flood)
    async with raw(w.port, receive_buffer=4096) as client, asyncio.timeout(10):
        await client.post(CHAT, w.chat(stream=True), asks)
        seen = await w.backend.request()
        async with w.http.post(w.url + CHAT, json=w.chat("primary")) as answer:
            assert answer.status == 200
        assert seen.gone.is_set()
    assert [record.code for record in w.decisions] == ["request.client_gone", None]


@pytest.mark.parametrize("model", ["primary", "far/fake"])
async def test_a_stream_without_end_takes_no_memory_whether_it_is_read_or_not(tmp_path: Path, model: str) -> None:
    sent = 0

    async def flood(talk: Talk) -> None:
        nonlocal sent
        await talk.open_events()
        while True:
            await talk.chunk(EVENT)
            sent += len(EVENT)

    async with running() as far, house(tmp_path, far) as w:
        w.backend.behave("primary", flood)
        far.behave("fake", flood)
        async with raw(w.port) as client, asyncio.timeout(20):
            await client.post(CHAT, w.chat(model, stream=True))
            before, most = resident("VmRSS"), 0
            for _ in range(5):
                begun = sent
                while sent < begun + 8 * MIB:
                    await client.reader.read(1 << 20)
                    most = max(most, resident("VmRSS"))
                await asyncio.sleep(0.05)  # nobody reads
        assert (most - before) / MIB <= 16


async def test_a_reader_of_a_large_whole_answer_that_never_reads_is_let_go(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hal0.dispatch.downstream.UNREAD_S", 0.3)
    forward = Forward("/v1/chat/completions", answer=AnswerMode.INSPECT, convert=lambda _asked, answer: answer)
    w.slots["primary"].become(provider=FakeProvider(forward))

    async def long(talk: Talk) -> None:
        await talk.json({"text": "x" * 8_000_000})

    w.backend.behave("fake-chat", long)
    async with raw(w.port, receive_buffer=4096) as client, asyncio.timeout(10):
        await client.post(CHAT, w.chat())
        await settled(lambda: len(list(w.decisions)) == 1)
        assert len(await client.reader.read(100)) == 100
        await asyncio.sleep(1)
        assert len(await client.rest()) < 8_000_000
