"""`hal0ctl setup` on the real engine: a model from a hub, hal0 killed half way, gone on with, and asked."""

import asyncio

import openai
import pytest

from tests.fakes.hub import hub
from tests.podman.daemon import Daemon
from tests.podman.streams import until
from tests.tiny import gguf_models

FILE = "tiny-talker-F16.gguf"
OTHERS = ("embed", "embed-rerank", "stt", "tts", "img")


@pytest.mark.parametrize("moment", ["pull", "load"])
async def test_a_setup_that_is_killed_half_way_goes_on(daemon: Daemon, moment: str) -> None:
    data = await asyncio.to_thread(_model, daemon)
    async with hub() as far:
        far.files, far.held = {FILE: data}, moment == "pull"
        daemon.environ = {"HF_ENDPOINT": far.endpoint}
        await daemon.start()
        words = ["setup", "--yes", "--slot", "primary=acme/tiny", *(w for slot in OTHERS for w in ("--skip", slot))]
        begun = await asyncio.to_thread(daemon.ctl, *words, "--no-wait")
        assert begun.returncode == 0, begun.stderr

        async def half_way() -> bool:
            return bool(far.asked) if moment == "pull" else bool(await asyncio.to_thread(daemon.containers))

        await until(half_way, within_s=30, what=f"the {moment} has begun")
        daemon.kill()
        far.held = False
        await daemon.start()
        again = await asyncio.to_thread(daemon.ctl, *words)
        assert again.returncode == 0, again.stderr
        assert "Try it: hal0ctl chat" in again.stderr
        async with openai.AsyncOpenAI(base_url=f"{daemon.url}/v1", api_key="none", max_retries=0) as client:
            answer = await client.chat.completions.create(
                model="tiny-talker-f16", messages=[{"role": "user", "content": "Hello"}], max_tokens=5
            )
            assert answer.choices[0].message.content


def _model(daemon: Daemon) -> bytes:
    """None of the models that are here already."""
    made = gguf_models.write_chat(daemon.home / FILE, seed=3, eos_bias=gguf_models.NEVER_ENDS)
    data = made.read_bytes()
    made.unlink()
    return data
