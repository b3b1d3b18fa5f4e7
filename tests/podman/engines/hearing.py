"""Speech to text by the real Moonshine library: every format, every form of answer, and everything that is no sound."""

import asyncio
import functools
import io
import json
import os
import random
import struct
import tempfile
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import openai
import pytest

from tests.podman.engines.world import World
from tests.podman.streams import until
from tests.tiny.onnx_models import HEARD

# File name -> FFmpeg's container and codec.
FORMATS: Final = {
    "wav": ("wav", "pcm_s16le"),
    "mp3": ("mp3", "libmp3lame"),
    "mpga": ("mp2", "mp2"),
    "mpeg": ("mpeg", "mp2"),
    "flac": ("flac", "flac"),
    "ogg": ("ogg", "flac"),
    "opus": ("ogg", "libopus"),
    "m4a": ("ipod", "aac"),
    "mp4": ("mp4", "aac"),
    "webm": ("webm", "libopus"),
    "aac": ("adts", "aac"),
    "aiff": ("aiff", "pcm_s16be"),
    "wma": ("asf", "wmav2"),
}
# Those that may hold pictures, too, do: what is said in a film is heard.
FILMS: Final = {"mp4": "mpeg4", "webm": "libvpx"}
# Run inside the image: the tests' own environment has no FFmpeg.
ENCODE: Final = """
import json, sys, av
import numpy as np
films = json.loads(sys.argv[2])
tone = (np.sin(np.arange(int(2.5 * 48000)) * 0.05) * 8000).astype(np.int16)[None, :]
for name, (container, codec) in json.loads(sys.argv[1]).items():
    with av.open(f"/out/clip.{name}", "w", format=container) as out:
        film = out.add_stream(films[name], rate=10) if name in films else None
        stream = out.add_stream(codec, rate=48000, layout="mono")
        stream.bit_rate = 64000
        if film is not None:
            film.width, film.height, film.pix_fmt = 64, 64, "yuv420p"
            for number in range(25):
                picture = av.VideoFrame(64, 64, "yuv420p")
                picture.pts = number
                out.mux(film.encode(picture))
            out.mux(film.encode(None))
        frame = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
        frame.rate, frame.pts = 48000, 0
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=48000)
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            out.mux(stream.encode(part))
"""
DAMAGED_EACH: Final = 6
HEARD_IT: Final = (200, None, None)
TOO_SHORT: Final = (400, "audio_too_short", "file")
NO_SOUND: Final = (415, "audio.unsupported_format", "file")
GROWTH_BYTES: Final = 96 * 2**20  # of the engine over all damaged clips: its decoders' own ups and downs


@functools.cache
def clips(world: World) -> dict[str, bytes]:
    """The same two and a half seconds in every format. Blocking."""
    with tempfile.TemporaryDirectory() as folder:
        world.run("moonshine", ENCODE, json.dumps(FORMATS), json.dumps(FILMS), folder=Path(folder))
        return {name: (Path(folder) / f"clip.{name}").read_bytes() for name in FORMATS}


def noise(seconds: float) -> bytes:
    return wav(os.urandom(round(seconds * 16_000) * 2))


def wav(frames: bytes) -> bytes:
    kept = io.BytesIO()
    with wave.open(kept, "wb") as out:
        out.setparams((1, 2, 16_000, 0, "NONE", ""))
        out.writeframes(frames)
    return kept.getvalue()


async def every_format_is_heard(world: World) -> None:
    async with world.openai() as client:
        for name, content in (await asyncio.to_thread(clips, world)).items():
            said = await client.audio.transcriptions.create(model="stt", file=(f"clip.{name}", content))
            assert said.text == "two seconds of sound", name
        tiny = await client.audio.transcriptions.create(model="moonshine-tiny", file=("a.wav", noise(0.3)))
        assert tiny.text == "zero"
        with pytest.deprecated_call():
            translated = await client.audio.translations.create(model="stt", file=("a.wav", noise(4.2)))
        assert translated.text == "four seconds"


async def every_answer_has_its_form(world: World) -> None:
    sound = ("a.wav", noise(40))
    async with world.openai() as client:
        ask = client.audio.transcriptions.create
        verbose = await ask(
            model="stt", file=sound, response_format="verbose_json", timestamp_granularities=["segment"]
        )
        assert (verbose.language, verbose.duration) == ("english", 40)
        assert verbose.segments is not None
        first, second = verbose.segments
        assert 20 <= first.end == second.start <= 30
        assert first.tokens == list(HEARD["five or more"])
        srt = await ask(model="stt", file=sound, response_format="srt")
        assert srt.startswith("1\n00:00:00,000 --> 00:00:2")
        assert srt.endswith("--> 00:00:40,000\nfive or more\n")
        vtt = await ask(model="stt", file=sound, response_format="vtt")
        assert vtt.startswith("WEBVTT\n\n00:00:00.000 --> 00:00:2")
        assert await ask(model="stt", file=("a.wav", noise(1.2)), response_format="text") == "one second\n"
        silence = await ask(model="stt", file=("a.wav", wav(bytes(64_000))))
        assert silence.text == ""


async def a_stream_comes_piece_by_piece(world: World) -> None:
    async with world.openai() as client:
        stream = await client.audio.transcriptions.create(model="stt", file=("a.wav", noise(65)), stream=True)
        events = [event async for event in stream]
    deltas = [event.delta for event in events if event.type == "transcript.text.delta"]
    last = events[-1]
    assert last.type == "transcript.text.done"
    assert last.text == "".join(deltas)
    assert len(deltas) in (3, 4)


