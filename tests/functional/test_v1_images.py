"""Images through /v1 with OpenAI's own client: made, changed, streamed; whatever is wrong is a typed error."""

import base64
import random
from collections.abc import AsyncIterator
from typing import Any, Final

import openai
import pytest

from tests.fakes.comfy import FakeComfy, png, refusal
from tests.functional.dispatch_app import World
from tests.functional.images_app import GENERATE, PICTURE, ask, refused
from tests.tiny.pixels import damaged

HOLE: Final = PICTURE.replace(b"\x08\x02\0\0\0", b"\x08\x06\0\0\0", 1)  # says that it has transparency


@pytest.fixture
async def client(studio: World) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{studio.url}/v1", api_key="none", max_retries=0) as it:
        yield it


def images_of(made: openai.types.ImagesResponse) -> list[openai.types.Image]:
    assert made.data
    return made.data


def bytes_of(made: openai.types.ImagesResponse) -> list[bytes]:
    return [base64.b64decode(image.b64_json or "") for image in images_of(made)]


async def test_pictures_are_made(studio: World, client: openai.AsyncOpenAI, comfy: FakeComfy) -> None:
    extra = {"seed": 7, "steps": 3, "negative_prompt": "dogs", "cfg": 5}
    made = await client.images.generate(model="img", prompt="a cat", n=2, size="512x256", extra_body=extra)
    assert (made.size, made.output_format, made.background) == ("512x256", "png", "opaque")
    pictures = bytes_of(made)
    assert [picture[:8] for picture in pictures] == [b"\x89PNG\r\n\x1a\n"] * 2
    assert [int.from_bytes(picture[16:20]) for picture in pictures] == [512] * 2
    assert pictures[0] != pictures[1]
    graphs = [job.graph for job in comfy.jobs]
    assert [graph["sample"]["inputs"]["seed"] for graph in graphs] == [7, 8]
    assert {graph["sample"]["inputs"]["steps"] for graph in graphs} == {3}
    assert {graph["sample"]["inputs"]["cfg"] for graph in graphs} == {5.0}
    assert {graph["negative"]["inputs"]["text"] for graph in graphs} == {"dogs"}
    assert len({graph["save"]["inputs"]["filename_prefix"] for graph in graphs}) == 2
    again = await client.images.generate(model="img", prompt="a cat", size="512x256", extra_body=extra)
    assert bytes_of(again) == pictures[:1]
    record = list(studio.decisions)[-1]
    assert (record.target, record.status, record.code) == ("img", 200, None)
    assert record.first_byte_ms is not None
    assert record.prompt_tokens is None


async def test_without_a_seed_no_two_requests_are_the_same(client: openai.AsyncOpenAI, comfy: FakeComfy) -> None:
    for _ in range(2):
        await client.images.generate(model="img", prompt="a cat", size="256x256", extra_body={"steps": 1})
    first, second = (job.graph["sample"]["inputs"]["seed"] for job in comfy.jobs)
    assert first != second


async def test_an_address_is_hal0s_own_and_gives_the_picture(studio: World, client: openai.AsyncOpenAI) -> None:
    made = await client.images.generate(model="img", prompt="a cat", size="256x256", response_format="url")
    (image,) = images_of(made)
    assert image.b64_json is None
    assert image.url is not None
    assert image.url.startswith(f"{studio.url}/v1/images/results/")
    async with studio.http.get(image.url) as answer:
        assert (answer.status, answer.content_type) == (200, "image/png")
        assert (await answer.read()).startswith(b"\x89PNG")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    async with studio.http.get(image.url[:-1]) as answer:
        assert (await answer.json())["error"]["code"] == "request.not_found"


@pytest.mark.parametrize(
    ("headers", "origin"),
    [
        ({"Host": "box.lan:8080"}, "http://box.lan:8080"),
        ({"Host": "box.lan", "X-Forwarded-Proto": "https"}, "https://box.lan"),
        ({"Host": "inside:1", "X-Forwarded-Host": "box.lan", "X-Forwarded-Proto": "https"}, "https://box.lan"),
        ({"Host": "box.lan", "X-Forwarded-Host": "a, b"}, "http://box.lan"),
        ({"Host": 'a"b'}, "http://127.0.0.1"),
    ],
)
async def test_an_address_is_where_the_client_finds_hal0(studio: World, headers: dict[str, str], origin: str) -> None:
    async with studio.http.post(studio.url + GENERATE, json=ask(response_format="url"), headers=headers) as answer:
        (image,) = (await answer.json())["data"]
    assert image["url"].startswith(f"{origin}/v1/images/results/")


