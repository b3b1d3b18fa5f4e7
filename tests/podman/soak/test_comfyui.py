"""Pictures by the real ComfyUI behind hal0's /v1, asked by the unmodified openai client: made, changed, given up."""

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import openai
import pytest

from tests.podman.daemon import Daemon, installed
from tests.podman.service import Podman
from tests.podman.streams import until
from tests.tiny.sd15_model import write_sd15
from tests.tiny.sdxl_model import write_sdxl
from tests.unit.models.test_split import COMFYUI, put

MODEL = "tiny-sd15"
PNG = b"\x89PNG\r\n\x1a\n"
QUICK = {"steps": 2, "seed": 7}


@pytest.fixture(scope="module")
def image(podman: Podman) -> str:
    """1.8 GB, some minutes of work."""
    return podman.built("comfyui-cpu")


@pytest.fixture
def hal0(podman: Podman, home: Path, port_block: range, image: str) -> Iterator[Daemon]:
    config = f'[slots.img]\nmodel = "{MODEL}"\nimage = "{image}"\n'
    with installed(Daemon(home, port_block[-1], port_block[:-1], podman, config)) as daemon:
        write_sd15(daemon.models / f"{MODEL}.safetensors")
        yield daemon


@pytest.fixture
async def client(hal0: Daemon) -> AsyncIterator[openai.AsyncOpenAI]:
    async with drawing(hal0) as made:
        yield made


@asynccontextmanager
async def drawing(hal0: Daemon) -> AsyncIterator[openai.AsyncOpenAI]:
    """Its client, when the engine is up."""
    await hal0.start()
    ran = await asyncio.to_thread(hal0.ctl, "cap", "enable", "img")
    assert ran.returncode == 0, ran.stderr
    async with openai.AsyncOpenAI(base_url=f"{hal0.url}/v1", api_key="none", max_retries=0) as made:
        yield made


async def test_comfyui_draws_as_openai_does(hal0: Daemon, client: openai.AsyncOpenAI) -> None:
    """One world for all of it: the start of a daemon and of ComfyUI cost more than most of the rest."""
    picture = await the_seed_decides_the_pixels(client)
    await an_address_gives_the_same_picture(client, picture)
    await a_picture_is_changed(client, picture)
    await a_stream_shows_it_being_made(client)
    await what_cannot_be_made_is_refused(client)
    await who_leaves_stops_the_render(hal0, client)


async def test_an_sdxl_turbo_draws_and_changes_what_it_drew(
    podman: Podman, home: Path, port_block: range, image: str
) -> None:
    """Its second text encoder cannot be small, and takes most of the time; the picture is small instead."""
    config = f'[slots.img]\nmodel = "tiny-sdxl-turbo"\nimage = "{image}"\n'
    with installed(Daemon(home, port_block[-1], port_block[:-1], podman, config)) as daemon:
        write_sdxl(daemon.models / "tiny-sdxl-turbo.safetensors")
        async with drawing(daemon) as client:
            made = await client.images.generate(model="img", prompt="a cat", size="128x64", extra_body=QUICK)
            (picture,) = pixels(made)
            assert size_of(picture) == (128, 64)
            await a_picture_is_changed(client, picture)
        async with daemon.operator() as operator:
            said = (await operator.get("/api/slots/img/logs"))["items"]
        assert any(line["text"].endswith("Requested to load SDXL") for line in said), said


@pytest.mark.parametrize("more", [{}, {"guidance_in.in_layer.weight": (2, 2)}], ids=["schnell", "dev"])
async def test_a_flux_in_four_files_is_found_by_its_engine(
    podman: Podman, home: Path, port_block: range, image: str, more: dict[str, tuple[int, ...]]
) -> None:
    """Its graph is taken, every file named in it is there; that these hold no weights is found while they are read."""
    config = f'[slots.img]\nmodel = "flux1-schnell"\nimage = "{image}"\n'
    with installed(Daemon(home, port_block[-1], port_block[:-1], podman, config)) as daemon:
        network = "diffusion_models__flux1-schnell"
        put(daemon.models, **{**COMFYUI, network: {**COMFYUI[network], **more}})
        async with drawing(daemon) as client:
            with pytest.raises(openai.APIStatusError, match=r"(UNET|DualCLIP|VAE)Loader failed") as caught:
                await client.images.generate(model="img", prompt="a cat", size="256x256", extra_body={"steps": 1})
        assert (caught.value.status_code, caught.value.code) == (502, "render.failed")


