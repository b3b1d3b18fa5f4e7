"""Every request is in the history once, with its true outcome, and nothing of what it said."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from hal0.lib.clock import SystemClock
from hal0.observe.database import Database, Limits
from hal0.observe.history import History
from hal0.observe.queries import Filters, Reader
from tests.fakes.backend import Talk, delta
from tests.fakes.slots import settled
from tests.functional.dispatch_app import World, world
from tests.functional.raw_client import raw

CHAT = "/v1/chat/completions"
AT_ONCE_S = 0.1


@asynccontextmanager
async def remembered(folder: Path, *, loaded: bool = True) -> AsyncIterator[tuple[World, History]]:
    clock = SystemClock()
    history = History(Database(folder / "history.sqlite"), lambda: Limits(1e10, 1000, 1 << 30), clock)
    await history.start()
    async with world(folder, loaded=loaded, sinks=[history.put]) as w:
        yield w, history
    await history.close()


async def outcomes(w: World, history: History) -> list[tuple[int, str | None]]:
    w.decisions.flush()
    assert await history.settled(5)
    page = await Reader(history.file).requests(Filters({}), 100)
    return [(row["status"], row["code"]) for row in page.items]


GONE = [(499, "request.client_gone")]


async def test_a_client_that_leaves_while_its_request_is_held(tmp_path: Path) -> None:
    async with remembered(tmp_path, loaded=False) as (w, history), raw(w.port) as client:
        await client.post(CHAT, w.chat())
        await settled(lambda: w.dispatcher.waiting(w.slots["primary"].name) == 1)
        client.leave()
        await settled(lambda: w.dispatcher.waiting(w.slots["primary"].name) == 0, within_s=AT_ONCE_S * 5)
        await settled(lambda: len(list(w.decisions)) == 1)
        assert await outcomes(w, history) == GONE


async def test_a_client_that_leaves_the_line(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def behave(talk: Talk) -> None:
        await release.wait()
        await talk.json({})

    async with remembered(tmp_path) as (w, history), raw(w.port) as first, raw(w.port) as client:
        slot = w.slots["primary"]
        slot.become(max_inflight=1)
        w.backend.behave("fake-chat", behave)
        await first.post(CHAT, w.chat())
        await settled(lambda: slot.in_flight == 1)
        await client.post(CHAT, w.chat())
        await settled(lambda: w.dispatcher.waiting(slot.name) == 1)
        client.leave()
        await settled(lambda: w.dispatcher.waiting(slot.name) == 0)
        release.set()
        await settled(lambda: slot.in_flight == 0)
        await settled(lambda: len(list(w.decisions)) == 2)
        assert sorted(await outcomes(w, history)) == [(200, None), *GONE]


async def _leaves_its_slot(tmp_path: Path, *, begun: bool) -> None:
    async def behave(talk: Talk) -> None:
        if begun:
            await talk.open_events()
            await talk.chunk(delta("one"))
        await talk.seen.gone.wait()

    async with remembered(tmp_path) as (w, history), raw(w.port) as client:
        slot = w.slots["primary"]
        w.backend.behave("fake-chat", behave)
        await client.post(CHAT, w.chat(stream=True))
        await settled(lambda: slot.in_flight == 1 and len(w.backend.seen) == 1)
        if begun:
            await client.reader.readuntil(b"one")
        left_at = time.monotonic()
        client.leave()
        await asyncio.wait_for(w.backend.seen[0].gone.wait(), 5)
        assert time.monotonic() - left_at < AT_ONCE_S
        await settled(lambda: slot.in_flight == 0 and len(list(w.decisions)) == 1)
        assert await outcomes(w, history) == GONE


async def test_a_client_that_leaves_before_the_first_byte(tmp_path: Path) -> None:
    await _leaves_its_slot(tmp_path, begun=False)


async def test_a_client_that_leaves_mid_stream(tmp_path: Path) -> None:
    await _leaves_its_slot(tmp_path, begun=True)


async def test_every_request_is_there_once_and_nothing_of_what_was_said(tmp_path: Path) -> None:
    """Marked prompts, answers, bodies, queries and keys, then every byte that is on disk."""
    marks = {name: f"MARK-{name}-0123456789" for name in ("prompt", "answer", "body", "query", "key", "cookie", "file")}

    async def behave(talk: Talk) -> None:
        text = marks["answer"]
        message = {"role": "assistant", "content": text}
        await talk.json({"choices": [{"message": message}], "model": "fake", "usage": {"prompt_tokens": 1}})

    async with remembered(tmp_path) as (w, history):
        w.backend.behave("fake-chat", behave)
        headers = {
            "Authorization": f"Bearer {marks['key']}",
            "X-Api-Key": marks["key"],
            "Cookie": marks["cookie"],
            "Content-Disposition": f'form-data; filename="{marks["file"]}"',
        }
        sent = 0
        for model in ("fake-chat", "primary", "unheard-of"):
            for stream in (False, True):
                body = {**w.chat(model, stream=stream), "vendor": marks["body"]}
                body["messages"] = [{"role": "user", "content": marks["prompt"]}]
                async with w.http.post(f"{w.url}{CHAT}?q={marks['query']}", json=body, headers=headers) as response:
                    await response.read()
                    sent += 1
        async with w.http.post(w.url + CHAT, data=f'{{"model": "{marks["prompt"]}'.encode(), headers=headers) as broken:
            assert broken.status == 400
            sent += 1
        assert len(await outcomes(w, history)) == sent
        found = await asyncio.to_thread(_bytes_of, tmp_path)
        assert b"fake-chat" in found, "the search looks where the history is"
        assert [name for name, mark in marks.items() if mark.encode() in found] == []
    after = await asyncio.to_thread(_bytes_of, tmp_path)
    assert [name for name, mark in marks.items() if mark.encode() in after] == []


def _bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("history.sqlite*")))