async def test_a_picture_is_changed(client: openai.AsyncOpenAI, comfy: FakeComfy) -> None:
    made = await client.images.edit(
        model="img", prompt="blue", image=("a.png", PICTURE), size="256x256", extra_body={"strength": "0.5"}
    )
    assert bytes_of(made)[0].startswith(b"\x89PNG")
    graph = comfy.jobs[0].graph
    assert comfy.uploads[graph["image"]["inputs"]["image"]] == PICTURE
    assert graph["sample"]["inputs"]["denoise"] == 0.5
    assert "mask" not in graph


async def test_only_what_the_mask_leaves_open_is_changed(client: openai.AsyncOpenAI, comfy: FakeComfy) -> None:
    await client.images.edit(model="img", prompt="blue", image=[("a.png", PICTURE)], mask=("m.png", HOLE))
    graph = comfy.jobs[0].graph
    assert comfy.uploads[graph["mask"]["inputs"]["image"]] == HOLE
    assert graph["sample"]["inputs"]["latent_image"] == ["masked", 0]
    # The shape of the picture, at the model's own area.
    assert (graph["scaled"]["inputs"]["width"], graph["scaled"]["inputs"]["height"]) == (624, 416)


async def test_an_upload_that_the_engine_forgets_meanwhile_is_brought_again(
    client: openai.AsyncOpenAI, comfy: FakeComfy
) -> None:
    comfy.on_step = lambda _job: comfy.uploads.clear()
    made = await client.images.edit(model="img", prompt="x", image=("a.png", PICTURE), n=3, extra_body={"steps": 1})
    assert len(bytes_of(made)) == 3


async def test_a_picture_is_varied(client: openai.AsyncOpenAI, comfy: FakeComfy) -> None:
    with pytest.warns(DeprecationWarning, match="deprecated"):
        made = await client.images.create_variation(model="img", image=PICTURE, size="256x256")
    assert made.data
    assert comfy.jobs[0].graph["positive"]["inputs"]["text"] == ""


async def test_a_json_body_may_bring_its_picture_along(studio: World, comfy: FakeComfy) -> None:
    url = "data:image/png;base64," + base64.b64encode(PICTURE).decode()
    async with studio.http.post(f"{studio.url}/v1/images/edits", json=ask(image=url, output_format="jpeg")) as answer:
        assert answer.status == 200
        assert (await answer.json())["output_format"] == "jpeg"
    assert list(comfy.uploads.values()) == [PICTURE]


async def test_a_stream_shows_how_it_goes(client: openai.AsyncOpenAI, comfy: FakeComfy) -> None:
    comfy.step_s = 0.02
    stream = await client.images.generate(
        model="img", prompt="a cat", size="256x256", stream=True, partial_images=2, extra_body={"steps": 6}
    )
    events = [event async for event in stream]
    assert [event.type for event in events] == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    assert events[0].type == "image_generation.partial_image"
    assert [event.partial_image_index for event in events if event.type == "image_generation.partial_image"] == [0, 1]
    assert base64.b64decode(events[0].b64_json) == b"\xff\xd8\xff\xd9"
    assert events[0].output_format == "jpeg"
    last = events[-1]
    assert last.type == "image_generation.completed"
    assert base64.b64decode(last.b64_json).startswith(b"\x89PNG")
    assert last.usage.total_tokens == 0


async def test_steps_are_comments_that_come_while_it_is_made(studio: World, comfy: FakeComfy) -> None:
    comfy.step_s = 0.05
    async with studio.http.post(studio.url + GENERATE, json=ask(stream=True, steps=4)) as answer:
        assert answer.content_type == "text/event-stream"
        assert answer.headers["X-Hal0-Overhead-Ms"]
        first = await answer.content.readline()
        assert first == b": step 1 of 4\n"
        assert comfy.jobs[0].state == "running"
        assert b"image_generation.completed" in await answer.read()


OUT_OF_MEMORY: Final = {"node_id": "sample", "node_type": "KSampler", "exception_type": "torch.OutOfMemoryError"}
NO_PICTURE: Final = {
    "node_id": "image",
    "node_type": "LoadImage",
    "exception_type": "PIL.UnidentifiedImageError",
    "exception_message": "cannot identify image file",
    "traceback": ["/opt/secret/place"],
}


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (OUT_OF_MEMORY, (507, "slot.memory_budget", "size")),
        (NO_PICTURE, (415, "render.unsupported_picture", "image")),
        ({"node_id": "decode", "node_type": "VAEDecode"}, (502, "render.failed", None)),
    ],
)
async def test_a_render_that_fails_is_said(
    studio: World, comfy: FakeComfy, failure: dict[str, Any], told: tuple[int, str, str | None]
) -> None:
    comfy.fails = failure
    assert await refused(studio, "generations", ask()) == told


