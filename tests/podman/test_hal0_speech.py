"""The real Kokoro image behind hal0's /v1, asked by the unmodified client: formats, streams, events, and refusals."""

import asyncio
import base64
import json
import subprocess
import time
from collections.abc import AsyncIterator

import openai
import pytest

from tests.podman.daemon import Daemon
from tests.podman.store import Podman
from tests.tiny import kokoro_model
from tests.tiny.kokoro_model import VOICES, tone_hz

SENTENCES = "The river is wide. The mountain is high. The sea is deep. The stone is old. The sky is blue."
# What each format is decoded as, by FFmpeg in the image: container, codec, samples a second.
FORMATS = {
    "mp3": ("mp3", "mp3float", 24_000),
    "opus": ("ogg", "opus", 48_000),
    "aac": ("aac", "aac", 24_000),
    "flac": ("flac", "flac", 24_000),
    "wav": ("wav", "pcm_s16le", 24_000),
}
DECODE = """
import av, base64, io, json, sys
import numpy as np
from speech.clips import decoded
for line in sys.stdin:
    data = base64.b64decode(line)
    with av.open(io.BytesIO(data)) as file:
        stream = file.streams.audio[0]
        sound = np.concatenate([frame.to_ndarray().astype(float).mean(0) for frame in file.decode(stream)])
        tone = np.abs(np.fft.rfft(sound)).argmax() * stream.rate / len(sound)
        length, clip = len(sound) / stream.rate, len(decoded(data)) / 24000
        print(json.dumps([file.format.name, stream.codec_context.name, stream.rate, length, tone, clip]))
"""


@pytest.fixture
def image(podman: Podman) -> str:
    return podman.built("kokoro")


@pytest.fixture
async def client(daemon: Daemon, image: str) -> AsyncIterator[openai.AsyncOpenAI]:
    """A slot that speaks a tenth of a second or more for each sentence, loaded."""
    daemon.config = f'[slots.tts]\nimage = "{image}"\n'
    daemon.prepare()
    kokoro_model.write_kokoro(daemon.models / "tiny-kokoro", work=1000)
    await daemon.start()
    async with daemon.operator() as operator:
        job = await operator.verb("tts", "swap", {"model": "tiny-kokoro"})
        assert job["state"] == "done", job
    async with openai.AsyncOpenAI(base_url=f"{daemon.url}/v1", api_key="none", max_retries=0) as made:
        yield made


async def test_it_speaks_as_openai_does(daemon: Daemon, podman: Podman, image: str, client: openai.AsyncOpenAI) -> None:
    await every_format_is_sound(podman, image, client)
    await the_first_sound_comes_before_the_last_sentence_is_spoken(client)
    await events_carry_the_same_sound(client)
    await mandarin_is_read_by_its_words(client)
    await voices_are_listed_and_others_refused(daemon, client)
    await who_leaves_stops_the_work(daemon, client)


async def every_format_is_sound(podman: Podman, image: str, client: openai.AsyncOpenAI) -> None:
    spoken = [await said(client, name, "The river is wide.") for name in FORMATS]
    seconds = len(await said(client, "pcm", "The river is wide.")) / 48_000
    for heard, expected in zip(await asyncio.to_thread(decoded, podman, image, spoken), FORMATS.values(), strict=True):
        assert tuple(heard[:3]) == expected
        assert heard[3] == pytest.approx(seconds, abs=0.12)
        assert heard[4] == pytest.approx(tone_hz("af_bella"), abs=5), "the voice that was asked for"
        assert heard[5] == pytest.approx(heard[3], abs=0.01), "what it can say it can hear, to clone it"
    blend = await said(client, "wav", "The river is wide.", "af_bella(1)+zm_yunyang(3)")
    ((*_, tone, _),) = await asyncio.to_thread(decoded, podman, image, [blend])
    assert tone == pytest.approx(0.25 * tone_hz("af_bella") + 0.75 * tone_hz("zm_yunyang"), abs=5)
    fast = await client.audio.speech.create(
        model="tts", voice="shimmer", input="The river is wide.", response_format="pcm", speed=2.0
    )
    assert len(fast.content) / 48_000 == pytest.approx(seconds / 2, rel=0.2)


