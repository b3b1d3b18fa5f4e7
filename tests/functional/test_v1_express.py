"""The short way of an ordinary request: whatever happens on it ends as on the ordinary one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from hal0.api.runner import HttpRunner
from hal0.dispatch.express import Express
from hal0.dispatch.upstream_http import Stale
from hal0.errors import Hal0Error
from hal0.lib import jsonio
from tests.fakes.backend import Behaviour, Seen, Talk
from tests.fakes.slots import FakeProvider, settled
from tests.functional.dispatch_app import World, build_app, world
from tests.functional.raw_client import RawClient, answer, post, raw

LIMIT_S = 10


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with asyncio.timeout(LIMIT_S), world(tmp_path) as made:
        yield made


async def silent(talk: Talk) -> None:
    await talk.seen.gone.wait()


async def in_pieces(talk: Talk) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\n{  }":
        await talk.raw(bytes((byte,)))
        await asyncio.sleep(0)


async def large(talk: Talk) -> None:
    await talk.json({"text": "x" * 300_000})


async def eventful(talk: Talk) -> None:
    await talk.raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 10\r\n\r\ndata: {}\n\n")


async def chunked(talk: Talk) -> None:
    await talk.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    await talk.chunk(b"{}")
    await talk.end()


async def announced(talk: Talk) -> None:
    await talk.raw(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
    await talk.json({})


async def refusing(talk: Talk) -> None:
    await talk.json({"error": {"message": "too long"}}, status="400 Bad Request")


async def garbage(talk: Talk) -> None:
    await talk.raw(b"SMTP ready\r\n\r\n")


async def breaking_off(talk: Talk) -> None:
    await talk.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")
    talk.break_off()


async def without_a_word(talk: Talk) -> None:
    talk.break_off()


@pytest.mark.parametrize(
    ("behaviour", "status", "code"),
    [
        (in_pieces, 200, None),
        (large, 200, None),
        (eventful, 200, None),
        (chunked, 200, None),
        (announced, 200, None),
        (refusing, 400, None),
        (garbage, 502, "upstream.broken"),
        (silent, 504, "upstream.timeout"),
        (breaking_off, 200, "upstream.broken"),
        (without_a_word, 502, "upstream.unreachable"),
    ],
)
async def test_whatever_a_slot_answers_on_the_short_way(
    w: World, left_over: list[web.RequestHandler], behaviour: Behaviour, status: int, code: str | None
) -> None:
    slot = w.slots.get("primary")
    assert slot is not None
    async with raw(w.port) as client, asyncio.timeout(LIMIT_S):
        for _ in range(2):  # the second one takes the short way, on a connection that is there
            await client.send(post(w.chat()))
            await answer(client)
        if behaviour is silent:
            slot.become(first_byte_timeout_s=0.3)
        w.backend.behave("fake-chat", behaviour)
        await client.send(post(w.chat()))
        if behaviour is breaking_off:
            assert (await client.head()).startswith(b"HTTP/1.1 200 ")
            assert await client.rest() == b"{"
        else:
            assert (await answer(client))[0] == status
    await settled(lambda: slot.in_flight == 0)
    *_, last = w.decisions
    assert (last.status, last.code) == (502 if behaviour is breaking_off else status, code)
    assert slot.suspected == (code in ("upstream.broken", "upstream.unreachable", "upstream.timeout"))
    assert slot.silent_s == (0.3 if code == "upstream.timeout" else None)
    assert left_over == []


@asynccontextmanager
async def held(w: World) -> AsyncIterator[tuple[RawClient, Seen]]:
    """A client whose third request is with the slot on the short way, and stays there."""
    async with raw(w.port) as client:
        for _ in range(2):
            await client.send(post(w.chat()))
            await answer(client)
        w.backend.behave("fake-chat", silent)
        await client.send(post(w.chat()))
        yield client, await w.backend.request(3)


async def refused(client: RawClient) -> tuple[int, str]:
    status, _, body = await answer(client)
    return status, jsonio.loads(body)["error"]["code"]


async def test_an_end_that_hal0_wants_reaches_a_client_on_the_short_way(w: World) -> None:
    async with held(w) as (client, seen):
        slot = w.slots["primary"]
        slot.abort_all(Hal0Error("slot.draining", "cannot finish: the slot is being unloaded"))
        assert await refused(client) == (503, "slot.draining")
        await seen.gone.wait()
        assert slot.in_flight == 0


async def test_whoever_is_cut_off_on_the_short_way_is_told_why(w: World) -> None:
    async with held(w) as (client, seen):
        (transport,) = w.dispatcher._cuttable.without_task
        assert w.dispatcher.cut(transport, Hal0Error("auth.required", "cannot go on: the key was revoked"))
        assert await refused(client) == (401, "auth.required")
        await seen.gone.wait()
    assert w.dispatcher._cuttable.without_task == {}
    assert [record.status for record in w.decisions] == [200, 200, 401]


async def test_an_end_that_hal0_wants_is_no_reason_to_ask_once_more(w: World) -> None:
    """The connection dies, and in the same turn the slot is unloaded: a second try would meet a container that goes."""
    async with held(w) as (client, _):
        (express,) = w.dispatcher._cuttable.without_task.values()
        assert isinstance(express, Express)
        assert express._connection is not None
        express._connection.abort(Stale())
        express.abort(Hal0Error("slot.draining", "cannot finish: the slot is being unloaded"))
        assert await refused(client) == (503, "slot.draining")
        assert w.slots["primary"].in_flight == 0
    assert len(w.backend.seen) == 3


async def test_a_client_that_leaves_before_its_request_has_begun_holds_nothing(w: World) -> None:
    """The task that was made for it would never run its first step, were it cancelled at once."""
    runner = HttpRunner(build_app(w.dispatcher), grace_s=1)
    await runner.start()
    try:
        async with raw(await runner.listen_tcp("127.0.0.1", 0)) as client:
            await client.send(post(w.chat()))
            await answer(client)
            w.dispatcher._pool.close()  # so that it has to connect first
            assert runner._fronts is not None
            (front,) = runner._fronts._open
            front.data_received(post(w.chat()))
            assert w.slots["primary"].in_flight == 1
            front.connection_lost(None)
            await settled(lambda: w.slots["primary"].in_flight == 0)
        assert [record.status for record in w.decisions] == [200, 499]
    finally:
        await runner.stop()


async def test_a_mistake_on_the_short_way_is_an_answer_too(w: World, caplog: pytest.LogCaptureFixture) -> None:
    async with raw(w.port) as client:
        await client.send(post(w.chat()))
        assert (await answer(client))[0] == 200
        w.slots["primary"].become(provider=FakeProvider(refuses=ZeroDivisionError("mistake")))
        for _ in range(2):
            await client.send(post(w.chat()))
            assert await refused(client) == (500, "system.internal")
    assert "ZeroDivisionError" in caplog.text


async def test_a_path_that_the_provider_has_not_is_refused_on_the_short_way_too(w: World) -> None:
    slot = w.slots.get("primary")
    assert slot is not None
    refusal = Hal0Error("dispatch.capability_mismatch", "cannot answer")

    async with raw(w.port) as client:
        await client.send(post(w.chat()))
        assert (await answer(client))[0] == 200
        slot.become(provider=FakeProvider(refuses=refusal))
        for _ in range(2):
            await client.send(post(w.chat()))
            assert (await answer(client))[0] == refusal.status