@pytest.mark.parametrize("part", [False, True])
async def test_what_the_engine_refuses_names_the_field(studio: World, comfy: FakeComfy, part: bool) -> None:
    comfy.refuses, comfy.accepts_a_part = refusal("sample", "KSampler", "steps", "value_bigger_than_max"), part
    comfy.step_s = 0.05
    assert await refused(studio, "generations", ask()) == (400, "request.invalid", "steps")
    assert all(job.state in ("removed", "error") for job in comfy.jobs)


async def test_a_model_that_is_not_listed_is_the_engines_fault(studio: World, comfy: FakeComfy) -> None:
    comfy.folders["checkpoints"] = []
    assert await refused(studio, "generations", ask()) == (502, "upstream.broken", None)


@pytest.mark.parametrize(
    ("path", "members", "param"),
    [
        ("generations", {"prompt": " "}, "prompt"),
        ("generations", {"prompt": 7}, "prompt"),
        ("generations", {"prompt": "x" * 32_001}, "prompt"),
        ("generations", {"n": 0}, "n"),
        ("generations", {"n": 11}, "n"),
        ("generations", {"n": True}, "n"),
        ("generations", {"n": 8, "size": "2048x2048"}, "n"),
        ("generations", {"size": "big"}, "size"),
        ("generations", {"size": "4096x64"}, "size"),
        ("generations", {"size": "0x0"}, "size"),
        ("generations", {"size": "64x"}, "size"),
        ("generations", {"size": "8193x8193"}, "size"),
        ("generations", {"seed": -1}, "seed"),
        ("generations", {"seed": 2**64}, "seed"),
        ("generations", {"steps": 0}, "steps"),
        ("generations", {"quality": "best"}, "quality"),
        ("generations", {"background": "transparent"}, "background"),
        ("generations", {"response_format": "png"}, "response_format"),
        ("edits", {}, "image"),
        ("edits", {"image": "https://example.com/a.png"}, "image"),
        ("edits", {"image": "data:image/png;base64,!"}, "image"),
    ],
)
async def test_what_is_wrong_is_refused_before_the_engine_hears_of_it(
    studio: World, comfy: FakeComfy, path: str, members: dict[str, Any], param: str
) -> None:
    status, code, named = await refused(studio, path, ask(**members))
    assert (status, code, named) == (400, "request.invalid", param)
    assert not comfy.jobs


async def test_what_is_no_picture_is_refused(studio: World, client: openai.AsyncOpenAI, comfy: FakeComfy) -> None:
    for image, mask, status, param in (
        (b"GIF89a", None, 415, "image"),
        (b"", None, 415, "image"),
        (PICTURE, PICTURE, 400, "mask"),
        (PICTURE, png(64, 64, b"red").replace(b"\x08\x02", b"\x08\x06", 1), 400, "mask"),
    ):
        masked = {} if mask is None else {"mask": ("m.png", mask)}
        with pytest.raises(openai.APIStatusError) as caught:
            await client.images.edit(model="img", prompt="x", image=("a.png", image), **masked)  # type: ignore[call-overload]
        assert (caught.value.status_code, caught.value.param) == (status, param)
    two = [("a.png", PICTURE), ("b.png", PICTURE)]
    with pytest.raises(openai.BadRequestError, match="one picture"):
        await client.images.edit(model="img", prompt="x", image=two)
    assert not comfy.jobs


async def test_whatever_is_called_a_picture_is_taken_or_refused_by_name(client: openai.AsyncOpenAI) -> None:
    outcomes: set[tuple[int, str | None]] = set()
    for number, picture in enumerate(damaged(random.Random(3), count=30)):
        files = {"image": ("a.png", picture)} if number % 2 else {"image": ("a.png", PICTURE), "mask": ("m", picture)}
        try:
            await client.images.edit(model="img", prompt="x", extra_body={"steps": 1}, **files)  # type: ignore[call-overload]
            outcomes.add((200, None))
        except openai.APIStatusError as caught:
            outcomes.add((caught.status_code, caught.code if caught.param in files else None))
    assert outcomes == {(200, None), (400, "request.invalid"), (415, "render.unsupported_picture")}
