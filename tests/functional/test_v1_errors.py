"""What engines and upstreams say when they fail, as the clients of each path read it."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import anthropic
import pytest
from aiohttp import ClientError

from hal0.lib import jsonio
from tests.fakes.backend import Behaviour, Talk, running
from tests.functional.dispatch_app import World, world
from tests.functional.raw_client import answer, post, raw
from tests.functional.upstream_app import house, table
from tests.functional.upstream_app import post as post_json

HELLO: Final[Any] = [{"role": "user", "content": "hi"}]
MESSAGES: Final = "/v1/messages"
TOO_LONG: Final = {"error": {"code": 400, "message": "the prompt is too long", "type": "exceed_context_size_error"}}
ANTHROPICS: Final = b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"theirs"}'


def fails(status: str, body: bytes, kind: str = "application/json", extra: bytes = b"") -> Behaviour:
    async def behave(talk: Talk) -> None:
        head = b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n%b\r\n"
        await talk.raw(head % (status.encode(), kind.encode(), len(body), extra) + body)

    return behave


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as it:
        yield it


FAILURES: Final[list[tuple[Behaviour, type[anthropic.APIStatusError], str, str]]] = [
    (
        fails("400 Bad Request", jsonio.dumps(TOO_LONG)),
        anthropic.BadRequestError,
        "invalid_request_error",
        "the prompt is too long",
    ),
    (
        fails("404 Not Found", b"File Not Found", "text/plain"),
        anthropic.NotFoundError,
        "not_found_error",
        "File Not Found",
    ),
    (fails("500 Internal Server Error", b'{"error":"oops"}'), anthropic.InternalServerError, "api_error", "oops"),
    (
        fails("429 Too Many", gzip.compress(b'{"message":"slow down"}'), extra=b"Content-Encoding: gzip\r\n"),
        anthropic.RateLimitError,
        "rate_limit_error",
        "slow down",
    ),
]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("behave", "raised", "kind", "words"), FAILURES, ids=["400", "404", "500", "429"])
@pytest.mark.parametrize("model", ["primary", "far/fake"])
async def test_anthropics_client_reads_what_any_server_says(
    tmp_path: Path,
    model: str,
    behave: Behaviour,
    raised: type[anthropic.APIStatusError],
    kind: str,
    words: str,
    streamed: bool,
) -> None:
    async with running() as far, house(tmp_path, far) as w:
        for server, asked in ((w.backend, "primary"), (far, "fake")):
            server.behave(asked, behave)
        async with anthropic.AsyncAnthropic(base_url=w.url, api_key="none", max_retries=0) as client:
            with pytest.raises(raised) as caught:
                await client.messages.create(model=model, max_tokens=8, messages=HELLO, stream=streamed)
            with pytest.raises(raised):
                await client.messages.count_tokens(model=model, messages=HELLO)
        body: Any = caught.value.body
        assert (body["type"], body["error"]["type"], body["error"]["message"]) == ("error", kind, words)
        assert words in str(caught.value)
        told = [record.status for record in w.decisions]
        assert told == [caught.value.status_code] * 2
        assert body["request_id"] == caught.value.request_id == next(iter(w.decisions)).request_id


async def test_the_next_request_of_the_connection_is_answered_after_an_error(w: World) -> None:
    w.backend.behave("primary", FAILURES[0][0])
    async with raw(w.port) as client:
        for _ in range(3):
            await client.send(post({"model": "primary", "messages": []}, path=MESSAGES))
            status, headers, body = await answer(client)
            assert (status, headers["x-hal0-slot"], headers["content-type"]) == (400, "primary", "application/json")
            assert jsonio.loads(body)["error"]["details"]["answer"] == TOO_LONG
    assert w.backend.connections == 1


async def test_what_has_anthropics_shape_and_what_openais_clients_get_stays_as_it_came(tmp_path: Path) -> None:
    packed = fails("529 Busy", gzip.compress(ANTHROPICS), extra=b"Content-Encoding: gzip\r\nRetry-After: 9\r\n")
    async with running() as far, house(tmp_path, far) as w:
        for server, asked in ((w.backend, "primary"), (far, "fake")):
            server.behave(asked, packed)
        for model in ("primary", "far/fake"):
            for path in (MESSAGES, "/v1/chat/completions", "/v1/responses"):
                async with w.http.post(w.url + path, json=w.chat(model), auto_decompress=False) as response:
                    assert (response.status, response.headers["Content-Encoding"]) == (529, "gzip")
                    assert response.headers["Retry-After"] == "9"
                    assert gzip.decompress(await response.read()) == ANTHROPICS
        w.backend.behave("primary", FAILURES[1][0])
        status, headers, body = await post_json(w, w.chat("primary"))
        assert (status, headers["Content-Type"], body) == (404, "text/plain", b"File Not Found")


@pytest.mark.parametrize("model", ["primary", "fake"])
async def test_an_error_behind_signs_of_life_says_what_was_said(tmp_path: Path, model: str) -> None:
    heard = asyncio.Event()

    async def late(talk: Talk) -> None:
        await heard.wait()
        await fails("720 Never", jsonio.dumps(TOO_LONG), extra=b"Retry-After: 9\r\n")(talk)

    async with running() as far, world(tmp_path, root={"upstreams": {"far": table(far)}}, keepalive_s=0.02) as w:
        await w.upstreams.prefetch()
        for server in (w.backend, far):
            server.behave(model, late)
        async with raw(w.port) as client:
            await client.post(MESSAGES, w.chat(model, stream=True))
            await client.comments(1)
            heard.set()
            rest = await client.rest()
        (record,) = w.decisions
    assert b"answered 720: the prompt is too long" in rest
    assert b'"retry_after_s":9' in rest
    assert record.status == 720


@pytest.mark.parametrize("path", ["/v1/chat/completions", MESSAGES])
async def test_an_upstream_that_breaks_off_amid_an_error_has_failed(tmp_path: Path, path: str) -> None:
    async def half(talk: Talk) -> None:
        await talk.raw(b'HTTP/1.1 400 Bad Request\r\nContent-Length: 99\r\n\r\n{"error":')
        talk.break_off()

    async with running() as far, house(tmp_path, far) as w:
        far.behave("fake", half)
        with suppress(ClientError):
            await post_json(w, w.chat("far/fake"), path=path)
        assert w.upstreams.named("far").circuit.failures == 1
        assert [record.code for record in w.decisions] == ["upstream.broken"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", MESSAGES, "/slot/primary/v1/chat/completions"])
async def test_an_engine_leads_nobody_elsewhere(w: World, path: str) -> None:
    """A client that follows would show its key for hal0 to whoever is there."""
    for status in (301, 302, 303, 307, 308):
        w.backend.behave("primary", fails(f"{status} Moved", b"{}", extra=b"Location: http://127.0.0.2:1/v1\r\n"))
        async with w.http.post(w.url + path, json=w.chat("primary"), allow_redirects=False) as response:
            error = (await response.json())["error"]
            assert (response.status, error["code"], error["hint"]) == (502, "upstream.broken", "hal0ctl slot logs NAME")
            assert "Location" not in response.headers
