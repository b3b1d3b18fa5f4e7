"""A request leaves nothing behind that only the garbage collector finds: it would stop everybody to look for it."""

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes.backend import Talk
from tests.functional.dispatch_app import World, world
from tests.functional.raw_client import answer, post, raw

LIMIT_S = 20
TIMES = 8


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with asyncio.timeout(LIMIT_S), world(tmp_path) as made:
        yield made


@contextmanager
def left_behind() -> Iterator[Counter[str]]:
    """How many objects of hal0's own nobody can reach any more although they are still there: kinds that are there for
    every request, not what else has ended in the meantime."""
    found: Counter[str] = Counter()
    gc.disable()
    gc.freeze()  # all that the tests before have made is not looked at: in a whole run that takes seconds
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield found
        gc.collect()
        kinds = Counter(type(it).__qualname__ for it in gc.garbage if type(it).__module__.startswith("hal0."))
        found.update({kind: count for kind, count in kinds.items() if count >= TIMES})
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.unfreeze()
        gc.enable()


async def events(talk: Talk) -> None:
    await talk.raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(3):
        await talk.chunk(b"data: {}\n\n")
    await talk.end()


async def refusing(talk: Talk) -> None:
    await talk.json({"error": {"message": "too long"}}, status="400 Bad Request")


async def in_pieces(talk: Talk) -> None:
    await talk.raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\n")
    await talk.raw(b"{  }")


@pytest.mark.parametrize("behaviour", [None, events, refusing, in_pieces])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_leaves_nothing_for_the_garbage_collector(w: World, behaviour: object, *, stream: bool) -> None:
    if behaviour is not None:
        w.backend.behave("fake-chat", behaviour)  # type: ignore[arg-type]
    async with raw(w.port) as client:
        asked = post(w.chat(stream=stream))
        for _ in range(2):  # what is made once for all
            await client.send(asked)
            await answer(client)
        with left_behind() as found:
            for _ in range(TIMES):
                await client.send(asked)
                await answer(client)
            w.decisions.flush()
    assert not found
