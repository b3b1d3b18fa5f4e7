"""Engines that break and clients that leave: nobody is left hanging, nothing broken looks whole."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from hal0.api.cors import Cors
from hal0.api.middleware import edge
from hal0.api.route import Route, register
from hal0.api.runner import serving
from hal0.config.access import AccessConfig
from hal0.errors import Hal0Error
from hal0.lib import jsonio
from hal0.providers.base import Endpoint
from hal0.vocab import Access, OnClientGone
from tests.fakes.backend import DONE, Talk, delta
from tests.fakes.slots import settled
from tests.functional.dispatch_app import Everyone, World, build_app, world
from tests.functional.raw_client import raw

CHAT = "/v1/chat/completions"
GONE_WITHIN_S = 0.1  # the promise for a client that left


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as it:
        yield it


async def never(talk: Talk) -> None:
    """Long prompt processing."""
    await asyncio.Event().wait()


async def endless(talk: Talk) -> None:
    await talk.open_events()
    while True:
        await talk.chunk(delta("word " * 50))
        await asyncio.sleep(0.001)


# The engine breaks.


async def test_a_refused_connection_is_unreachable_and_suspicious(w: World, free_port: int) -> None:
    w.slots["primary"].become(endpoint=Endpoint("127.0.0.1", free_port, "s"))
    async with w.http.post(w.url + CHAT, json=w.chat()) as answer:
        assert answer.status == 502
        assert (await answer.json())["error"]["code"] == "upstream.unreachable"
        assert answer.headers["x-should-retry"] == "true"
    assert w.slots["primary"].suspected == 1
    assert w.slots["primary"].in_flight == 0


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Ty"])
async def test_a_break_before_the_head_is_unreachable(w: World, said: bytes) -> None:
    async def behave(talk: Talk) -> None:
        await talk.raw(said)
        talk.break_off()

    w.backend.behave("fake-chat", behave)
    async with w.http.post(w.url + CHAT, json=w.chat()) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (502, "upstream.unreachable")
    assert len(w.backend.seen) == 1


@pytest.mark.parametrize("reason", [b" OK", b""])
async def test_a_second_answer_behind_the_first_is_nobodys(w: World, reason: bytes) -> None:
    head = b"HTTP/1.1 200%b\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n" % reason

    async def behave(talk: Talk) -> None:
        await talk.raw(head + b"{}" + head.replace(b"200", b"404") + b"[]")

    w.backend.behave("fake-chat", behave)
    for number in (1, 2):
        async with w.http.post(w.url + CHAT, json=w.chat()) as answer:
            assert (answer.status, answer.reason, await answer.read()) == (200, reason.decode().strip(), b"{}")
        assert w.backend.connections == number


@pytest.mark.parametrize("garbage", [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: " + b"x" * 100_000])
async def test_garbage_is_a_broken_answer(w: World, garbage: bytes) -> None:
    async def behave(talk: Talk) -> None:
        await talk.raw(garbage)
        await asyncio.Event().wait()

    w.backend.behave("fake-chat", behave)
    async with w.http.post(w.url + CHAT, json=w.chat()) as answer, asyncio.timeout(5):
        assert (answer.status, (await answer.json())["error"]["code"]) == (502, "upstream.broken")


async def test_a_dead_reused_connection_is_tried_once_more(w: World) -> None:
    async with w.http.post(w.url + CHAT, json=w.chat()) as answer:
        assert answer.status == 200

    async def behave(talk: Talk) -> None:
        if talk.seen.connection == 1:
            talk.break_off()
        else:
            await talk.json({"second": True})

    w.backend.behave("fake-chat", behave)
    async with w.http.post(w.url + CHAT, json=w.chat()) as answer:
        assert await answer.json() == {"second": True}
    assert [seen.connection for seen in w.backend.seen] == [1, 1, 2]


async def test_a_reused_connection_that_began_to_answer_is_not_tried_again(w: World) -> None:
    async with w.http.post(w.url + CHAT, json=w.chat()) as answer:
        assert answer.status == 200

    async def behave(talk: Talk) -> None:
        await talk.raw(b"HTTP/1.1 2")
        talk.break_off()

    w.backend.behave("fake-chat", behave)
    async with w.http.post(w.url + CHAT, json=w.chat()) as answer:
        assert answer.status == 502
    assert len(w.backend.seen) == 2


def breaks_after(*pieces: bytes) -> Callable[[Talk], Awaitable[None]]:
    async def behave(talk: Talk) -> None:
        await talk.open_events()
        for piece in pieces:
            await talk.chunk(piece)
        talk.writer.close()

    return behave


@pytest.mark.parametrize(
    ("pieces", "closing"),
    [((delta("a"), delta("b")), b""), ((delta("a"), b'data: {"cut'), b"\n\n"), ((), b"")],
)
async def test_a_stream_that_breaks_ends_in_a_typed_event_and_never_looks_whole(
    w: World, pieces: tuple[bytes, ...], closing: bytes
) -> None:
    w.backend.behave("fake-chat", breaks_after(*pieces))
    async with raw(w.port) as client, asyncio.timeout(5):
        await client.post(CHAT, w.chat(stream=True))
        head = await client.head()
        body = await client.rest()
    assert b" 200 " in head
    assert not body.endswith(b"0\r\n\r\n")
    text = unchunk(body)
    assert text.startswith(b"".join(pieces) + closing + b"data: ")
    event = jsonio.loads(text.rsplit(b"data: ", 1)[1])
    assert event["error"]["code"] == "upstream.broken"
    assert event["error"]["status"] == 502
    (record,) = w.decisions
    assert (record.status, record.code) == (502, "upstream.broken")
    assert w.slots["primary"].suspected == 1


def unchunk(body: bytes) -> bytes:
    """The payload of chunks that need not have an end."""
    out = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        out += body[: int(size, 16)]
        body = body[int(size, 16) + 2 :]
    return out


async def test_a_slow_reader_gets_the_error_event_too(w: World) -> None:
    flood = delta("x" * 60_000)

    async def behave(talk: Talk) -> None:
        await talk.open_events()
        for _ in range(100):
            await talk.chunk(flood)
        talk.writer.close()

    w.backend.behave("fake-chat", behave)
    async with raw(w.port, receive_buffer=4096) as client, asyncio.timeout(30):
        await client.post(CHAT, w.chat(stream=True))
        await client.head()
        body = bytearray()
        while piece := await client.reader.read(4096):
            body += piece
            if len(body) < 200_000:
                await asyncio.sleep(0.005)
    assert not body.endswith(b"0\r\n\r\n")
    text = unchunk(bytes(body))
    assert text.startswith(flood * 100 + b"data: ")
    assert jsonio.loads(text[len(flood) * 100 + 6 :])["error"]["code"] == "upstream.broken"


async def test_a_reader_that_never_reads_is_let_go(w: World) -> None:
    w.backend.behave("fake-chat", endless)
    async with raw(w.port, receive_buffer=4096) as client, asyncio.timeout(10):
        await client.post(CHAT, w.chat(stream=True))
        seen = await w.backend.request()
        await settled(lambda: bool(w.slots["primary"].servings))
        await asyncio.sleep(0.3)  # let it fill every buffer on the way
        w.slots["primary"].abort_all(Hal0Error("slot.draining", "cannot go on: the slot is being unloaded"))
        await seen.gone.wait()
        await w.slots["primary"].quiet()
    (record,) = w.decisions
    assert record.bytes_out > 0


async def test_any_other_answer_that_breaks_is_cut_short(w: World) -> None:
    async def behave(talk: Talk) -> None:
        await talk.raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        await talk.chunk(b'{"a":')
        talk.break_off()

    w.backend.behave("fake-chat", behave)
    with pytest.raises(aiohttp.ClientPayloadError):
        async with w.http.post(w.url + CHAT, json=w.chat()) as answer:
            await answer.read()


async def test_an_engine_that_stays_silent_is_a_timeout(w: World) -> None:
    w.slots["primary"].become(first_byte_timeout_s=0.05)
    w.backend.behave("fake-chat", never)
    async with w.http.post(w.url + CHAT, json=w.chat()) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (504, "upstream.timeout")


async def test_silence_inside_a_stream_is_a_timeout(tmp_path: Path) -> None:
    async def behave(talk: Talk) -> None:
        await talk.open_events()
        await talk.chunk(delta("a"))
        await asyncio.Event().wait()

    async with world(tmp_path, between_bytes_timeout_s=0.05) as w:
        w.backend.behave("fake-chat", behave)
        async with raw(w.port) as client, asyncio.timeout(5):
            await client.post(CHAT, w.chat(stream=True))
            assert b'"upstream.timeout"' in await client.rest()


async def test_hal0_ends_a_stream_upstream_first_with_its_own_error(w: World) -> None:
    w.backend.behave("fake-chat", endless)
    async with raw(w.port) as client, asyncio.timeout(5):
        await client.post(CHAT, w.chat(stream=True))
        await client.head()
        w.slots["primary"].abort_all(Hal0Error("slot.draining", "cannot go on: the slot is being unloaded"))
        assert b'"code":"slot.draining"' in await client.rest()
    assert (await w.backend.request()).gone.is_set()


# The client leaves.


@pytest.mark.parametrize("behaviour", [never, endless])
async def test_a_client_that_leaves_frees_the_engine_at_once(
    w: World, behaviour: Callable[[Talk], Awaitable[None]]
) -> None:
    w.backend.behave("fake-chat", behaviour)
    async with raw(w.port) as client:
        await client.post(CHAT, w.chat(stream=True))
        seen = await w.backend.request()
        if behaviour is endless:
            await client.reader.readuntil(b"\n\n")
        client.leave()
        await settled(lambda: seen.gone.is_set() and not w.slots["primary"].in_flight, within_s=GONE_WITHIN_S)
    await settled(lambda: len(list(w.decisions)) == 1)
    (record,) = w.decisions
    assert (record.status, record.code) == (499, "request.client_gone")


async def test_writing_to_a_client_that_left_is_no_error_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    ended = asyncio.Event()

    async def naive(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        assert request.transport is not None
        request.transport.abort()  # what uvloop notices before it says so
        try:
            await response.write(b"x")
        finally:
            ended.set()
        return response

    app = web.Application(middlewares=[edge(Everyone(), Cors(AccessConfig), lambda *_: None)])
    register(app, [Route("POST", CHAT, naive, Access.OPEN, "")])
    async with serving(app, tcp=[("127.0.0.1", 0)], grace_s=1) as (port,), raw(port) as client:
        await client.post(CHAT, {})
        await client.rest()
        await ended.wait()
    assert not caplog.records


async def test_a_slot_that_drains_finishes_for_a_client_that_left(w: World) -> None:
    finish = asyncio.Event()
    finished = asyncio.Event()

    async def behave(talk: Talk) -> None:
        await talk.open_events()
        await finish.wait()
        await talk.chunk(DONE)
        await talk.end()
        finished.set()

    w.backend.behave("fake-chat", behave)
    w.slots["primary"].become(on_client_gone=OnClientGone.DRAIN)
    async with raw(w.port) as client, asyncio.timeout(5):
        await client.post(CHAT, w.chat(stream=True))
        seen = await w.backend.request()
        await client.head()
        client.leave()
        await settled(lambda: len(list(w.decisions)) == 1)
        assert not seen.gone.is_set()
        assert w.slots["primary"].in_flight == 1
        finish.set()
        await finished.wait()
        await w.slots["primary"].quiet()


# Three facts about aiohttp. Each of these fails when its cure is taken out.


async def _engine_freed(port: int, w: World) -> bool:
    """Whether the engine is let go when a client leaves during prompt processing."""
    w.backend.behave("fake-chat", never)
    number = len(w.backend.seen) + 1
    async with raw(port) as client:
        await client.post(CHAT, w.chat())
        seen = await w.backend.request(number)
        client.leave()
        with suppress(AssertionError):
            await settled(seen.gone.is_set, within_s=GONE_WITHIN_S * 5)
        return seen.gone.is_set()


async def test_cancellation_of_handlers_is_off_by_default_and_on_in_our_runner(w: World) -> None:
    stock = web.AppRunner(build_app(w.dispatcher), shutdown_timeout=0.1)
    await stock.setup()
    site = web.TCPSite(stock, "127.0.0.1", 0)
    await site.start()
    try:
        assert not await _engine_freed(stock.addresses[0][1], w)
    finally:
        await stock.cleanup()
    assert await _engine_freed(w.port, w)


async def test_aiohttps_test_server_hides_that(w: World) -> None:
    server = TestServer(build_app(w.dispatcher))
    await server.start_server()
    try:
        assert server.port is not None
        assert await _engine_freed(server.port, w)
    finally:
        await server.close()


async def test_returning_from_a_handler_makes_a_broken_answer_look_whole(w: World) -> None:
    async def naive(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(delta("a"))
        return response  # the upstream broke here

    app = web.Application()
    app.router.add_post(CHAT, naive)
    async with serving(app, tcp=[("127.0.0.1", 0)], grace_s=1) as (port,), raw(port) as client:
        await client.post(CHAT, {}, "Connection: close\r\n")
        assert (await client.rest()).endswith(b"0\r\n\r\n")
    w.backend.behave("fake-chat", breaks_after(delta("a")))
    async with raw(w.port) as client:
        await client.post(CHAT, w.chat(stream=True), "Connection: close\r\n")
        assert not (await client.rest()).endswith(b"0\r\n\r\n")


async def test_the_loop_stays_free_while_a_large_body_is_read(w: World) -> None:
    body = b'{"input":[' + b"[1,2]," * 1_000_000 + b'0],"model":"primary"}'  # refused once it has been read
    longest, before_s = 0.0, time.thread_time()
    assert jsonio.loads(body)
    reading_s = time.thread_time() - before_s

    async def beat() -> None:
        nonlocal longest
        while True:
            before = time.thread_time()  # what others do with the processor meanwhile is not hal0's doing
            await asyncio.sleep(0.001)
            longest = max(longest, time.thread_time() - before)

    heart = asyncio.ensure_future(beat())
    try:
        async with w.http.post(w.url + "/v1/embeddings", data=BytesIO(body)) as answer:
            assert answer.status == 409
    finally:
        heart.cancel()
    assert longest < max(0.2, 3 * reading_s)  # of a processor that is slow
