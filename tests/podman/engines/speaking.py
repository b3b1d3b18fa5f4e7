"""Text to speech by the real Kokoro library: every format, streams and events, voices, and refusals."""

import asyncio
import base64
import json
import random
import time
from typing import Any, Final

import numpy as np
import openai
import pytest

from tests.podman.engines import hearing
from tests.podman.engines.world import World
from tests.podman.streams import ATTEMPTS
from tests.tiny.kokoro_model import VOICES, tone_hz

RIVER: Final = "The river is wide."
TWO: Final = f"{RIVER} The sea is deep."
SENTENCES: Final = f"{RIVER} The mountain is high. The sea is deep. The stone is old. The sky is blue."
GREETINGS: Final = {
    "a": "Good day.", "b": "Good day.", "e": "Buenos días.", "f": "Bonjour à tous.", "h": "नमस्ते।", "i": "Buongiorno.",
    "j": "世界の皆さん、今日は。", "p": "Bom dia.", "z": "你好。",
}  # fmt: skip
# What each format is decoded as, by FFmpeg in the image: container, codec, samples a second.
FORMATS: Final = {
    "mp3": ("mp3", "mp3float", 24_000),
    "opus": ("ogg", "opus", 48_000),
    "aac": ("aac", "aac", 24_000),
    "flac": ("flac", "flac", 24_000),
    "wav": ("wav", "pcm_s16le", 24_000),
}
DECODE: Final = """
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

CLIPS: Final = """
import base64, resource, sys
from serving.errors import Refusal
from speech.clips import decoded, voiced
import av
begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for line in sys.stdin:
    try:
        voiced(decoded(base64.b64decode(line)))
        print("sound")
    except Refusal as refusal:
        print(refusal.param)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begun)
