"""hal0's own front: what it takes, what it leaves to aiohttp, and that nobody can tell which of them it was."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import web

from hal0.access.principal import LOCAL, Principal
from hal0.api.connection import Connections
from hal0.api.runner import HttpRunner
from hal0.errors import Hal0Error
from hal0.lib import jsonio
from hal0.vocab import Access
from tests.fakes.backend import Behaviour, Talk
from tests.fakes.slots import FakeProvider
from tests.functional.dispatch_app import Everyone, World, build_app, world
from tests.functional.raw_client import RawClient, raw

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


@pytest.fixture
def left_over(monkeypatch: pytest.MonkeyPatch) -> list[web.RequestHandler]:
    """The connections that became aiohttp's."""
    made: list[web.RequestHandler] = []
    call = Connections.__call__

    def counted(server: Connections) -> web.RequestHandler:
        made.append(call(server))
        return made[-1]

    monkeypatch.setattr(Connections, "__call__", counted)
    return made


def post(body: object, *lines: str, path: str = CHAT) -> bytes:
    data = body if isinstance(body, bytes) else jsonio.dumps(body)
    first = (f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(data)}")
    return "\r\n".join((*first, *lines, "", "")).encode() + data


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110  no event tells; the fixture has a limit
        await asyncio.sleep(0.01)


async def answer(client: RawClient) -> tuple[int, dict[str, str], bytes]:
    """One whole answer."""
    status, *lines = (await client.head()).decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
    if "content-length" in headers:
        return int(status.split()[1]), headers, await client.reader.readexactly(int(headers["content-length"]))
    return int(status.split()[1]), headers, await client.reader.readuntil(b"0\r\n\r\n")


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
        await asyncio.sleep(0.5)
        assert not flood.done()  # what nobody reads is neither answered nor kept
        held = len(list(w.decisions))
        assert held < 2000
        client.leave()
        await asyncio.wait([flood])


async def test_a_half_sent_request_is_aiohttps_after_a_while_and_an_idle_connection_ends(
    w: World, left_over: list[web.RequestHandler], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hal0.api.runner._KEEPALIVE_S", 0.1)
    runner = HttpRunner(build_app(w.dispatcher), grace_s=1)
    await runner.start()
    try:
        port = await runner.listen_tcp("127.0.0.1", 0)
        async with raw(port) as idle, raw(port) as slow:
            await slow.send(post(w.chat())[:-5])
            assert await idle.rest() == b""
            await until(lambda: bool(left_over))
            await slow.send(post(w.chat())[-5:])
            assert (await answer(slow))[0] == 200
    finally:
        await runner.stop()


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
    runner = HttpRunner(build_app(w.dispatcher, door), grace_s=1)
    await runner.start()
    try:
        async with raw(await runner.listen_tcp("127.0.0.1", 0)) as client:

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
    finally:
        await runner.stop()


async def silent(talk: Talk) -> None:
    await talk.seen.gone.wait()


async def in_pieces(talk: Talk) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\n{  }":
        await talk.raw(bytes((byte,)))
        await asyncio.sleep(0)


async def large(talk: Talk) -> None:
    await talk.json({"text": "x" * 300_000})


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
    slot.become(first_byte_timeout_s=0.3)
    async with raw(w.port) as client:
        for _ in range(2):  # the second one takes the short way, on a connection that is there
            await client.send(post(w.chat()))
            await answer(client)
        w.backend.behave("fake-chat", behaviour)
        await client.send(post(w.chat()))
        if behaviour is breaking_off:
            assert (await client.head()).startswith(b"HTTP/1.1 200 ")
            assert await client.rest() == b"{"
        else:
            assert (await answer(client))[0] == status
    await until(lambda: slot.in_flight == 0)
    *_, last = w.decisions
    assert (last.status, last.code) == (502 if behaviour is breaking_off else status, code)
    assert slot.suspected == (code in ("upstream.broken", "upstream.unreachable"))
    assert left_over == []


async def test_an_end_that_hal0_wants_reaches_a_client_on_the_short_way(w: World) -> None:
    slot = w.slots.get("primary")
    assert slot is not None
    async with raw(w.port) as client:
        for _ in range(2):
            await client.send(post(w.chat()))
            await answer(client)
        w.backend.behave("fake-chat", silent)
        await client.send(post(w.chat()))
        seen = await w.backend.request(3)
        slot.abort_all(Hal0Error("slot.draining", "cannot finish: the slot is being unloaded"))
        status, _, body = await answer(client)
        assert (status, jsonio.loads(body)["error"]["code"]) == (503, "slot.draining")
        await seen.gone.wait()
        assert slot.in_flight == 0


async def test_whoever_is_cut_off_on_the_short_way_is_told_why(w: World) -> None:
    async with raw(w.port) as client:
        for _ in range(2):
            await client.send(post(w.chat()))
            await answer(client)
        w.backend.behave("fake-chat", silent)
        await client.send(post(w.chat()))
        seen = await w.backend.request(3)
        (transport,) = w.dispatcher._cuttable.without_task
        assert w.dispatcher.cut(transport, Hal0Error("auth.required", "cannot go on: the key was revoked"))
        status, _, body = await answer(client)
        assert (status, jsonio.loads(body)["error"]["code"]) == (401, "auth.required")
        await seen.gone.wait()
    assert w.dispatcher._cuttable.without_task == {}
    assert [record.status for record in w.decisions] == [200, 200, 401]


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
