"""The speech server's answers: formats, streams piece by piece, events, and clients that leave."""

import asyncio
import base64
import io
import json
import threading
import wave
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import ClientPayloadError, web
from aiohttp.test_utils import TestClient, TestServer

from serving import app
from serving.app import Options, Server, UnusableError
from serving.errors import not_allowed
from serving.worker import Worker
from speech.backend import RATE, Reference, Samples, Spoken
from speech.formats import FORMATS, with_true_length
from speech.kokoro_backend import KokoroBackend, blended, in_use, read_styles
from speech.routes import SpeechEngine

SHOWN = {"Authorization": "Bearer s"}
THREE = "One. Two. Three."


class Clock:
    """A backend whose every piece is a tenth of a second; it waits for `may` before it says the one named `late`."""

    speeds = (0.5, 2.0)
    longest = 250

    def __init__(self, late: str = "", fails: str = "") -> None:
        self.said: list[str] = []
        self.may = threading.Event()
        self.worker: Worker | None = None
        self._late, self._fails = late, fails

    def load(self) -> None: ...

    def voices(self) -> Mapping[str, str]:
        return {"a": "A"}

    def speaker(self, voice: str | None, reference: Reference | None, text: str) -> "Clock":
        if voice not in (None, "a"):
            raise not_allowed("voice", voice, ["a"])
        return self

    def say(self, piece: str, speed: float) -> Spoken | None:
        self.said.append(piece)
        if piece == self._late:
            assert self.may.wait(5)
        if piece == self._fails:
            raise RuntimeError("the runtime's own words")
        if piece == "-":
            return None
        return Spoken(np.full(RATE // 10, 0.5, dtype=np.float32), len(piece), 4)


@asynccontextmanager
async def serving(backend: Clock) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    server = Server(Options("127.0.0.1", 0, Path("/m"), "m", "s"), SpeechEngine(backend))
    async with TestClient(TestServer(server.app(), handler_cancellation=True), headers=SHOWN) as client:
        backend.worker = server.worker
        await server.load()
        yield client


def body(text: str = THREE, **members: Any) -> dict[str, Any]:
    return {"model": "m", "input": text, "response_format": "pcm", **members}


async def test_a_single_sentence_comes_whole_and_says_how_long_it_is() -> None:
    async with serving(Clock()) as client:
        answer = await client.post("/v1/audio/speech", json=body("One.", response_format="wav"))
        sound = await answer.read()
    assert (answer.content_type, answer.headers["Content-Length"]) == ("audio/wav", str(len(sound)))
    with wave.open(io.BytesIO(sound)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (RATE, 1, RATE // 10)


async def test_several_come_as_they_are_spoken_with_pauses_between() -> None:
    backend = Clock(late="Three.")
    async with serving(backend) as client:
        answer = await client.post("/v1/audio/speech", json=body())
        assert "Content-Length" not in answer.headers
        early = await answer.content.readexactly(2 * RATE // 10)
        assert any(early)
        assert not backend.may.is_set()
        backend.may.set()
        rest = await answer.read()
    assert len(early + rest) == 2 * (3 * RATE // 10 + 2 * RATE // 4)


async def test_who_wants_it_whole_gets_a_true_length() -> None:
    async with serving(Clock()) as client:
        answer = await client.post("/v1/audio/speech", json=body(stream=False, response_format="wav"))
        with wave.open(io.BytesIO(await answer.read())) as file:
            assert file.getnframes() == 3 * RATE // 10 + 2 * RATE // 4


async def test_events_carry_sound_and_end_with_what_it_took() -> None:
    async with serving(Clock()) as client:
        answer = await client.post("/v1/audio/speech", json=body(stream_format="sse"))
        events = [json.loads(line[6:]) for line in (await answer.text()).splitlines() if line]
    assert answer.content_type == "text/event-stream"
    assert [event["type"] for event in events] == ["speech.audio.delta"] * 3 + ["speech.audio.done"]
    assert len(base64.b64decode(events[2]["audio"])) == 2 * RATE // 10
    assert events[3]["usage"] == {"input_tokens": 14, "output_tokens": 12, "total_tokens": 26}


@pytest.mark.parametrize(
    ("text", "status", "param"), [("-", 400, "input"), ("- - -", 400, "input"), ("One.", 400, "voice")]
)
@pytest.mark.parametrize("stream_format", ["audio", "sse"])
async def test_a_refusal_is_json_with_a_status_whatever_was_asked_for(
    text: str, status: int, param: str, stream_format: str
) -> None:
    voice = "b" if param == "voice" else "a"
    text = text.replace("- - -", "-\n\n-")
    async with serving(Clock()) as client:
        answer = await client.post("/v1/audio/speech", json=body(text, voice=voice, stream_format=stream_format))
        assert (answer.status, (await answer.json())["error"]["param"]) == (status, param)


@pytest.mark.parametrize("sent", [b"{", b"\xff\xfe", b"[]", b"[" * 1_000_000])
async def test_what_is_no_request_is_refused(sent: bytes) -> None:
    async with serving(Clock()) as client:
        answer = await client.post("/v1/audio/speech", data=sent)
        assert answer.status == 400
        assert "JSON" in (await answer.json())["error"]["message"]


async def test_a_body_that_is_too_large_is_not_read_and_who_finds_the_line_full_sends_none_in_vain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(app, "_BODY_BYTES", 10_000)
    backend = Clock()
    async with serving(backend) as client:
        large = await client.post("/v1/audio/speech", data=b" " * 20_000)
        assert (large.status, (await large.json())["error"]["type"]) == (413, "invalid_request_error")
        assert backend.worker
        monkeypatch.setattr(backend.worker, "_limit", 0)
        full = await client.post("/v1/audio/speech", data=b" " * 20_000)
        assert (full.status, full.headers["Retry-After"]) == (503, "1")


async def test_a_fault_before_the_first_sound_is_a_500_without_the_engines_words() -> None:
    async with serving(Clock(fails="One.")) as client:
        answer = await client.post("/v1/audio/speech", json=body())
        assert answer.status == 500
        assert "own words" not in await answer.text()


async def test_a_fault_in_the_middle_is_told_in_events_and_breaks_off_sound() -> None:
    async with serving(Clock(fails="Two.")) as client:
        answer = await client.post("/v1/audio/speech", json=body())
        with pytest.raises(ClientPayloadError):
            await answer.read()
        answer = await client.post("/v1/audio/speech", json=body(stream_format="sse"))
        assert b"speech.audio.delta" in await answer.content.readline()
        told = [await answer.content.readline() for _ in range(3)]
        with pytest.raises(ClientPayloadError):
            await answer.read()
    assert b"server_error" in told[1]


async def test_who_leaves_is_spoken_to_no_further() -> None:
    backend = Clock(late="Two.")
    async with serving(backend) as client:
        answer = await client.post("/v1/audio/speech", json=body())
        await answer.content.readexactly(100)
        answer.close()
        await nobody_is_served(backend)
        backend.may.set()
        again = await client.post("/v1/audio/speech", json=body("Four."))  # the thread is free again
        assert again.status == 200
    assert backend.said[0] == "One."
    assert "Three." not in backend.said


async def nobody_is_served(backend: Clock) -> None:
    assert backend.worker
    async with asyncio.timeout(20):
        while backend.worker._admitted:  # noqa: ASYNC110  the worker tells nobody
            await asyncio.sleep(0.005)


async def test_voices_are_listed() -> None:
    async with serving(Clock()) as client:
        assert await (await client.get("/v1/audio/voices")).json() == {"voices": [{"id": "a", "name": "A"}]}


def test_samples_beyond_the_scale_are_clipped_not_wrapped() -> None:
    encoder = FORMATS["pcm"].encoder()
    values = np.frombuffer(encoder.feed(np.array([2.0, -2.0, 0.0], dtype=np.float32)) + encoder.finish(), "<i2")
    assert values.tolist() == [32767, -32767, 0]


def test_only_a_wav_has_a_length_to_be_mended() -> None:
    assert with_true_length(FORMATS["pcm"], b"xy") == b"xy"
    assert {name: made.content_type for name, made in FORMATS.items()} == {
        "mp3": "audio/mpeg", "opus": "audio/ogg", "aac": "audio/aac",
        "flac": "audio/flac", "wav": "audio/wav", "pcm": "audio/pcm",
    }  # fmt: skip


def test_a_runtime_that_fell_back_is_not_used_unseen() -> None:
    assert in_use(["CPUExecutionProvider"], None) == "CPUExecutionProvider"
    assert in_use(["WebGpuExecutionProvider", "CPUExecutionProvider"], "WebGpuExecutionProvider").startswith("WebGpu")
    with pytest.raises(UnusableError, match="cannot use WebGpu"):
        in_use(["CPUExecutionProvider"], "WebGpuExecutionProvider")


def style(rows: int, value: float) -> Samples:
    return np.full((rows, 1, 256), value, dtype=np.float32)


def test_a_blend_is_the_sum_of_the_shares() -> None:
    mixed = blended([(style(3, 1.0), 0.75), (style(2, -1.0), 0.25)])
    assert mixed.shape == (2, 1, 256)
    assert np.allclose(mixed, 0.5)
    assert mixed.dtype == np.float32


def test_voices_are_read_and_what_could_run_code_is_not(tmp_path: Path) -> None:
    good, wrong, pickled, torn = (tmp_path / name for name in ("v.npz", "w.npz", "p.npz", "t.npz"))
    np.savez(good, af_a=style(4, 0.0))
    np.savez(wrong, af_a=np.zeros(3))
    np.savez(pickled, af_a=np.array([{"x": 1}], dtype=object), allow_pickle=True)
    torn.write_bytes(good.read_bytes()[:200])
    assert list(read_styles(good)) == ["af_a"]
    for path in (wrong, pickled, torn, tmp_path / "none.npz"):
        with pytest.raises(UnusableError, match="cannot load the model"):
            read_styles(path)


def test_a_folder_without_one_graph_and_one_set_of_voices_is_told_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "kokoro.onnx").write_bytes(b"")
    with pytest.raises(UnusableError, match=r"found: kokoro\.onnx"):
        KokoroBackend(tmp_path).load()