"""


async def said(client: openai.AsyncOpenAI, name: str, text: str, voice: str = "af_bella", **more: Any) -> bytes:
    answer = await client.audio.speech.create(
        model="tts", voice=voice, input=text, response_format=name, **more,  # type: ignore[arg-type]
    )  # fmt: skip
    assert ("content-length" in answer.response.headers) is (". " not in text), (
        "several sentences are sent as they come"
    )
    return answer.content


async def every_format_is_sound(world: World) -> None:
    """In one piece and sentence by sentence; decoded by another decoder than the encoders that made them."""
    async with world.openai() as client:
        whole = [await said(client, name, RIVER) for name in FORMATS]
        streamed = [await said(client, name, TWO) for name in FORMATS]
        seconds, both = [len(await said(client, "pcm", text)) / 48_000 for text in (RIVER, TWO)]
        blended = await said(client, "wav", RIVER, "af_bella(1)+zm_yunyang(3)")
        fast = await said(client, "pcm", RIVER, "shimmer", speed=2.0)
    assert len(fast) / 48_000 == pytest.approx(seconds / 2, rel=0.2)
    *heard, blend = await asyncio.to_thread(decoded, world, [*whole, *streamed, blended])
    lengths = [seconds] * len(FORMATS) + [both] * len(FORMATS)
    for one, expected, length in zip(heard, [*FORMATS.values()] * 2, lengths, strict=True):
        assert tuple(one[:3]) == expected
        assert one[3] == pytest.approx(length, abs=0.12)
        assert one[4] == pytest.approx(tone_hz("af_bella"), abs=5), "the voice that was asked for"
        assert one[5] == pytest.approx(one[3], abs=0.01), "what it can say it can hear, to clone it"
    assert blend[4] == pytest.approx(0.25 * tone_hz("af_bella") + 0.75 * tone_hz("zm_yunyang"), abs=5)


def decoded(world: World, sounds: list[bytes]) -> list[Any]:
    """Container, codec, rate, seconds and tone (Hz) of each, and its seconds as a clip. Blocking."""
    lines = "\n".join(base64.b64encode(sound).decode() for sound in sounds)
    return [json.loads(line) for line in world.run("kokoro", DECODE, stdin=lines).splitlines()]


async def any_clip_is_sound_or_refused(world: World) -> None:
    """Damaged clips of every format, and headers that lie, as clips to be cloned."""
    clips = [*hearing.lies(), *hearing.damaged(await asyncio.to_thread(hearing.clips, world), random.Random(17))]
    lines = "\n".join(base64.b64encode(clip).decode() for clip in clips)
    *outcomes, grown = (await asyncio.to_thread(world.run, "kokoro", CLIPS, stdin=lines)).splitlines()
    assert len(outcomes) == len(clips)
    assert set(outcomes) == {"sound", "ref_audio"}
    assert int(grown) * 1024 < hearing.GROWTH_BYTES


async def the_first_sound_comes_before_the_last_sentence_is_spoken(world: World) -> None:
    """A machine that stands still meanwhile makes any sound late: one of a few attempts is enough."""
    shares: list[float] = []
    while not shares or shares[-1] >= 0.5:
        assert len(shares) < ATTEMPTS, shares
        shares.append(await _share_until_the_first_sound(world))


async def _share_until_the_first_sound(world: World) -> float:
    began = time.monotonic()
    async with (
        world.openai() as client,
        client.audio.speech.with_streaming_response.create(
            model="tts", voice="af_sky", input=f"{SENTENCES} " * 4, response_format="mp3"
        ) as stream,
    ):
        assert stream.headers["content-type"] == "audio/mpeg"
        arrivals = [time.monotonic() async for _chunk in stream.iter_bytes(512)]
    # One of twenty sentences was spoken when the first sound came.
    return (arrivals[0] - began) / (arrivals[-1] - began)


async def events_carry_the_same_sound(world: World) -> None:
    async with world.openai() as client:
        async with client.audio.speech.with_streaming_response.create(
            model="tts", voice="af_sky", input=SENTENCES, response_format="pcm", stream_format="sse"
        ) as stream:
            assert stream.headers["content-type"] == "text/event-stream"
            events = [json.loads(line[6:]) async for line in stream.iter_lines() if line]
        assert [event["type"] for event in events] == ["speech.audio.delta"] * 5 + ["speech.audio.done"]
        sound = b"".join(base64.b64decode(event["audio"]) for event in events[:-1])
        assert sound == await said(client, "pcm", SENTENCES, "af_sky")
        assert events[-1]["usage"]["input_tokens"] > len(SENTENCES) / 2


async def signs_are_read_by_their_words(world: World) -> None:
    """Told by the number of sounds: ni↓xau↓, ʂɨ↘ʨje↘. and kʲoː βa ii teŋkʲi desɨ."""  # noqa: RUF002
    for voice, text, sounds in (
        ("zf_xiaoxiao", "你好，世界。", 17),  # noqa: RUF001
        ("jf_alpha", "今日はいい天気です。", 23),
    ):
        async with (
            world.openai() as client,
            client.audio.speech.with_streaming_response.create(
                model="tts", voice=voice, input=text, response_format="pcm", stream_format="sse"
            ) as stream,
        ):
            events = [json.loads(line[6:]) async for line in stream.iter_lines() if line]
        assert events[-1]["usage"]["input_tokens"] == sounds


async def each_of_54_voices_speaks_its_language(world: World) -> None:
    assert len(VOICES) == 54
    async with world.openai() as client:
        spoken = await asyncio.gather(*(said(client, "pcm", GREETINGS[voice[0]], voice) for voice in VOICES))
    for voice, sound in zip(VOICES, spoken, strict=True):
        samples = np.frombuffer(sound, dtype="<i2").astype(float)
        tone = np.abs(np.fft.rfft(samples)).argmax() * 24_000 / len(samples)
        assert tone == pytest.approx(tone_hz(voice), abs=5), voice


async def voices_are_listed_and_others_refused(world: World) -> None:
    async with world.openai() as client:
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


async def who_leaves_stops_the_work(world: World) -> None:
    """The slot is free long before the speech would have ended."""
    async with world.openai() as client:
        async with client.audio.speech.with_streaming_response.create(
            model="tts", voice="af_sky", input=f"{RIVER} " * 200, response_format="pcm"
        ) as stream:
            async for _chunk in stream.iter_bytes(512):
                break
        began = time.monotonic()
        assert await said(client, "pcm", "The end.")
        assert time.monotonic() - began < 15  # of minutes, on any machine that this runs on
