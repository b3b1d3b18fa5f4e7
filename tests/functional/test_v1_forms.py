"""Multipart: the model wherever it stands, every byte of the file as it was, and nothing that can be read two ways."""

import asyncio
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import openai
import pytest

from hal0.dispatch.body import MEMORY_LIMIT_BYTES
from hal0.providers.base import Forward
from hal0.slots.handle import Serves
from hal0.vocab import Capability
from tests.fakes.backend import Backend, Talk, running
from tests.fakes.slots import READY, FakeProvider, settled, snapshot
from tests.functional.dispatch_app import World, world
from tests.functional.raw_client import raw
from tests.functional.upstream_app import house

TRANSCRIBE: Final = "/v1/audio/transcriptions"
FORM: Final = {"Content-Type": "multipart/form-data; boundary=b"}
FIELD: Final = b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
FILE: Final = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n%b\r\n'


async def said(talk: Talk) -> None:
    await talk.json({"text": "hello", "created": 1, "data": [{"b64_json": "eA=="}]})


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    """Two slots that hear, and one that paints."""
    async with world(tmp_path, multipart_limit=8 << 20, json_limit=1 << 20) as it:
        for name, capability in (("stt", Capability.STT), ("ears", Capability.STT), ("img", Capability.IMAGE)):
            serves = (Serves(f"a-{name}", capability),)
            it.slots.add(snapshot(name, **READY, endpoint=it.endpoint, model=f"a-{name}", serves=serves))
        it.backend.behave("*", said)
        yield it


def form(sound: bytes, model: bytes | None, *, first: bool = True, **fields: bytes) -> bytes:
    parts = [FIELD % (name.encode(), value) for name, value in fields.items()]
    if model is not None:
        parts.insert(0, FIELD % (b"model", model))
    file = FILE % sound
    return b"".join([*parts, file] if first else [file, *parts]) + b"--b--\r\n"


async def send(w: World, body: bytes, path: str = TRANSCRIBE, headers: dict[str, str] = FORM) -> tuple[int, Any]:
    async with w.http.post(w.url + path, data=BytesIO(body), headers=headers) as answer:
        told = await answer.json()
        return answer.status, told["error"]["code"] if answer.status >= 400 else answer.headers["X-Hal0-Slot"]


@pytest.mark.parametrize("size", [0, 70_000, MEMORY_LIMIT_BYTES * 3 + 1])
@pytest.mark.parametrize("first", [True, False], ids=["fields first", "file first"])
async def test_the_model_is_found_and_the_body_arrives_byte_for_byte(w: World, first: bool, size: int) -> None:
    body = form(bytes(range(256)) * (size // 256) + b"\r\n--x", b"a-ears", first=first, language=b"\xc3\xa9")
    assert await send(w, body) == (200, "ears")
    (seen,) = w.backend.seen
    assert seen.body == body
    assert seen.header("Content-Type") == FORM["Content-Type"]
    assert seen.header("Content-Length") == str(len(body))


@pytest.mark.parametrize("model", [None, b"", b"whisper-1"])
async def test_without_a_known_model_the_path_decides(w: World, model: bytes | None) -> None:
    assert await send(w, form(b"RIFF", model)) == (200, "stt")


async def test_a_form_that_comes_in_single_bytes_is_the_same_form(w: World) -> None:
    body = form(b"RIFF\r\n--", b"ears", first=False)

    async def pieces() -> AsyncIterator[bytes]:
        for byte in body:
            yield bytes([byte])

    async with w.http.post(w.url + TRANSCRIBE, data=pieces(), headers=FORM) as answer:
        assert answer.headers["X-Hal0-Slot"] == "ears"
    assert w.backend.seen[0].body == body


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        (b"", FORM, "request.invalid_form"),
        (form(b"x", b"ears")[:-4], FORM, "request.invalid_form"),
        (form(b"x", b"ears").replace(b"--b", b"--c"), FORM, "request.invalid_form"),
        (form(b"x" * 300_000 + b"\n--b\r\n", b"ears"), FORM, "request.invalid_form"),
        (form(b"x", b"ears"), {"Content-Type": "multipart/form-data"}, "request.invalid_form"),
        (form(b"x", b"ears"), {"Content-Type": "text/plain"}, "request.invalid_form"),
        (form(b"x", b"ears"), {**FORM, "Content-Encoding": "gzip"}, "request.encoding"),
        (b'{"model": "ears"}', {"Content-Type": "multipart/form-data; boundary=b"}, "request.invalid_form"),
        (b"{", {"Content-Type": "application/json"}, "request.invalid_json"),
        (form(b"x", b"x" * 513), FORM, "request.invalid"),
        (b'{"model":"a-img"}', {"Content-Type": "application/json; charset=utf-8"}, "dispatch.capability_mismatch"),
        (form(b"x" * (8 << 20), b"ears"), FORM, "request.too_large"),
    ],
)
async def test_what_is_no_form_is_one_typed_error(w: World, body: bytes, headers: dict[str, str], code: str) -> None:
    status, told = await send(w, body, headers=headers)
    assert told == code
    assert status in (400, 409, 413, 415)
    assert not w.backend.seen
    (record,) = w.decisions
    assert record.code == code


