"""hal0's own front: what it takes, what it leaves to aiohttp, and that nobody can tell which of them it was."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import pytest
from aiohttp import web

from hal0.access.principal import LOCAL, Principal
from hal0.api.middleware import Check
from hal0.api.runner import HttpRunner
from hal0.errors import Hal0Error
from hal0.lib import jsonio
from hal0.vocab import Access
from tests.fakes.backend import Talk
from tests.fakes.slots import settled
from tests.functional.dispatch_app import Everyone, World, build_app, world
from tests.functional.raw_client import answer, post, raw

CHAT = "/v1/chat/completions"
CHUNKED = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'23\r\n{"model":"fake-chat","messages":[]}\r\n0\r\n\r\n'
)
LIMIT_S = 10


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with asyncio.timeout(LIMIT_S), world(tmp_path) as made:
        yield made


@asynccontextmanager
async def served(w: World, check: Check | None = None) -> AsyncIterator[int]:
    """The world's dispatcher behind another entrance, as the constants are now; its port."""
    runner = HttpRunner(build_app(w.dispatcher, check), grace_s=1)
    await runner.start()
    try:
        yield await runner.listen_tcp("127.0.0.1", 0)
    finally:
        await runner.stop()


async def test_ordinary_requests_never_reach_aiohttp(w: World, left_over: list[web.RequestHandler]) -> None:
    async with raw(w.port) as client:
        for number in range(3):
            await client.send(post(w.chat(), f"X-Request-ID: mine-{number}"))
            status, headers, body = await answer(client)
            assert (status, headers["x-request-id"], headers["x-hal0-slot"]) == (200, f"mine-{number}", "primary")
            assert jsonio.loads(body)["choices"]
        await client.send(post(w.chat(stream=True)))
        assert b"text/event-stream" in await client.head()
        assert (await client.reader.readuntil(b"0\r\n\r\n")).endswith(b"0\r\n\r\n")
        await client.send(post(b"no json"))
        status, headers, body = await answer(client)
        assert (status, jsonio.loads(body)["error"]["code"]) == (400, "request.invalid_json")
        assert headers["x-content-type-options"] == "nosniff"
        await client.send(post(w.chat("nobody-has-this"), path="/chat/completions"))
        assert (await answer(client))[0] in (200, 404)
    assert left_over == []
    assert [record.status for record in w.decisions][:5] == [200, 200, 200, 200, 400]


@pytest.mark.parametrize(
    "unusual",
    [
        b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        post({"model": "fake-chat", "messages": []}, "Connection: close"),
        post({"model": "fake-chat", "messages": []}, "Expect: 100-continue"),
        post({"model": "fake-chat", "messages": []}, "X-Blank:  two"),
        post({"model": "fake-chat", "messages": []}, path=CHAT + "?a=b"),
        post({"model": "fake-chat", "messages": [], "pad": "x" * 70_000}),
        CHUNKED,
    ],
)
async def test_the_first_unusual_request_makes_the_connection_aiohttps(
    w: World, left_over: list[web.RequestHandler], unusual: bytes
) -> None:
    async with raw(w.port) as client:
        await client.send(post(w.chat()) + unusual)
        assert (await answer(client))[0] == 200
        assert b" 200 OK" in await client.head() or b" 200 OK" in await client.head()
    assert len(left_over) == 1


async def test_bytes_may_come_one_by_one(w: World, left_over: list[web.RequestHandler]) -> None:
    async with raw(w.port) as client:
        for byte in post(w.chat()):
            await client.send(bytes((byte,)))
        assert (await answer(client))[0] == 200
    assert left_over == []


async def test_requests_ahead_of_their_turn_are_answered_in_order(w: World) -> None:
    async with raw(w.port) as client:
        await client.send(b"".join(post(w.chat(), f"X-Request-ID: n-{number}") for number in range(20)))
        assert [(await answer(client))[1]["x-request-id"] for _ in range(20)] == [f"n-{n}" for n in range(20)]