def pixels(made: openai.types.ImagesResponse) -> list[bytes]:
    assert made.data
    return [base64.b64decode(image.b64_json or "") for image in made.data]


def size_of(picture: bytes) -> tuple[int, int]:
    assert picture.startswith(PNG)
    return int.from_bytes(picture[16:20]), int.from_bytes(picture[20:24])


async def the_seed_decides_the_pixels(client: openai.AsyncOpenAI) -> bytes:
    made = await client.images.generate(model="img", prompt="a red circle", n=2, size="256x128", extra_body=QUICK)
    first, second = pixels(made)
    assert size_of(first) == size_of(second) == (256, 128)
    assert first != second
    again = await client.images.generate(model=MODEL, prompt="a red circle", size="256x128", extra_body=QUICK)
    assert pixels(again) == [first]
    return first


async def an_address_gives_the_same_picture(client: openai.AsyncOpenAI, picture: bytes) -> None:
    made = await client.images.generate(
        model="img", prompt="a red circle", size="256x128", response_format="url", extra_body=QUICK
    )  # fmt: skip
    assert made.data
    assert made.data[0].url
    async with aiohttp.ClientSession() as session, session.get(made.data[0].url) as answer:
        assert answer.content_type == "image/png"
        assert await answer.read() == picture


async def a_picture_is_changed(client: openai.AsyncOpenAI, picture: bytes) -> None:
    width, height = size_of(picture)
    made = await client.images.edit(
        model="img",
        prompt="blue",
        image=("a.png", picture),
        size=f"{width}x{height}",
        extra_body={**QUICK, "strength": 0.5},
    )
    (changed,) = pixels(made)
    assert size_of(changed) == (width, height)
    assert changed != picture


async def a_stream_shows_it_being_made(client: openai.AsyncOpenAI) -> None:
    stream = await client.images.generate(
        model="img", prompt="a cat", size="256x256", stream=True, partial_images=2, extra_body={"steps": 6}
    )
    events = [event async for event in stream]
    assert [event.type for event in events] == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    assert size_of(base64.b64decode(events[-1].b64_json)) == (256, 256)


async def what_cannot_be_made_is_refused(client: openai.AsyncOpenAI) -> None:
    for size in ("huge", "4096x64", "32x32"):
        with pytest.raises(openai.BadRequestError) as refused:
            await client.images.generate(model="img", prompt="a cat", size=size)
        assert (refused.value.code, refused.value.param) == ("request.invalid", "size")
    with pytest.raises(openai.APIStatusError) as caught:
        await client.images.edit(model="img", prompt="x", image=("a.png", PNG + b"nothing"))
    assert (caught.value.status_code, caught.value.param) == (415, "image")


async def who_leaves_stops_the_render(hal0: Daemon, client: openai.AsyncOpenAI) -> None:
    """A render of minutes; the engine is idle within seconds of its client's leaving, and takes the next."""
    asking = asyncio.create_task(
        client.images.generate(model="img", prompt="a cat", size="512x512", extra_body={"steps": 150})
    )
    async with hal0.operator() as operator:
        port = (await operator.slot("img"))["port"]
    # Past hal0, where a question would wait for its turn behind the render.
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:

        async def running() -> int:
            async with session.get("/queue") as answer:
                return len((await answer.json())["queue_running"])

        async def begun() -> bool:
            return await running() == 1

        async def idle() -> bool:
            return await running() == 0

        await until(begun, within_s=20, what="ComfyUI renders")
        await asyncio.sleep(2)
        asking.cancel()
        await until(idle, within_s=20, what="ComfyUI stops for nobody")
    again = await client.images.generate(model="img", prompt="a cat", size="256x128", extra_body=QUICK)
    assert pixels(again)
