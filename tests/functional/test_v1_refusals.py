"""Requests that cannot be taken get one clear JSON error, as early as possible."""

import asyncio
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import aiohttp
import pytest

from hal0.config.dispatch import DispatchConfig
from hal0.lib import jsonio
from hal0.providers.llamacpp import LlamaCpp
from hal0.slots.handle import Serves
from hal0.vocab import Capability
from tests.fakes.backend import Talk
from tests.fakes.slots import FakeProvider, snapshot
from tests.functional.dispatch_app import World, world
from tests.functional.raw_client import SIGN_OF_LIFE, answer, raw

CHAT = "/v1/chat/completions"


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path, json_limit=4 << 20) as it:
        yield it


async def refused(w: World, body: bytes, **headers: str) -> tuple[int, str]:
    async with w.http.post(w.url + CHAT, data=BytesIO(body), headers=headers) as answer:
        error = (await answer.json())["error"]
        assert error["message"].startswith("cannot ")
        assert error["request_id"] == answer.headers["X-Request-ID"]
        assert answer.headers["x-should-retry"] == "false"
        return answer.status, error["code"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "request.invalid_json"),
        (b"hello", "request.invalid_json"),
        (b"[1]", "request.invalid_json"),
        (b'{"model":"x"', "request.invalid_json"),
        (b'{"model":"x"} {}', "request.invalid_json"),
        (b'{"model":7}', "request.invalid"),
        (b'{"model":"' + b"x" * 513 + b'"}', "request.invalid"),
        (b'{"a":"' + b"x" * 300_000, "request.invalid_json"),
        (b"x" * 300_000, "request.invalid_json"),
        (b'{"a":"' + b"x" * 2_000_000 + b'","model":[]}', "request.invalid"),
    ],
)
async def test_a_body_that_is_not_a_json_object_is_refused(w: World, body: bytes, code: str) -> None:
    assert await refused(w, body) == (400, code)
    assert not w.backend.seen


async def test_a_compressed_body_is_refused(w: World) -> None:
    assert await refused(w, b"{}", **{"Content-Encoding": "br"}) == (415, "request.encoding")


async def test_a_compressed_body_behind_another_word_is_refused(w: World) -> None:
    """An engine that goes by the last of two would read what hal0 has not seen."""
    two = "Content-Encoding: identity\r\nContent-Encoding: gzip\r\n"
    async with raw(w.port) as client:
        await client.post("/slot/primary/v1/chat/completions", b"\x1f\x8b", two)
        assert b" 415 " in (await client.head()).splitlines()[0]
    assert not w.backend.seen


async def test_100_mb_are_refused_before_a_byte_is_read(w: World) -> None:
    async with raw(w.port) as client, asyncio.timeout(2):
        await client.send(b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Length: 104857600\r\n\r\n" % CHAT.encode())
        assert b" 413 " in await client.head()


async def test_expect_100_with_too_large_a_length_is_not_invited(w: World) -> None:
    async with raw(w.port) as client, asyncio.timeout(2):
        await client.send(
            b"POST %b HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 104857600\r\n\r\n" % CHAT.encode()
        )
        assert (await client.head()).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/nothing"])
async def test_an_expectation_that_nobody_knows_is_passed_over(w: World, path: bytes) -> None:
    async with raw(w.port) as client:
        await client.send(
            b"POST %b HTTP/1.1\r\nHost: a\r\nExpect: \xff\xfe\r\nExpect: b\r\nContent-Length: 1\r\n\r\n{" % path
        )
        status, _, body = await answer(client)
    code = jsonio.loads(body)["error"]["code"]
    assert (status, code) == ((404, "request.not_found") if path == b"/nothing" else (400, "request.invalid_json"))


@pytest.mark.parametrize("head", [b"POST /nothing HTTP/1.1", b"PUT /v1/models HTTP/1.1", b"POST /nothing HTTP/1.0"])
async def test_what_nobody_handles_is_not_invited_to_send_a_body(w: World, head: bytes) -> None:
    async with raw(w.port) as client, asyncio.timeout(2):
        await client.send(head + b"\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n")
        assert b" 40" in (await client.head()).splitlines()[0]


async def test_a_chunked_body_over_the_limit_is_refused(w: World) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b'{"a":"'
        for _ in range(100):
            yield b"x" * 65536

    async with w.http.post(w.url + CHAT, data=endless()) as answer:
        assert (await answer.json())["error"]["code"] == "request.too_large"


async def test_a_broken_chunked_body_is_a_bad_request(w: World) -> None:
    async with raw(w.port) as client, asyncio.timeout(2):
        await client.send(b"POST %b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" % CHAT.encode())
        await client.send(b'3\r\n{"a\r\nzz\r\n')
        assert b" 400 " in await client.head()


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "request.not_found"),
        ("POST", "/v1/models", 405, "request.method"),
        ("GET", CHAT, 405, "request.method"),
        ("PUT", CHAT, 405, "request.method"),
        ("OPTIONS", CHAT, 405, "request.method"),
        ("GET", "/v1/models/unheard-of", 404, "model.not_found"),
    ],
)
async def test_paths_and_methods_that_are_not_there_are_json_errors(
    w: World, method: str, path: str, status: int, code: str
) -> None:
    async with w.http.request(method, w.url + path) as answer:
        assert answer.status == status
        assert (await answer.json())["error"]["code"] == code
        assert (status != 405) or answer.headers["Allow"]


