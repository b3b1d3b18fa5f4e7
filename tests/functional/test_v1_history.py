"""Every request is in the history once, with its true outcome, and nothing of what it said."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hal0.dispatch.express import Express
from hal0.lib.clock import SystemClock
from hal0.observe.database import Database, Limits
from hal0.observe.history import History
from hal0.observe.logs import JsonLines
from hal0.observe.queries import Filters, Reader
from hal0.providers.base import Endpoint, Exchange, Serve
from hal0.vocab import Phase, Want
from tests.fakes.backend import Seen, Talk, delta
from tests.fakes.slots import LOADING, FakeProvider, settled
from tests.functional.dispatch_app import World, world
from tests.functional.raw_client import RawClient, raw

CHAT = "/v1/chat/completions"
AT_ONCE_S = 0.1


@asynccontextmanager
async def remembered(folder: Path) -> AsyncIterator[tuple[World, History]]:
    clock = SystemClock()
    history = History(Database(folder / "history.sqlite"), lambda: Limits(1e10, 1000, 1 << 30), clock)
    await history.start()
    async with world(folder, sinks=[history.put]) as w:
        yield w, history
    await history.close()


async def outcomes(w: World, history: History) -> list[tuple[int, str | None]]:
    w.decisions.flush()
    assert await history.settled(5)
    page = await Reader(history.file).requests(Filters({}), 100)
    return [(row["status"], row["code"]) for row in page.items]


# How far a request has come when its client leaves; each answers what the engine has seen of it.


async def held(w: World, client: RawClient) -> Seen | None:
    w.slots["primary"].become(**LOADING, endpoint=None)
    await client.post(CHAT, w.chat())
    await settled(lambda: w.dispatcher.waiting(w.slots["primary"].name) == 1)
    return None


async def queued(w: World, client: RawClient) -> Seen | None:
    slot = w.slots["primary"]
    slot.become(max_inflight=1)
    slot.in_flight = 1
    await client.post(CHAT, w.chat())
    await settled(lambda: w.dispatcher.waiting(slot.name) == 1)
    slot.in_flight = 0  # nobody is told: it goes on waiting
    return None


async def sent(w: World, client: RawClient) -> Seen | None:
    w.backend.behave("fake-chat", silent)
    await client.post(CHAT, w.chat(stream=True))
    return await w.backend.request()


async def sent_at_once(w: World, client: RawClient) -> Seen | None:
    for _ in range(2):  # who asks has to be found out once
        await client.post(CHAT, w.chat())
        await client.reader.readuntil(b"\r\n\r\n")
        await client.reader.readuntil(b'"total_tokens":10}}')
    w.backend.behave("fake-chat", silent)
    await client.post(CHAT, w.chat())
    return await w.backend.request(3)


async def answered_in_part(w: World, client: RawClient) -> Seen | None:
    w.backend.behave("fake-chat", begins)
    await client.post(CHAT, w.chat(stream=True))
    await client.reader.readuntil(b"one")
    return await w.backend.request()


async def served(w: World, client: RawClient) -> Seen | None:
    """By a provider that answers itself."""
    begun, ended = asyncio.Event(), asyncio.Event()

    async def work(_exchange: Exchange, _endpoint: Endpoint) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    w.slots["primary"].become(provider=FakeProvider(Serve(work)))
    await client.post(CHAT, w.chat())
    await begun.wait()
    return Seen("", [], b"", 0, gone=ended)


async def elsewhere(w: World, client: RawClient) -> Seen | None:
    """Other slots have the memory."""
    w.slots["primary"].become(phase=Phase.OFFLINE, want=Want.UNLOADED, endpoint=None)
    w.slots.fits = lambda slots: len(slots) < 2
    await client.post(CHAT, w.chat())
    await settled(lambda: w.dispatcher.waiting(w.slots["primary"].name) == 1)
    return None


async def silent(talk: Talk) -> None:
    await talk.seen.gone.wait()


async def begins(talk: Talk) -> None:
    await talk.open_events()
    await talk.chunk(delta("one"))
    await silent(talk)


@pytest.mark.parametrize(
    ("comes", "shortly"),
    [
        *((held, False), (queued, False), (elsewhere, False), (sent, False), (sent_at_once, True)),
        *((answered_in_part, False), (served, False)),
    ],
)
async def test_a_client_that_leaves(
    tmp_path: Path,
    comes: Callable[[World, RawClient], Awaitable[Seen | None]],
    shortly: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Wherever its request is: the engine's side ends at once, nothing is counted any more, and the history knows."""
    left: list[Express] = []
    leave = Express.leave

    def seen_leaving(it: Express) -> None:
        left.append(it)
        leave(it)

    monkeypatch.setattr(Express, "leave", seen_leaving)
    async with remembered(tmp_path) as (w, history), raw(w.port) as client:
        slot = w.slots["primary"]
        seen = await comes(w, client)
        before = len(list(w.decisions))
        client.leave()
        await settled(lambda: seen is None or seen.gone.is_set(), within_s=AT_ONCE_S)
        await settled(lambda: slot.in_flight == w.dispatcher.waiting(slot.name) == 0, within_s=AT_ONCE_S)
        await settled(lambda: len(list(w.decisions)) == before + 1, within_s=AT_ONCE_S)
        assert bool(left) is shortly
        assert (await outcomes(w, history)).count((499, "request.client_gone")) == 1


async def test_every_request_is_there_once_and_nothing_of_what_was_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Marked prompts, answers, bodies, queries and keys, then every byte that is on disk, and every line of the log."""
    caplog.set_level(logging.DEBUG)
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
    written = "\n".join(JsonLines().format(line) for line in caplog.records)
    assert '"asked_model":"fake-chat"' in written
    assert [name for name, mark in marks.items() if mark in written] == []


def _bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("history.sqlite*")))
