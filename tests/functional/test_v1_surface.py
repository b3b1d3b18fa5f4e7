"""Every path of the surface: where it goes, what arrives there, and how its clients are told what went wrong."""

import asyncio
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Final

import pytest
from yarl import URL

from hal0.dispatch.surface import SURFACE, BodyKind, Dialect, PathRow
from hal0.lib import jsonio
from hal0.providers.base import Endpoint
from hal0.providers.llamacpp import LlamaCpp
from hal0.slots.handle import Serves
from hal0.vocab import Capability, Phase
from tests.fakes.backend import SECRET, Talk
from tests.fakes.slots import READY, snapshot
from tests.functional.dispatch_app import World, world
from tests.functional.raw_client import raw

FLEET: Final = {
    "embed-rerank": Capability.RERANK,
    "stt": Capability.STT,
    "tts": Capability.TTS,
    "img": Capability.IMAGE,
}
COMMENT: Final = b": hal0 keep-alive\n\n\r\n"  # at the end of its chunk
DISPATCHED: Final = [row for row in SURFACE if row.body is not BodyKind.RAW]


async def echo(talk: Talk) -> None:
    body = talk.seen.body or b"nothing"
    await talk.raw(b"HTTP/1.1 200 OK\r\nContent-Type: audio/x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    """A slot for everything, all served by one engine that gives back what it got."""
    async with world(tmp_path) as it:
        for name, capability in FLEET.items():
            serves = (Serves(f"a-{name}", capability),)
            it.slots.add(snapshot(name, **READY, endpoint=it.endpoint, model=f"a-{name}", serves=serves))
        it.backend.behave("*", echo)
        yield it


def slot_for(row: PathRow) -> str:
    fleet = {**FLEET, "embed": Capability.EMBED}
    return next((name for name, capability in fleet.items() if capability is row.capability), "primary")


@pytest.mark.parametrize(
    ("row", "spelling"), [pytest.param(row, it, id=it) for row in DISPATCHED for it in row.spellings]
)
async def test_every_path_goes_to_its_slot_with_all_it_brought(w: World, row: PathRow, spelling: str) -> None:
    body = b'{ "vendor":[1.0], "model":"", "x":"\\u00e9" }' if row.method == "POST" else b""
    headers = {"Content-Type": "application/json", "anthropic-beta": "b-1", "X-Vendor": "v"}
    url = URL(f"{w.url}{spelling}?beta=true&x=%2F", encoded=True)
    async with w.http.request(row.method, url, data=body, headers=headers) as answer:
        assert (answer.status, answer.headers["X-Hal0-Rule"]) == (200, "capability")
        assert answer.headers["X-Hal0-Slot"] == slot_for(row)
        assert answer.headers.get("request-id") == (
            answer.headers["X-Request-ID"] if row.dialect is Dialect.ANTHROPIC else None
        )
        assert await answer.read() == body or b"nothing"
    (seen,) = w.backend.seen
    assert seen.line == f"{row.method} /v1{row.path}?beta=true&x=%2F HTTP/1.1"
    assert (seen.header("anthropic-beta"), seen.header("X-Vendor")) == ("b-1", "v")
    assert seen.header("Content-Length") == (str(len(body)) if body else None)


@pytest.mark.parametrize("row", DISPATCHED, ids=lambda row: row.path)
async def test_a_model_that_cannot_do_the_path_is_a_conflict(w: World, row: PathRow) -> None:
    wrong = "a-img" if row.capability is not Capability.IMAGE else "fake-embed"
    url = f"{w.url}{row.spellings[0]}"
    body = {"json": {"model": wrong}} if row.method == "POST" else {"params": {"model": wrong}}
    async with w.http.request(row.method, url, **body) as answer:  # type: ignore[arg-type]
        if row.capability is None:
            assert answer.status == 200
            return
        told = await answer.json()
        assert answer.status == 409
        assert told["error"]["code"] == "dispatch.capability_mismatch"
        assert told["error"]["details"]["needs"] == row.capability
        assert (told.get("type") == "error") is (row.dialect is Dialect.ANTHROPIC)


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("POST", "/v1/messages", 400, "invalid_request_error"),
        ("POST", "/messages", 400, "invalid_request_error"),
        ("GET", "/v1/messages", 405, "invalid_request_error"),
        ("POST", "/v1/messages/count_tokens", 400, "invalid_request_error"),
    ],
)
async def test_anthropics_clients_are_refused_in_their_own_words(
    w: World, method: str, path: str, status: int, kind: str
) -> None:
    async with w.http.request(method, w.url + path, data=b"[") as answer:
        told = await answer.json()
        assert (answer.status, told["type"], told["error"]["type"]) == (status, "error", kind)
        assert told["request_id"] == answer.headers["request-id"] == answer.headers["X-Request-ID"]


@pytest.mark.parametrize("row", [row for row in SURFACE if row.keepalive], ids=lambda row: row.path)
async def test_a_stream_that_waits_is_kept_alive_and_fails_in_its_own_dialect(tmp_path: Path, row: PathRow) -> None:
    async with world(tmp_path, loaded=False, keepalive_s=0.02) as w:
        body = {"model": "primary", "stream": True}
        async with raw(w.port) as client, asyncio.timeout(10):
            await client.post(f"/v1{row.path}", body)
            head = await client.head()
            assert head.startswith(b"HTTP/1.1 200 OK")
            assert b"Content-Type: text/event-stream" in head
            await client.reader.readuntil(COMMENT)
            w.slots["primary"].become(phase=Phase.OFFLINE, model=None, serves=())
            last = (await client.rest()).rpartition(COMMENT)[2]
    *name, data = last.strip().split(b"\r\n")[1].strip().split(b"\n")
    assert name == ([] if row.dialect is Dialect.OPENAI else [b"event: error"])
    error = jsonio.loads(data.removeprefix(b"data: "))
    assert (error["error"]["code"], error["error"]["status"]) == ("slot.no_model", 409)
    assert (error.get("type") == "error") is (row.dialect is Dialect.ANTHROPIC)


@pytest.mark.parametrize("path", ["/v1/audio/voices", "/props?model=tts", "/slot/tts/health"])
async def test_who_only_looks_loads_nothing(w: World, path: str) -> None:
    w.slots["tts"].become(phase=Phase.OFFLINE, endpoint=None)
    async with w.http.get(w.url + path) as answer:
        assert answer.status == 503
        assert (await answer.json())["error"]["code"] == "slot.offline"
    assert w.slots["tts"].loads == 0
    async with w.http.head(w.url + path) as answer:
        assert answer.status == 405


@pytest.mark.parametrize(
    ("method", "path", "target"),
    [
        ("GET", "/slot/img/queue", "/queue"),
        ("POST", "/slot/img/prompt?x=%2f&y", "/prompt?x=%2f&y"),
        ("GET", "/slot/img/view/a%2Fb%20c/../d", "/view/a%2Fb%20c/../d"),
        ("POST", "/slot/img//v1/x", "//v1/x"),
        ("GET", "/slot/img/", "/"),
    ],
)
async def test_a_slots_engine_is_reached_as_it_is(w: World, method: str, path: str, target: str) -> None:
    body = b"\x00 not JSON \xff" if method == "POST" else b""
    async with raw(w.port) as client:
        head = f"{method} {path} HTTP/1.1\r\nHost: h\r\nX-Vendor: v\r\nAuthorization: Bearer mine\r\n"
        await client.send(head.encode() + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        answer = await client.head()
    assert b"X-Hal0-Slot: img" in answer
    assert b"Content-Security-Policy: sandbox; frame-ancestors 'none'" in answer  # no page of hal0's own
    (seen,) = w.backend.seen
    assert seen.line == f"{method} {target} HTTP/1.1"
    assert seen.body == body
    assert (seen.header("X-Vendor"), seen.header("Authorization")) == ("v", f"Bearer {SECRET}")
    (record,) = w.decisions
    assert (record.target, record.rule, record.status) == ("img", "address", 200)


@pytest.mark.parametrize("name", ["nobody", "chat", "hal0", "a-img"])
async def test_a_slot_that_is_not_there_is_said_to_be_missing(w: World, name: str) -> None:
    async with w.http.get(f"{w.url}/slot/{name}/health") as answer:
        assert answer.status == 404
        assert (await answer.json())["error"]["code"] == "slot.not_found"
    assert not w.backend.seen


@pytest.mark.parametrize("path", ["/v1/audio/voices", "/props?model=tts"])
async def test_what_a_browser_can_be_led_to_is_no_page_of_hal0s_own(w: World, path: str) -> None:
    async with w.http.get(w.url + path) as answer:
        assert answer.headers["Content-Security-Policy"] == "sandbox; frame-ancestors 'none'"


async def test_llama_cpp_knows_what_it_can_be_asked(w: World) -> None:
    w.slots["primary"].become(provider=LlamaCpp())
    w.slots["embed-rerank"].become(provider=LlamaCpp())
    asked = {
        "/v1/responses": "/v1/responses",
        "/rerankings": "/v1/rerank",
        "/v2/rerank": "/v1/rerank",
        "/v1/tokenize": "/tokenize",
        "/completion": "/completion",
        "/v1/messages/count_tokens": "/v1/messages/count_tokens",
    }
    for path, target in asked.items():
        async with w.http.post(w.url + path, json={}) as answer:
            assert answer.status == 200
        assert w.backend.seen[-1].line == f"POST {target} HTTP/1.1"


@pytest.mark.parametrize("filler", [10, 400_000, 2_000_000])
async def test_documents_as_objects_reach_llama_cpp_as_texts(w: World, filler: int) -> None:
    w.slots["embed-rerank"].become(provider=LlamaCpp())
    long = b"z" * filler
    body = b'{ "query":1.0, "documents" : [{"text":"%b"}, "b"] , "top_n": 1}'
    async with w.http.post(f"{w.url}/v1/rerank", data=BytesIO(body % long)) as answer:
        assert answer.status == 200
    assert w.backend.seen[0].body == b'{ "query":1.0, "documents" : ["%b","b"] , "top_n": 1}' % long
    untouched = b'{"documents": ["a", "b"]}'
    async with w.http.post(f"{w.url}/v1/rerank", data=untouched) as answer:
        assert answer.status == 200
    assert w.backend.seen[1].body == untouched


async def test_what_cannot_be_written_anew_is_refused(w: World) -> None:
    """The parser takes four times the depth."""
    w.slots["embed-rerank"].become(provider=LlamaCpp())
    body = b'{"documents":[{"x":%b}]}' % (b"[" * 300 + b"]" * 300)
    async with w.http.post(f"{w.url}/v1/rerank", data=body) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (400, "request.invalid_json")
    assert not w.backend.seen


async def test_upstreams_are_asked_in_the_worlds_spelling_and_never_about_engines(tmp_path: Path) -> None:
    async with (
        world(tmp_path) as probe,
        world(
            tmp_path,
            root={"upstreams": {"far": {"base_url": f"{probe.url}/v1", "kind": "openai", "models": ["m", "n"]}}},
        ) as w,
    ):
        probe.slots.add(
            snapshot("m", **READY, endpoint=Endpoint(probe.backend.host, probe.backend.port, SECRET), model="m",
                     serves=(Serves("m", Capability.RERANK),))
        )  # fmt: skip
        probe.backend.behave("*", echo)
        async with w.http.post(f"{w.url}/v1/rerankings", json={"model": "m"}) as answer:
            assert (answer.status, answer.headers["X-Hal0-Upstream"]) == (200, "far")
        assert probe.backend.seen[0].line == "POST /v1/rerank HTTP/1.1"
        async with w.http.get(f"{w.url}/props?model=m") as answer:
            assert answer.status == 409
            assert "only slots do" in (await answer.json())["error"]["message"]
