"""The real F5-TTS image behind hal0's /v1: a cloned voice, a clip in the request, and what is refused."""

import asyncio
import base64
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest

from tests.podman.daemon import Daemon
from tests.podman.service import Podman
from tests.tiny import f5_model
from tests.tiny.f5_model import RATE, WORDS

TEXT = "The river is wide and the sea is deep."
START_S = 120.0  # PyTorch is read from the disk


@pytest.fixture
def image(podman: Podman) -> str:
    """1.3 GB, some minutes of work."""
    return podman.built("f5-tts")


@pytest.fixture
def hal0(daemon: Daemon, image: str) -> Daemon:
    daemon.config = f'[slots.tts]\nimage = "{image}"\n'
    daemon.prepare()
    f5_model.write_f5(daemon.models / "tiny-f5")
    return daemon


@pytest.fixture
async def client(hal0: Daemon) -> AsyncIterator[openai.AsyncOpenAI]:
    await hal0.start()
    async with hal0.operator() as operator:
        job = await operator.verb("tts", "swap", {"model": "tiny-f5"}, timeout_s=START_S)
        assert job["state"] == "done", job
    async with openai.AsyncOpenAI(base_url=f"{hal0.url}/v1", api_key="none", max_retries=0) as made:
        yield made


async def test_a_voice_is_cloned(client: openai.AsyncOpenAI, tmp_path: Path) -> None:
    listed = await client.get("/audio/voices", cast_to=dict)
    assert [voice["id"] for voice in listed["voices"]] == ["anna"]
    began = time.monotonic()
    seconds = len(await said(client, voice="anna")) / 2 / RATE
    took_s = time.monotonic() - began
    # As long as the clip says its words, for the words that are asked for.
    assert seconds == pytest.approx(2.05 * len(TEXT) / len(f"{WORDS} "), rel=0.05)
    assert took_s < 120  # some seconds on a machine of its own
    slow = await asyncio.to_thread(f5_model.tone, tmp_path / "slow.wav", 6.0)
    cloned = await said(client, ref_audio=base64.b64encode(slow).decode(), ref_text=WORDS)
    assert len(cloned) / 2 / RATE == pytest.approx(3 * seconds, rel=0.1)
    assert len(set(cloned)) > 50, "it is no silence"
    for wrong, param in (({"voice": "bob"}, "voice"), ({"ref_audio": "AAAA", "ref_text": "x"}, "ref_audio")):
        with pytest.raises(openai.BadRequestError) as refused:
            await said(client, **wrong)
        assert refused.value.param == param


PICKLED = """
import os, sys, torch
from safetensors.torch import load_file, save_file
before = load_file("/vocos/model.safetensors")
torch.save(before, "/vocos/pytorch_model.bin")
os.remove("/vocos/model.safetensors")
sys.argv = ["", "/vocos"]
from speech import unpickled
unpickled.main()
after = load_file("/vocos/model.safetensors")
assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
"""


def test_a_vocoder_as_it_is_published_is_written_as_plain_numbers(podman: Podman, image: str, tmp_path: Path) -> None:
    f5_model.write_f5(tmp_path / "tiny-f5")
    argv = ["podman", "run", "--rm", "--network", "none", "--user", "0", "-v", f"{tmp_path}/tiny-f5/vocos:/vocos"]
    done = subprocess.run(
        [*argv, "--entrypoint", "/usr/bin/python3", image, "-c", PICKLED],
        env=dict(podman.environ), capture_output=True, text=True, timeout=START_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "wrote model.safetensors; now remove pytorch_model.bin\n"


async def said(client: openai.AsyncOpenAI, voice: str = "anna", **more: str) -> bytes:
    answer = await client.audio.speech.create(
        model="tts", voice=voice, input=TEXT, response_format="pcm", extra_body=more
    )
    return answer.content