async def test_head_answers_like_get_without_a_body(w: World) -> None:
    async with w.http.head(w.url + "/v1/models") as answer:
        assert answer.status == 200
        assert int(answer.headers["Content-Length"]) > 100
        assert await answer.read() == b""
    async with w.http.head(w.url + CHAT) as answer:
        assert answer.status == 405


async def test_a_model_of_the_wrong_kind_is_a_conflict(w: World) -> None:
    body = jsonio.dumps({"model": "fake-embed", "messages": []})
    assert await refused(w, body) == (409, "dispatch.capability_mismatch")
    (record,) = w.decisions
    assert record.status == 409
    assert (record.tried[-1].rule, record.tried[-1].hit) == ("preemption", True)


@pytest.mark.parametrize(
    ("model", "status", "code"), [("fake-chatt", 404, "dispatch.no_route"), (None, 400, "request.missing_model")]
)
async def test_strict_mode_guesses_nothing(tmp_path: Path, model: str | None, status: int, code: str) -> None:
    async with world(tmp_path, strict_models=True) as w:
        assert await refused(w, jsonio.dumps({"model": model})) == (status, code)
        (record,) = w.decisions
        assert [tried.rule for tried in record.tried] == [
            "address", "preemption", "registry", "passthrough", "prefetch", "capability"
        ]  # fmt: skip


async def test_a_changed_configuration_counts_from_the_next_request_on(w: World) -> None:
    body = jsonio.dumps({"model": "unheard-of"})
    for config, status in (({}, 200), ({"strict_models": True}, 404), ({}, 200), ({"json_limit": 10}, 413)):
        w.dispatcher.apply(DispatchConfig(**config))
        async with w.http.post(w.url + CHAT, data=body, headers={"Expect": "100-continue"}) as answer:
            assert answer.status == status


async def test_the_model_list_marks_the_demo_and_what_is_only_on_disk(w: World) -> None:
    w.slots.add(snapshot("toy", demo=True, model="toy-1", serves=(Serves("toy-1", Capability.CHAT),)))
    async with w.http.get(w.url + "/v1/models") as answer:
        views = {view["id"]: view for view in (await answer.json())["data"]}
    assert views["toy-1"]["demo"] is True
    assert views["toy-1"]["owned_by"] == "hal0-demo"
    assert {model: view["status"] for model, view in views.items()} == {
        "primary": "loaded", "embed": "loaded", "toy": "offline",
        "fake-chat": "loaded", "fake-embed": "loaded", "toy-1": "offline", "on-disk": "available",
    }  # fmt: skip
    assert list(views)[:3] == ["primary", "embed", "toy"]
    assert [views[name]["model"] for name in ("primary", "toy", "fake-chat")] == ["fake-chat", "toy-1", None]
    assert views["toy"]["demo"] is True
    assert views["primary"]["capabilities"] == views["fake-chat"]["capabilities"] == ["chat", "completion"]


async def test_a_failure_of_our_own_is_json_and_logged(w: World, caplog: pytest.LogCaptureFixture) -> None:
    w.slots["primary"].become(provider=None)
    assert await refused(w, b"{}") == (500, "system.internal")
    assert "Traceback" in caplog.text
    (record,) = w.decisions
    assert (record.status, record.code) == (500, "system.internal")


@pytest.mark.parametrize("headers", [{}, {"Connection": "close"}])  # read by hal0's front, by aiohttp
async def test_a_machine_that_has_nothing_left_is_no_mistake_of_hal0s(w: World, headers: dict[str, str]) -> None:
    w.slots["primary"].become(provider=FakeProvider(refuses=RuntimeError("can't start new thread")))
    for _ in range(3):
        async with w.http.post(w.url + CHAT, json=w.chat(), headers=headers) as answer:
            error = (await answer.json())["error"]
            assert (answer.status, error["code"], answer.headers["x-should-retry"]) == (503, "server.exhausted", "true")
    assert {(record.status, record.code) for record in w.decisions} == {(503, "server.exhausted")}


