"""The demonstration model's answers say what they are, however they come; every other answer passes as it is."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hal0.providers.llamacpp import LlamaCpp
from tests.fakes.backend import Talk
from tests.functional.dispatch_app import World, world

CHAT = "/v1/chat/completions"
ANSWER = b'{"choices":[],"system_fingerprint":"b11669-Debian","object":"chat.completion"}'
MARKED = ANSWER.replace(b'"b11669', b'"hal0-demo b11669')
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(ANSWER)


async def in_one_piece(talk: Talk) -> None:
    await talk.raw(LENGTH + ANSWER)


async def in_two_pieces(talk: Talk) -> None:
    await talk.raw(LENGTH + ANSWER[:30])  # in the middle of the member's name
    await asyncio.sleep(0.05)
    await talk.raw(ANSWER[30:])


async def as_events(talk: Talk) -> None:
    await talk.open_events()
    for at in range(0, len(ANSWER), 7):
        await talk.chunk(ANSWER[at : at + 7])
    await talk.end()


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as it:
        yield it


@pytest.mark.parametrize("behaviour", [in_one_piece, in_two_pieces, as_events])
@pytest.mark.parametrize(("demo", "expected"), [(True, MARKED), (False, ANSWER)])
async def test_only_the_demo_is_marked_and_its_length_is_right(
    w: World, behaviour: object, demo: bool, expected: bytes
) -> None:
    w.slots["primary"].become(provider=LlamaCpp(), demo=demo)
    w.backend.behave("fake-chat", behaviour)  # type: ignore[arg-type]
    async with w.http.post(w.url + CHAT, json=w.chat()) as answer:
        assert answer.status == 200
        assert await answer.read() == expected
        length = answer.headers.get("Content-Length")
    assert length is None or int(length) == len(expected)
