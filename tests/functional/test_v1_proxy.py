"""Bytes in, bytes out: what reaches the engine and what comes back is exactly what was sent."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import pytest
from yarl import URL

from hal0.dispatch.body import MEMORY_LIMIT_BYTES
from hal0.lib import jsonio
from hal0.providers.base import AnswerMode, Endpoint, Exchange, Forward, InferRequest, Serve
from hal0.vocab import Capability
from tests.fakes.backend import DONE, LAST_EVENT, SECRET, Talk, delta
from tests.fakes.slots import FakeProvider
from tests.functional.dispatch_app import World, world
from tests.functional.raw_client import raw

CHAT = "/v1/chat/completions"


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as it:
        yield it


@pytest.mark.parametrize(
    ("path", "model"),
    [
        (CHAT, "fake-chat"),
        ("/v1/completions", "primary"),
        ("/v1/embeddings", "fake-embed"),
        ("/chat/completions", "hal0/primary"),
        ("/embeddings", ""),
    ],
)
async def test_each_path_reaches_the_engine_under_v1(w: World, path: str, model: str) -> None:
    async with w.http.post(w.url + path, json={"model": model, "input": "x"}) as answer:
        assert answer.status == 200
        assert answer.headers["X-Hal0-Slot"] == ("embed" if "embed" in path else "primary")
    assert w.backend.seen[0].line == f"POST /v1/{path.removeprefix('/v1').lstrip('/')} HTTP/1.1"


async def test_a_body_arrives_byte_for_byte_with_query_and_unknown_headers(w: World) -> None:
    body = b'{ "vendor" : [1, 2.50, "\\u00e9"],\n\t"model":"fake-chat" , "temperature":1e0 }  '
    url = URL(w.url + CHAT + "?api-version=1%2F2&x", encoded=True)
    async with w.http.post(url, data=BytesIO(body), headers={"X-Vendor": "Ab c"}) as answer:
        assert answer.status == 200
    seen = w.backend.seen[0]
    assert seen.body == body
    assert seen.line == f"POST {CHAT}?api-version=1%2F2&x HTTP/1.1"
    assert seen.header("X-Vendor") == "Ab c"


async def test_the_clients_credentials_stay_here_and_the_slots_secret_is_added(w: World) -> None:
    private = {
        "Authorization": "Bearer mine",
        "Cookie": "a=b",
        "X-Api-Key": "k",
        "Origin": "http://x",
        "X-Hal0-Hold": "5",
    }
    async with w.http.post(w.url + CHAT, json=w.chat(), headers=private) as answer:
        assert answer.status == 200
    seen = w.backend.seen[0]
    assert [value for name, value in seen.headers if name.lower() == "authorization"] == [f"Bearer {SECRET}"]
    assert not {name.lower() for name, _ in seen.headers} & {"cookie", "x-api-key", "origin", "x-hal0-hold"}


async def test_headers_named_by_connection_go_no_further(w: World) -> None:
    async with raw(w.port) as client:
        await client.post(CHAT, w.chat(), "Connection: keep-alive, X-Private\r\nX-Private: 1\r\nX-Public: 2\r\n")
        await client.head()
    seen = w.backend.seen[0]
    assert seen.header("X-Private") is None
    assert seen.header("X-Public") == "2"


EVENTS = b"".join(
    [delta("h\u00e9llo \u4e16\u754c \U0001f600"), delta("x" * 1_000_000), b": ping\n\n", LAST_EVENT, DONE]
)


@pytest.mark.parametrize(
    "cut",
    [
        pytest.param(lambda data: [data], id="one piece"),
        pytest.param(lambda data: [data[i : i + 1] for i in range(400)] + [data[400:]], id="single bytes"),
        pytest.param(lambda data: [data[i : i + 7] for i in range(0, 700, 7)] + [data[700:]], id="inside characters"),
        pytest.param(lambda data: [data[i : i + 65_537] for i in range(0, len(data), 65_537)], id="large pieces"),
        pytest.param(lambda data: [data[:-1]], id="no final newline"),
        pytest.param(lambda data: [gzip.compress(data, mtime=0)], id="compressed"),
    ],
)
async def test_a_stream_is_relayed_exactly_however_it_is_cut(w: World, cut) -> None:  # type: ignore[no-untyped-def]
    pieces = cut(EVENTS)

    async def behave(talk: Talk) -> None:
        await talk.open_events()
        for piece in pieces:
            await talk.chunk(piece)
        await talk.end()

    w.backend.behave("fake-chat", behave)
    async with w.http.post(w.url + CHAT, json=w.chat(stream=True)) as answer:
        assert answer.headers["X-Accel-Buffering"] == "no"
        assert await answer.read() == b"".join(pieces)


async def test_every_chunk_is_flushed_when_it_comes(w: World) -> None:
    more = asyncio.Event()

    async def behave(talk: Talk) -> None:
        await talk.open_events()
        for word in ("a", "b", "c"):
            await talk.chunk(delta(word))
            await more.wait()
            more.clear()
        await talk.end()

    w.backend.behave("fake-chat", behave)
    async with w.http.post(w.url + CHAT, json=w.chat(stream=True)) as answer, asyncio.timeout(5):
        for word in ("a", "b", "c"):
            assert await answer.content.readuntil(b"\n\n") == delta(word)
            more.set()
        assert await answer.content.read() == b""


async def test_the_head_of_a_stream_is_not_taken_for_its_first_token(w: World) -> None:
    more = asyncio.Event()

    async def behave(talk: Talk) -> None:
        await talk.open_events()
        await more.wait()
        await talk.chunk(delta("a"))
        await talk.end()

    w.backend.behave("fake-chat", behave)
    loop = asyncio.get_running_loop()
    async with w.http.post(w.url + CHAT, json=w.chat(stream=True)) as answer:
        head_at = loop.time()
        await asyncio.sleep(0.05)
        waited_s = loop.time() - head_at
        more.set()
        await answer.read()
    (record,) = w.decisions
    assert record.first_byte_ms is not None
    assert waited_s * 1000 <= record.first_byte_ms <= record.total_ms


@pytest.mark.parametrize("ending", ["length", "close"])
async def test_answers_with_a_length_or_ended_by_the_connection_are_whole(w: World, ending: str) -> None:
    async def behave(talk: Talk) -> None:
        length = b"Content-Length: 300000\r\n" if ending == "length" else b""
        await talk.raw(b"HTTP/1.1 200 OK\r\nContent-Type: audio/wav\r\n" + length + b"\r\n")
        for _ in range(30):
            await talk.raw(b"0123456789" * 1000)
        talk.writer.close()

    w.backend.behave("fake-chat", behave)
    async with w.http.post(w.url + CHAT, json=w.chat()) as answer:
        assert await answer.read() == b"0123456789" * 30_000


async def test_an_engines_error_passes_verbatim_without_its_cors(w: World) -> None:
    async def behave(talk: Talk) -> None:
        await talk.json({"error": "no"}, "418 I Am Odd", b"X-Engine: 1\r\nAccess-Control-Allow-Origin: *\r\n")

    w.backend.behave("fake-chat", behave)
    async with w.http.post(w.url + CHAT, json=w.chat()) as answer:
        assert (answer.status, answer.reason) == (418, "I Am Odd")
        assert await answer.read() == b'{"error":"no"}'
        assert answer.headers["X-Engine"] == "1"
        assert "Access-Control-Allow-Origin" not in answer.headers


async def test_a_100_continue_of_the_engine_is_not_taken_for_its_answer(w: World) -> None:
    async def behave(talk: Talk) -> None:
        await talk.raw(b"HTTP/1.1 100 Continue\r\n\r\n")
        await talk.json({"ok": True})

    w.backend.behave("fake-chat", behave)
    async with w.http.post(w.url + CHAT, json=w.chat()) as answer:
        assert await answer.json() == {"ok": True}


async def test_a_chunked_request_body_is_understood(w: World) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for byte in jsonio.dumps(w.chat()):
            yield bytes([byte])

    async with w.http.post(w.url + CHAT, data=pieces()) as answer:
        assert answer.status == 200
    assert jsonio.loads(w.backend.seen[0].body) == w.chat()
    assert w.backend.seen[0].header("Transfer-Encoding") is None


@pytest.mark.parametrize("size", [300 * 1024, MEMORY_LIMIT_BYTES + 5, 9_000_000])
async def test_a_large_body_is_spooled_and_arrives_whole(w: World, size: int) -> None:
    body = b'{"messages":[{"content":"' + b"QUJD\\n" * (size // 6) + b'"}],"n":[1,2],"stream":false,"model":"embed"}'
    async with w.http.post(w.url + "/v1/embeddings", data=BytesIO(body)) as answer:
        assert answer.status == 200
        assert answer.headers["X-Hal0-Rule"] == "address"
    assert w.backend.seen[0].body == body


@pytest.mark.parametrize("size", [10, MEMORY_LIMIT_BYTES * 2])
async def test_edits_change_only_their_members(w: World, size: int) -> None:
    w.slots["primary"].become(provider=FakeProvider(Forward(CHAT, edits={"model": "tag:1b", "extra": [1]})))
    filler = b"z" * size
    body = b'{ "model" :"fake-chat", "a":"' + filler + b'" ,"model": "again"}'
    async with w.http.post(w.url + CHAT, data=BytesIO(body)) as answer:
        assert answer.status == 200
    assert w.backend.seen[0].body == b'{"extra":[1], "model" :"tag:1b", "a":"' + filler + b'" ,"model": "tag:1b"}'


async def test_a_provider_may_convert_a_complete_answer(w: World) -> None:
    def convert(request: object, answer: bytes) -> bytes:
        return jsonio.dumps({"asked": request, "got": jsonio.loads(answer)["object"]})

    forward = Forward("/v1/embeddings", answer=AnswerMode.INSPECT, convert=convert)
    w.slots["embed"].become(provider=FakeProvider(forward))
    body = {"model": "embed", "input": "x", "encoding_format": "base64"}
    async with w.http.post(w.url + "/v1/embeddings", json=body) as answer:
        assert await answer.json() == {"asked": body, "got": "list"}
    assert w.backend.seen[0].header("Accept-Encoding") == "identity"


async def test_a_large_body_that_a_provider_cannot_read_is_refused(w: World) -> None:
    """Before, only its structure was looked at."""

    async def engine(talk: Talk) -> None:
        await talk.json({"data": []})

    w.backend.behave("*", engine)
    forward = Forward("/v1/embeddings", answer=AnswerMode.INSPECT, convert=lambda _request, answer: answer)
    w.slots["embed"].become(provider=FakeProvider(forward))
    body = b'{"model":"embed","input":"%b\\ud800"}' % (b"x" * 300_000)
    async with w.http.post(w.url + "/v1/embeddings", data=BytesIO(body)) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (400, "request.invalid_json")


async def test_a_provider_may_answer_by_itself(w: World) -> None:
    async def serve(exchange: Exchange, endpoint: Endpoint) -> None:
        await exchange.send(201, {"Content-Type": "text/plain"}, exchange.path.encode() + await exchange.read_body())

    w.slots["primary"].become(provider=FakeProvider(Serve(serve)))
    async with w.http.post(w.url + CHAT, data=b"{}") as answer:
        assert (answer.status, await answer.read()) == (201, b"/chat/completions{}")
        assert answer.headers["X-Hal0-Slot"] == "primary"
        overhead_ms = float(answer.headers["X-Hal0-Overhead-Ms"])
    (record,) = w.decisions
    assert record.overhead_ms == pytest.approx(overhead_ms, abs=0.01)
    assert 0 < overhead_ms < record.total_ms
    assert record.first_byte_ms is not None
    assert overhead_ms + record.first_byte_ms <= record.total_ms + 0.01


async def test_expect_100_is_answered_before_the_body(w: World) -> None:
    async with raw(w.port) as client, asyncio.timeout(5):
        body = jsonio.dumps(w.chat())
        await client.send(
            f"POST {CHAT} HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        )
        assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(body)
        assert (await client.head()).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(("given", "kept"), [("abc.DEF-1_2", True), ("a b", False), ("x" * 65, False)])
async def test_request_ids_are_kept_when_harmless(w: World, given: str, kept: bool) -> None:
    async with w.http.post(w.url + CHAT, json=w.chat(), headers={"X-Request-ID": given}) as answer:
        assert (answer.headers["X-Request-ID"] == given) is kept
        record = w.decisions.get(answer.headers["X-Request-ID"])
    assert record is not None
    assert record.target == "primary"


@pytest.mark.parametrize("demo", [True, False])
async def test_the_provider_learns_what_the_slot_and_the_body_say(w: World, demo: bool) -> None:
    slot, provider = w.slots["embed"], FakeProvider()
    slot.become(provider=provider, demo=demo)
    members = {"input": "x", "encoding_format": "base64"}
    async with w.http.post(f"{w.url}/v1/embeddings", json=w.chat("embed", **members)) as answer:
        assert answer.status == 200
    assert provider.asked == [
        InferRequest("/embeddings", Capability.EMBED, "fake-embed", stream=False, encoding_format="base64", demo=demo)
    ]


async def test_usage_is_counted_without_touching_the_stream(w: World) -> None:
    async with w.http.post(w.url + CHAT, json=w.chat(stream=True)) as answer:
        await answer.read()
    (record,) = w.decisions
    assert (record.prompt_tokens, record.completion_tokens, record.tokens_per_second) == (7, 3, 42.5)
    assert record.bytes_out > 400
    assert record.stream


async def test_connections_are_reused_until_they_are_old(w: World) -> None:
    for _ in range(3):
        async with w.http.post(w.url + CHAT, json=w.chat()) as answer:
            await answer.read()
    assert w.backend.connections == 1