async def test_a_client_that_sends_ahead_and_reads_nothing_is_not_read_either(w: World) -> None:
    async with raw(w.port, receive_buffer=4096) as client:
        flood = asyncio.ensure_future(client.send(post(w.chat()) * 200_000))
        answered, still = 0, 0
        while still < 5:  # what the kernel holds is answered, and it holds megabytes
            await asyncio.sleep(0.1)
            still = still + 1 if len(w.backend.seen) == answered > 0 else 0
            answered = len(w.backend.seen)
        assert answered < 100_000
        assert not flood.done()  # what nobody reads is neither answered nor kept
        client.leave()
        await asyncio.wait([flood])


async def test_a_half_sent_request_is_aiohttps_after_a_while_and_an_idle_connection_ends(
    w: World, left_over: list[web.RequestHandler], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hal0.api.runner._KEEPALIVE_S", 0.1)
    async with served(w) as port, raw(port) as idle, raw(port) as slow:
        await slow.send(post(w.chat())[:-5])
        assert await idle.rest() == b""
        await settled(lambda: bool(left_over))
        await slow.send(post(w.chat())[-5:])
        assert (await answer(slow))[0] == 200


async def test_a_head_that_comes_in_drops_keeps_no_connection(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hal0.api.runner._KEEPALIVE_S", 0.05)
    async with served(w) as port, raw(port) as client:
        head, sent = post(w.chat()), 0
        with suppress(ConnectionError):
            for drop in head:
                await client.send(bytes([drop]))
                await asyncio.sleep(0.02)
                sent += 1
        assert sent < 50 < head.index(b"\r\n\r\n")


class Watched(Everyone):
    """Counts how often it is asked; `refuses` from then on."""

    def __init__(self) -> None:
        self.asked = 0
        self.version = 0
        self.uses = 0
        self.refuses: Hal0Error | None = None

    async def __call__(self, visit: object, access: Access, /) -> Principal:
        assert access is Access.INFERENCE
        self.asked += 1
        if self.refuses is not None:
            raise self.refuses
        return LOCAL

    def stamp(self) -> object:
        return self.version

    def used(self, principal: Principal) -> None:
        assert principal is LOCAL
        self.uses += 1
        if self.refuses is not None:
            raise self.refuses


async def test_the_door_is_asked_when_the_head_or_what_it_goes_by_changes(w: World) -> None:
    door = Watched()
    async with served(w, door) as port, raw(port) as client:

        async def ask(*lines: str) -> int:
            await client.send(post(w.chat(pad="x" * door.asked), *lines))
            return (await answer(client))[0]

        assert [await ask(), await ask(), await ask()] == [200] * 3
        assert (door.asked, door.uses) == (1, 2)
        assert await ask("Authorization: Bearer other") == 200
        assert door.asked == 2
        assert await ask() == 200
        assert door.asked == 3
        door.version += 1
        assert await ask() == 200
        assert door.asked == 4
        door.refuses = Hal0Error("auth.rate_limited", "too many", retry_after_s=3)
        assert await ask() == 429  # by `used`
        door.version += 1
        assert await ask() == 429  # by the door
        door.refuses = None
        assert await ask() == 200


async def test_any_number_of_requests_ahead_are_each_refused_once_their_key_has_ended(w: World) -> None:
    door, many = Watched(), 1500
    async with served(w, door) as port, raw(port) as client:
        await client.send(post({}))
        assert (await answer(client))[0] == 200
        door.refuses = Hal0Error("auth.required", "the key has ended")
        ahead = asyncio.ensure_future(client.send(post({}) * many))
        assert {(await answer(client))[0] for _ in range(many)} == {401}
        await ahead
        door.refuses = None
        await client.send(post({}))
        assert (await answer(client))[0] == 200
    assert [record.status for record in w.decisions].count(401) == many


async def test_a_client_that_does_not_read_is_let_go(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def long(talk: Talk) -> None:
        await talk.json({"text": "x" * 30_000})

    monkeypatch.setattr("hal0.api.runner._KEEPALIVE_S", 0.3)
    w.backend.behave("fake-chat", long)
    runner = HttpRunner(build_app(w.dispatcher), grace_s=1)
    await runner.start()
    try:
        async with raw(await runner.listen_tcp("127.0.0.1", 0), receive_buffer=4096) as client:
            assert runner._fronts is not None
            fronts = runner._fronts
            await settled(lambda: bool(fronts._open))
            (front,) = fronts._open
            assert front.transport is not None
            front.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            await client.send(post(w.chat()) * 50)
            await settled(lambda: not fronts._open)
        assert len(list(w.decisions)) < 50
    finally:
        await runner.stop()


@pytest.mark.parametrize("behind", [CHUNKED, post({}), b""], ids=["aiohttps", "refused", "the end"])
async def test_an_answer_that_waits_for_the_end_of_its_turn_is_sent_before_what_comes_behind_it(
    w: World, behind: bytes
) -> None:
    go_on, door = asyncio.Event(), Watched()

    async def later(talk: Talk) -> None:
        await go_on.wait()
        await talk.json({})

    runner = HttpRunner(build_app(w.dispatcher, door), grace_s=LIMIT_S)
    await runner.start()
    async with raw(await runner.listen_tcp("127.0.0.1", 0)) as client:
        await client.send(post(w.chat()))
        assert (await answer(client))[0] == 200
        assert runner._fronts is not None
        runner._fronts.outbox._begun = True  # a turn that has no end
        w.backend.behave("fake-chat", later)
        await client.send(post(w.chat()) + behind)
        await w.backend.request(2)
        door.refuses = Hal0Error("auth.rate_limited", "too many", retry_after_s=3)
        stopping = None if behind else asyncio.ensure_future(runner.stop())
        await asyncio.sleep(0)
        go_on.set()
        assert (await answer(client))[0] == 200
        if behind:
            assert (await answer(client))[0] == 429
    await (stopping or runner.stop())


@pytest.mark.parametrize(("grace_s", "finishes"), [(5.0, True), (0.1, False)])
async def test_requests_under_way_have_the_grace_time(w: World, grace_s: float, finishes: bool) -> None:
    go_on = asyncio.Event()

    async def later(talk: Talk) -> None:
        await go_on.wait()
        await talk.json({})

    runner = HttpRunner(build_app(w.dispatcher), grace_s=grace_s)
    await runner.start()
    port = await runner.listen_tcp("127.0.0.1", 0)
    async with raw(port) as client, raw(port) as idle:
        await client.send(post(w.chat()))
        await answer(client)
        w.backend.behave("fake-chat", later)
        await client.send(post(w.chat()))
        await w.backend.request(2)
        stopping = asyncio.ensure_future(runner.stop())
        assert await idle.rest() == b""
        if finishes:
            go_on.set()
            assert (await answer(client))[0] == 200
        assert await client.rest() == b""
        await stopping
    assert [record.status for record in w.decisions] == [200, 200 if finishes else 499]


BEGINNINGS: Final = [b"", b"POST /v1/chat", b"GET /v1/models HTTP/1.1\r\nX: "]


@pytest.mark.parametrize("beginning", BEGINNINGS)
async def test_whoever_opens_connections_without_end_takes_no_room_from_others(
    w: World, monkeypatch: pytest.MonkeyPatch, beginning: bytes
) -> None:
    monkeypatch.setattr("hal0.api.crowd._MOST", 20)
    async with served(w) as port, raw(port) as client, AsyncExitStack() as stack:
        await client.send(post(w.chat(stream=True)))
        many = [await stack.enter_async_context(raw(port)) for _ in range(60)]
        for each in many:
            with suppress(ConnectionError):
                await each.send(beginning)
        async with raw(port) as other:
            await other.send(post(w.chat()))
            assert (await answer(other))[0] == 200
        assert await client.reader.readuntil(b"0\r\n\r\n")  # was under way all the time
        await settled(lambda: sum(each.gone for each in many) >= 40)


@pytest.mark.parametrize("beginning", BEGINNINGS)
async def test_a_connection_whose_first_head_never_ends_does(
    w: World, monkeypatch: pytest.MonkeyPatch, beginning: bytes
) -> None:
    monkeypatch.setattr("hal0.api.runner._KEEPALIVE_S", 0.1)
    async with served(w) as port, raw(port) as client:
        await client.send(beginning)
        assert await client.rest() == b""
