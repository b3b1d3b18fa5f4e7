"""llama.cpp on the Vulkan backend through hal0: Mesa's software driver takes the place of a GPU."""

import asyncio

import openai
import pytest

from tests.podman.daemon import Daemon
from tests.podman.service import Podman

TABLE = '[slots.primary]\ndevice = "vulkan"\nimage = "IMAGE"\ncontext_size = 512\nextra_args = ["--verbosity", "4"]\n'
BY_HAND = '[slots.primary.env]\nGGML_VK_VISIBLE_DEVICES = "0"\n'


@pytest.fixture(scope="module")
def image(podman: Podman) -> str:
    return podman.built("vulkan")


async def test_a_slot_on_vulkan_answers_and_its_layers_are_on_the_device(daemon: Daemon, image: str) -> None:
    daemon.config = TABLE.replace("IMAGE", image)
    daemon.prepare()
    await daemon.start()
    async with daemon.operator() as operator:
        job = await operator.verb("primary", "swap", {"model": "tiny-chat"})
        assert (job["state"], job["error"]["code"]) == ("failed", "device.missing"), "there is no GPU here"
        # Who names the engine's own device knows better; a software driver is none that hal0 would choose.
        await asyncio.to_thread((daemon.home / "etc" / "hal0.toml").write_text, daemon.config + BY_HAND)
        slot = await operator.reaches("ready", within_s=180)
        assert slot["device"] == "vulkan"
        log = "\n".join(line["text"] for line in (await operator.get("/api/slots/primary/logs"))["items"])
        assert "llvmpipe" in log
        assert "Vulkan0 model buffer size" in log
        assert "offloaded 3/3 layers to GPU" in log
    async with openai.AsyncOpenAI(base_url=f"{daemon.url}/v1", api_key="none", max_retries=0) as client:
        answer = await client.chat.completions.create(
            model="primary", messages=[{"role": "user", "content": "Hello"}], max_tokens=5
        )
        assert answer.usage is not None
        assert answer.usage.completion_tokens > 0  # what a random model says may be nothing but its end