async def what_is_no_sound_is_refused(world: World) -> None:
    async with world.openai() as client:
        for content, why in (
            (b"this is text" * 1000, "not in any format of sound"),
            (b"", "it is empty"),
            (b"#EXTM3U\n#EXTINF:1,\nfile:///run/hal0/secret\n", "not in any format of sound"),
            (noise(2)[:40], "damaged"),
            (wav(b""), "there is no sound in it"),
        ):
            with pytest.raises(openai.APIStatusError, match=why) as caught:
                await client.audio.transcriptions.create(model="stt", file=("song.mp3", content))
            assert caught.value.status_code == 415, content[:20]
            assert (caught.value.code, caught.value.param) == ("audio.unsupported_format", "file")
        with pytest.raises(openai.BadRequestError, match="allowed: json, text, srt, verbose_json, vtt") as refused:
            await client.audio.transcriptions.create(
                model="stt", file=("a.wav", noise(1)), response_format="diarized_json"
            )
        assert refused.value.param == "response_format"


async def any_upload_is_heard_or_refused(world: World) -> None:
    """Damaged clips of every format, and headers that lie, through the real decoder: it goes on, and keeps its size."""
    before = await asyncio.to_thread(world.container, "stt")
    size = await asyncio.to_thread(most_resident, before["Pid"])
    dice = random.Random(13)
    uploads = [*lies(), *damaged(await asyncio.to_thread(clips, world), dice)]
    outcomes: list[Any] = []
    async with world.openai() as client:

        async def upload(content: bytes) -> None:
            try:
                await client.audio.transcriptions.create(model="stt", file=("a.mp3", content))
                outcomes.append(HEARD_IT)
            except openai.APIStatusError as refused:
                outcomes.append((refused.status_code, refused.code, refused.param))

        for start in range(0, len(uploads), 4):
            await asyncio.gather(*map(upload, uploads[start : start + 4]))
    assert set(outcomes) <= {HEARD_IT, NO_SOUND, TOO_SHORT}, set(outcomes)
    assert min(outcomes.count(HEARD_IT), outcomes.count(NO_SOUND)) > len(FORMATS), outcomes
    assert (await asyncio.to_thread(world.container, "stt"))["Id"] == before["Id"]
    assert await asyncio.to_thread(most_resident, before["Pid"]) - size < GROWTH_BYTES


def damaged(whole: dict[str, bytes], dice: random.Random) -> Iterator[bytes]:
    """Cut short, with other bytes in the header or anywhere, doubled, or with a hole."""
    for clip in whole.values():
        for number in range(DAMAGED_EACH):
            data = bytearray(clip)
            at = dice.randrange(len(data))
            match number % DAMAGED_EACH:
                case 0:
                    del data[at:]
                case 1:
                    for _ in range(8):
                        data[dice.randrange(64)] = dice.randrange(256)
                case 2:
                    for _ in range(dice.randrange(1, 400)):
                        data[dice.randrange(len(data))] = dice.randrange(256)
                case 3:
                    data[at:at] = dice.randbytes(dice.randrange(5000))
                case 4:
                    del data[at : at + dice.randrange(5000)]
                case _:
                    data[:] = data[at:] + data[:at]
            yield bytes(data)


def lies() -> Iterator[bytes]:
    """WAV headers of sounds that nobody has."""
    most = 2**32 - 1
    for channels, rate, width, size in (
        (65535, 16_000, 16, 64_000),
        (1, most, 16, 64_000),
        (1, 1, 16, 64_000),
        (1, 16_000, 16, most),
        (0, 0, 0, 0),
        (1, 16_000, 65535, 64_000),
        (2, 192_000, 32, most),
    ):
        form = struct.pack("<HHIIHH", 1, channels, rate, min(rate * 2, most), max(1, width // 8) & 0xFFFF, width)
        head = b"RIFF" + struct.pack("<I", most) + b"WAVEfmt " + struct.pack("<I", len(form)) + form
        yield head + b"data" + struct.pack("<I", size) + os.urandom(32_000)


def most_resident(init: int) -> int:
    """The most bytes of memory that the engine below this init, or it itself, has ever had."""
    children = Path(f"/proc/{init}/task/{init}/children").read_text().split()
    status = Path(f"/proc/{children[0] if children else init}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


async def the_engine_is_hal0s_alone(world: World) -> None:
    async with world.daemon.operator() as operator:
        port = (await operator.slot("stt"))["port"]
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        for path in ("/v1/models", "/v1/audio/transcriptions"):
            async with session.get(path) as answer:
                assert answer.status == 401
        async with session.get("/health") as answer:
            assert answer.status == 200


async def nobody_works_for_who_left(world: World) -> None:
    form = aiohttp.FormData({"model": "slow", "stream": "true"})
    form.add_field("file", io.BytesIO(noise(600)), filename="long.wav")
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{world.url}/v1/audio/transcriptions", data=form) as answer:
            assert answer.status == 200, await answer.text()
            assert b"transcript.text.delta" in await answer.content.readline()
            answer.close()

        async def noticed() -> bool:
            async with session.get(f"{world.url}/slot/slow/health") as answer:
                assert answer.status == 200
            return "left by its client after" in (await asyncio.to_thread(world.daemon.ctl, "logs", "slow")).stdout

        await until(noticed, within_s=20, what="the engine goes on for nobody")