async def test_two_content_types_are_refused(w: World) -> None:
    body = form(b"x", b"ears")
    async with raw(w.port) as client, asyncio.timeout(5):
        types = "Content-Type: multipart/form-data; boundary=b\r\nContent-Type: application/json\r\n"
        await client.post(TRANSCRIBE, body, types)
        assert b" 400 " in (await client.head()).splitlines()[0]
    assert not w.backend.seen


async def test_a_json_object_on_such_a_path_is_one_too(w: World) -> None:
    headers = {"Content-Type": "application/json"}
    assert await send(w, b'{"model":"img","prompt":"x"}', "/v1/images/edits", headers) == (200, "img")


@pytest.mark.parametrize("first", [True, False])
async def test_a_provider_may_name_the_model_anew(w: World, first: bool) -> None:
    edits = {"model": "whisper-v3:turbo", "temperature": "0"}
    w.slots["ears"].become(provider=FakeProvider(Forward(TRANSCRIBE, edits=edits)))
    sound = b"R" * MEMORY_LIMIT_BYTES * 2
    assert await send(w, form(sound, b"ears", first=first)) == (200, "ears")
    added = FIELD % (b"temperature", b"0")
    assert w.backend.seen[0].body == added + form(sound, b"whisper-v3:turbo", first=first)


async def test_an_upstream_is_told_its_own_name_of_the_model(tmp_path: Path) -> None:
    async with running() as far:
        far.behave("*", said)
        far.lists = ["whisper-1"]
        async with house(tmp_path, far) as w:
            assert (await _crossed(w, far, b"far/whisper-1")) == form(b"RIFF", b"whisper-1", first=False)


async def _crossed(w: World, far: Backend, model: bytes) -> bytes:
    body = form(b"RIFF", model, first=False)
    async with w.http.post(w.url + TRANSCRIBE, data=BytesIO(body), headers=FORM) as answer:
        assert (answer.status, answer.headers["X-Hal0-Upstream"]) == (200, "far")
    return next(seen.body for seen in far.seen if seen.line.startswith("POST"))


async def test_openais_client_transcribes_translates_and_edits(w: World) -> None:
    async with openai.AsyncOpenAI(base_url=f"{w.url}/v1", api_key="none", max_retries=0) as client:
        for name in ("ears", "a-stt"):
            heard = await client.audio.transcriptions.create(
                model=name, file=('\u00e9 ".wav', b"RIFF" * 20_000), timestamp_granularities=["word"], language="en"
            )
            assert heard.text == "hello"
        with pytest.warns(DeprecationWarning, match="deprecated"):
            assert (await client.audio.translations.create(model="ears", file=b"RIFF")).text == "hello"
        picture = [("a.png", b"\x89PNG"), ("b.png", b"\x89PNG\r\n")]
        edited = await client.images.edit(model="img", image=picture, mask=picture[0], prompt="x")
        assert edited.data
    slots = [record.target for record in w.decisions]
    assert slots == ["ears", "stt", "ears", "img"]


async def test_a_client_that_leaves_inside_its_form_leaves_nothing_behind(w: World) -> None:
    async with raw(w.port) as client:
        head = f"POST {TRANSCRIBE} HTTP/1.1\r\nHost: h\r\nContent-Type: {FORM['Content-Type']}\r\n"
        await client.send(head.encode() + b"Content-Length: 8000000\r\n\r\n" + form(b"x" * 2_000_000, b"ears")[:-4])
        client.leave()
    await settled(lambda: bool(list(w.decisions)))
    (record,) = w.decisions
    assert record.status in (400, 499)
    assert not w.backend.seen