@pytest.mark.parametrize("padding", [0, 100_000, 2_000_000])  # looked at once, in slices, in the spool
async def test_media_by_address_are_for_upstreams_only(w: World, padding: int) -> None:
    """Whoever may ask a model must not make the engine call other machines of this network."""
    part = {"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}
    body = jsonio.dumps({"pad": "x" * padding, "messages": [{"role": "user", "content": [part]}]})
    assert await refused(w, body) == (400, "request.remote_media")
    for mark in (b"", b"\xef\xbb\xbf"):
        async with w.http.post(w.url + "/slot/primary/v1/chat/completions", data=BytesIO(mark + body)) as answer:
            assert (await answer.json())["error"]["code"] == "request.remote_media"
    assert not w.backend.seen
    here = body.replace(b"http://169.254.169.254/", b"data:image/png;base64,AAAA")
    async with w.http.post(w.url + CHAT, data=BytesIO(here)) as answer:
        assert answer.status == 200
    assert w.backend.seen[0].body == here


async def blind(talk: Talk) -> None:
    message = "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj"
    await talk.json({"error": {"code": 500, "message": message, "type": "server_error"}}, status="500 Internal Error")


async def unlucky(talk: Talk) -> None:
    await talk.json({"error": {"code": 500, "message": "out of luck"}}, status="500 Internal Error")


async def test_a_picture_for_a_model_without_eyes_is_refused_as_such(w: World) -> None:
    w.slots["primary"].become(provider=LlamaCpp())
    w.backend.behave("fake-chat", blind)
    for _ in range(3):  # on the ordinary way, then on the short one
        assert await refused(w, jsonio.dumps(w.chat())) == (409, "dispatch.capability_mismatch")
    assert [(record.status, record.code) for record in w.decisions] == [(409, "dispatch.capability_mismatch")] * 3
    w.backend.behave("fake-chat", unlucky)
    for _ in range(2):
        async with w.http.post(w.url + CHAT, json=w.chat()) as answer:
            assert (answer.status, (await answer.json())["error"]["message"]) == (500, "out of luck")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("'messages' is required", "'messages' is required"),
        ("Failed to parse tools: Expected 'tools' to be an array, got 1; tools = 1", "Failed to parse tools"),
    ],
)
async def test_what_the_client_should_have_sent_otherwise_is_no_failure_of_the_server(
    w: World, said: str, told: str
) -> None:
    async def blames_itself(talk: Talk) -> None:
        error = {"code": 500, "message": said, "type": "server_error"}
        await talk.json({"error": error}, status="500 Internal Server Error")

    w.slots["primary"].become(provider=LlamaCpp())
    w.backend.behave("fake-chat", blames_itself)
    async with w.http.post(w.url + "/v1/messages", json=w.chat()) as answer:
        error = (await answer.json())["error"]
        assert (answer.status, error["type"], error["code"]) == (400, "invalid_request_error", "request.invalid")
        assert error["message"].endswith(told)


@pytest.mark.parametrize("path", ["/slot/none/v1/messages", "/slot/none/messages", "/slot/none/v1/messages/batches"])
async def test_claudes_clients_get_errors_in_their_shape_from_a_slots_address_too(w: World, path: str) -> None:
    async with w.http.post(w.url + path, json=w.chat("none")) as answer:
        told = await answer.json()
        assert (answer.status, told["type"], told["error"]["type"]) == (404, "error", "not_found_error")


async def test_no_sign_of_life_begins_an_answer_that_is_read_before_it_goes_out(tmp_path: Path) -> None:
    async def slowly(talk: Talk) -> None:
        body = jsonio.dumps({"error": {"code": 500, "message": "out of luck"}})
        await talk.raw(b"HTTP/1.1 500 No\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body))
        await asyncio.sleep(0.5)
        await talk.raw(body)

    async with world(tmp_path, keepalive_s=0.2) as w, raw(w.port) as client:
        w.slots["primary"].become(provider=LlamaCpp())
        w.backend.behave("fake-chat", slowly)
        await client.post(CHAT, w.chat(stream=True))
        status, _, body = await answer(client)
        assert (status, jsonio.loads(body)["error"]["message"]) == (500, "out of luck")


async def test_a_stream_that_was_kept_alive_ends_with_the_same_refusal(tmp_path: Path) -> None:
    async with world(tmp_path, keepalive_s=0.01) as w:
        told = asyncio.Event()

        async def blind_after_a_while(talk: Talk) -> None:
            await told.wait()
            await blind(talk)

        w.slots["primary"].become(provider=LlamaCpp())
        w.backend.behave("fake-chat", blind_after_a_while)
        async with w.http.post(w.url + CHAT, json=w.chat(stream=True)) as answer:
            await answer.content.readuntil(SIGN_OF_LIFE)
            told.set()
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.read()
        (record,) = w.decisions
        assert (record.status, record.code) == (409, "dispatch.capability_mismatch")