async def said(client: openai.AsyncOpenAI, name: str, text: str, voice: str = "af_bella") -> bytes:
    answer = await client.audio.speech.create(
        model="tts", voice=voice, input=text, response_format=name,  # type: ignore[arg-type]
    )  # fmt: skip
    return answer.content


def decoded(podman: Podman, image: str, sounds: list[bytes]) -> list[list[object]]:
    """By another decoder than the encoders that made them."""
    lines = "\n".join(base64.b64encode(sound).decode() for sound in sounds)
    done = subprocess.run(
        ["podman", "run", "--rm", "-i", "--network", "none", "--entrypoint", "/usr/bin/python3", image, "-c", DECODE],
        env=dict(podman.environ), input=lines, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


async def the_first_sound_comes_before_the_last_sentence_is_spoken(client: openai.AsyncOpenAI) -> None:
    began = time.monotonic()
    async with client.audio.speech.with_streaming_response.create(
        model="tts", voice="af_sky", input=SENTENCES, response_format="mp3"
    ) as stream:
        assert stream.headers["content-type"] == "audio/mpeg"
        arrivals = [time.monotonic() async for _chunk in stream.iter_bytes(512)]
    # One of five sentences was spoken when the first sound came.
    assert arrivals[0] - began < (arrivals[-1] - began) / 2


async def events_carry_the_same_sound(client: openai.AsyncOpenAI) -> None:
    async with client.audio.speech.with_streaming_response.create(
        model="tts", voice="af_sky", input=SENTENCES, response_format="pcm", stream_format="sse"
    ) as stream:
        assert stream.headers["content-type"] == "text/event-stream"
        events = [json.loads(line[6:]) async for line in stream.iter_lines() if line]
    assert [event["type"] for event in events] == ["speech.audio.delta"] * 5 + ["speech.audio.done"]
    sound = b"".join(base64.b64decode(event["audio"]) for event in events[:-1])
    assert sound == await said(client, "pcm", SENTENCES, "af_sky")
    assert events[-1]["usage"]["input_tokens"] > len(SENTENCES) / 2


async def mandarin_is_read_by_its_words(client: openai.AsyncOpenAI) -> None:
    """Told by the number of its signs: ni↓xau↓, ʂɨ↘ʨje↘."""
    async with client.audio.speech.with_streaming_response.create(
        model="tts",
        voice="zf_xiaoxiao",
        input="你好，世界。",  # noqa: RUF001
        response_format="pcm",
        stream_format="sse",
    ) as stream:
        events = [json.loads(line[6:]) async for line in stream.iter_lines() if line]
    assert events[-1]["usage"]["input_tokens"] == 17


async def voices_are_listed_and_others_refused(daemon: Daemon, client: openai.AsyncOpenAI) -> None:
    listed = await client.get("/audio/voices", cast_to=dict)
    assert {voice["id"] for voice in listed["voices"]} == set(VOICES)
    for wrong, param in (
        ({"voice": "nobody"}, "voice"),
        ({"speed": 3.0}, "speed"),
        ({"response_format": "x"}, "response_format"),
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            await client.audio.speech.create(**{"model": "tts", "voice": "alloy", "input": "Hi.", **wrong})  # type: ignore[arg-type]
        assert refused.value.param == param
        assert "allowed: " in refused.value.message


async def who_leaves_stops_the_work(daemon: Daemon, client: openai.AsyncOpenAI) -> None:
    """The slot is free long before the speech would have ended."""
    async with client.audio.speech.with_streaming_response.create(
        model="tts", voice="af_sky", input="The river is wide. " * 200, response_format="pcm"
    ) as stream:
        async for _chunk in stream.iter_bytes(512):
            break
    began = time.monotonic()
    assert await said(client, "pcm", "The end.")
    assert time.monotonic() - began < 3
    async with daemon.operator() as operator:
        began = time.monotonic()
        await operator.verb("tts", "unload")
        assert time.monotonic() - began < 10, "nobody is spoken to, so nothing is waited for"
