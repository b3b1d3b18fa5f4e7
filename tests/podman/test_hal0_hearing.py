"""Speech to text through hal0's /v1 by the real Moonshine library, asked by the unmodified openai client."""

import asyncio
import io
import json
import os
import subprocess
import time
import wave
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import openai
import pytest

from tests.podman.daemon import Daemon, installed
from tests.podman.store import Podman
from tests.podman.streams import until
from tests.tiny.onnx_models import HEARD, write_moonshine

MODEL = "moonshine-tiny"
NOBODY = 65534
# File name -> FFmpeg's container and codec.
FORMATS = {
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
# Run inside the image: the tests' own environment has no FFmpeg.
ENCODE = """
import json, sys, av
import numpy as np
tone = (np.sin(np.arange(int(2.5 * 48000)) * 0.05) * 8000).astype(np.int16)[None, :]
for name, (container, codec) in json.loads(sys.argv[1]).items():
    with av.open(f"/out/clip.{name}", "w", format=container) as out:
        stream = out.add_stream(codec, rate=48000, layout="mono")
        stream.bit_rate = 64000
        frame = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
        frame.rate, frame.pts = 48000, 0
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=48000)
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            out.mux(stream.encode(part))
"""


@pytest.fixture(scope="module")
def image(podman: Podman) -> str:
    return podman.built("moonshine")


@pytest.fixture(scope="module")
def clips(podman: Podman, image: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same two and a half seconds in every format."""
    folder = tmp_path_factory.mktemp("clips")
    argv = ("podman", "run", "--rm", "--network", "none", "--user", "0", "-v", f"{folder}:/out")
    command = (*argv, "--entrypoint", "/usr/bin/python3", image, "-c", ENCODE, json.dumps(FORMATS))
    done = subprocess.run(command, env=dict(podman.environ), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def hal0(podman: Podman, home: Path, port_block: range, image: str) -> Iterator[Daemon]:
    config = (
        f'[slots.stt]\nmodel = "{MODEL}"\nverify_on_load = true\nimage = "{image}"\n'
        f'[slots.slow]\nprovider = "moonshine"\nmodel = "endless"\nimage = "{image}"\n'
    )
    with installed(Daemon(home, port_block[-1], port_block[:-1], podman, config)) as daemon:
        write_moonshine(daemon.models / MODEL)
        write_moonshine(daemon.models / "endless", ends=False, work=200)
        yield daemon


@asynccontextmanager
async def asking(hal0: Daemon) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{hal0.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def noise(seconds: float) -> bytes:
    return wav(os.urandom(round(seconds * 16_000) * 2))


def wav(frames: bytes) -> bytes:
    kept = io.BytesIO()
    with wave.open(kept, "wb") as out:
        out.setparams((1, 2, 16_000, 0, "NONE", ""))
        out.writeframes(frames)
    return kept.getvalue()


async def test_moonshine_hears_everything_that_is_sound(hal0: Daemon, clips: Path) -> None:
    """One world for all of it: each start of a daemon and a container costs more than all the rest."""
    await hal0.start()
    async with hal0.operator() as operator, asking(hal0) as client:
        loaded = await operator.verb("stt", "load")
        assert loaded["state"] == "done", loaded
        await every_format_is_heard(client, clips)
        await every_answer_has_its_form(client)
        await a_stream_comes_piece_by_piece(client)
        await what_is_no_sound_is_refused(client)
        await the_engine_is_hal0s_alone(hal0, (await operator.slot("stt"))["port"])
        await nobody_works_for_who_left(hal0)
        began = time.monotonic()
        assert (await operator.verb("stt", "unload"))["state"] == "done"
        assert time.monotonic() - began < 5, "it does not end by SIGTERM"


async def every_format_is_heard(client: openai.AsyncOpenAI, clips: Path) -> None:
    for name in FORMATS:
        content = await asyncio.to_thread((clips / f"clip.{name}").read_bytes)
        said = await client.audio.transcriptions.create(model="stt", file=(f"clip.{name}", content))
        assert said.text == "two seconds of sound", name
    tiny = await client.audio.transcriptions.create(model=MODEL, file=("a.wav", noise(0.3)))
    assert tiny.text == "zero"
    with pytest.deprecated_call():
        translated = await client.audio.translations.create(model="stt", file=("a.wav", noise(4.2)))
    assert translated.text == "four seconds"


async def every_answer_has_its_form(client: openai.AsyncOpenAI) -> None:
    sound = ("a.wav", noise(40))
    ask = client.audio.transcriptions.create
    verbose = await ask(model="stt", file=sound, response_format="verbose_json", timestamp_granularities=["segment"])
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


async def a_stream_comes_piece_by_piece(client: openai.AsyncOpenAI) -> None:
    stream = await client.audio.transcriptions.create(model="stt", file=("a.wav", noise(65)), stream=True)
    events = [event async for event in stream]
    deltas = [event.delta for event in events if event.type == "transcript.text.delta"]
    last = events[-1]
    assert last.type == "transcript.text.done"
    assert last.text == "".join(deltas)
    assert len(deltas) in (3, 4)


async def what_is_no_sound_is_refused(client: openai.AsyncOpenAI) -> None:
    for content in (b"this is text" * 1000, b"", b"#EXTM3U\n#EXTINF:1,\nfile:///run/hal0/secret\n", noise(2)[:40]):
        with pytest.raises(openai.APIStatusError) as caught:
            await client.audio.transcriptions.create(model="stt", file=("song.mp3", content))
        assert caught.value.status_code == 415, content[:20]
        assert (caught.value.code, caught.value.param) == ("audio.unsupported_format", "file")
    with pytest.raises(openai.BadRequestError, match="allowed: json, text, srt, verbose_json, vtt") as refused:
        await client.audio.transcriptions.create(model="stt", file=("a.wav", noise(1)), response_format="diarized_json")
    assert refused.value.param == "response_format"


async def the_engine_is_hal0s_alone(hal0: Daemon, port: int) -> None:
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        for path in ("/v1/models", "/v1/audio/transcriptions"):
            async with session.get(path) as answer:
                assert answer.status == 401
        async with session.get("/health") as answer:
            assert answer.status == 200
    (container,) = [one for one in hal0.containers() if one["Labels"]["dev.hal0.slot"] == "stt"]
    assert (await asyncio.to_thread(Path(f"/proc/{container['Pid']}").stat)).st_uid == NOBODY


async def nobody_works_for_who_left(hal0: Daemon) -> None:
    form = aiohttp.FormData({"model": "slow", "stream": "true"})
    form.add_field("file", io.BytesIO(noise(600)), filename="long.wav")
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{hal0.url}/v1/audio/transcriptions", data=form) as answer:
            assert answer.status == 200, await answer.text()
            assert b"transcript.text.delta" in await answer.content.readline()
            answer.close()

        async def noticed() -> bool:
            async with session.get(f"{hal0.url}/slot/slow/health") as answer:
                assert answer.status == 200
            return "left by its client after" in (await asyncio.to_thread(hal0.ctl, "logs", "slow")).stdout

        await until(noticed, within_s=5, what="the engine goes on for nobody")
