"""What stands where an address was, and what does not get there."""

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hal0.config.dispatch import DispatchConfig
from hal0.dispatch.body import Body, Spool
from hal0.dispatch.inlining import MAX_ADDRESSES, PATIENCE_S, Inlining, kind_of, refused
from hal0.errors import Hal0Error
from hal0.lib import jsonio
from tests.vloop import virtual_time

PNG = b"\x89PNG\r\n\x1a\n" + b"p" * 1000
WAV = b"RIFF\0\0\0\0WAVEfmt "
FILES = {"http://a.example/": PNG, "https://b.example/s.wav": WAV, "http://page.example/": b"<html>"}


class Far:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.files = dict(FILES)

    async def __call__(self, address: str) -> bytes:
        self.asked.append(address)
        if address not in self.files:
            raise refused("cannot fetch it")
        return self.files[address]


@pytest.fixture
def far() -> Far:
    return Far()


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Spool]:
    made = Spool(tmp_path)
    yield made
    await made.close()


async def inlined(far: Far, spool: Spool, body: bytes, **config: Any) -> bytes | None:
    inlining = Inlining(lambda: DispatchConfig(**{"remote_media": True, **config}), far, spool)
    made = await inlining.inlined(Body(body))
    if made is None:
        return None
    try:
        whole = b"".join([piece async for piece in made.pieces()])
        assert len(whole) == made.size
        return whole
    finally:
        made.close()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def asking(*parts: object) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": list(parts)}], "seed": 1}


@pytest.mark.parametrize(
    ("part", "becomes"),
    [
        (
            {"type": "image_url", "image_url": {"url": "http://a.example/", "detail": "low"}},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{b64(PNG)}", "detail": "low"}},
        ),
        (
            {"type": "input_image", "image_url": "http://a.example/"},
            {"type": "input_image", "image_url": f"data:image/png;base64,{b64(PNG)}"},
        ),
        (
            {"type": "audio_url", "audio_url": {"url": "https://b.example/s.wav"}},
            {"type": "audio_url", "audio_url": {"url": f"data:audio/wav;base64,{b64(WAV)}"}},
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "https://b.example/s.wav", "format": "wav"}},
            {"type": "input_audio", "input_audio": {"data": b64(WAV), "format": "wav"}},
        ),
        (
            {"type": "image", "source": {"type": "url", "url": "http://a.example/"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": b64(PNG)}},
        ),
    ],
)
async def test_a_file_stands_where_its_address_was(far: Far, spool: Spool, part: object, becomes: object) -> None:
    whole = await inlined(far, spool, jsonio.dumps(asking(part)))
    assert whole is not None
    assert jsonio.loads(whole) == asking(becomes)


async def test_members_around_it_keep_their_bytes(far: Far, spool: Spool) -> None:
    messages = jsonio.dumps(asking({"image_url": "http://a.example/"})["messages"])
    before, after = b'{ "seed" : 1.50, "messages":', b', "big": 123456789012345678901234567890 }\n'
    whole = await inlined(far, spool, before + messages + after)
    assert whole is not None
    assert whole.startswith(before)
    assert whole.endswith(after)


async def test_the_same_address_is_fetched_once(far: Far, spool: Spool) -> None:
    picture = {"image_url": {"url": "http://a.example/"}}
    assert await inlined(far, spool, jsonio.dumps(asking(picture, picture)))
    assert far.asked == ["http://a.example/"]


async def test_a_large_file_passes_in_pieces(far: Far, spool: Spool) -> None:
    large = far.files["http://a.example/"] = PNG + bytes(3_000_001)
    whole = await inlined(far, spool, jsonio.dumps(asking({"image_url": "http://a.example/"})))
    assert whole is not None
    (part,) = jsonio.loads(whole)["messages"][0]["content"]
    assert part["image_url"] == f"data:image/png;base64,{b64(large)}"


@pytest.mark.parametrize(
    "part",
    [
        {"image_url": "http://page.example/"},
        {"image_url": "https://b.example/s.wav"},
        {"audio_url": "http://a.example/"},
        {"image_url": "http://nowhere.example/"},
        {"video_url": "http://a.example/"},
        {"file_url": "http://a.example/"},
    ],
)
async def test_only_pictures_and_sounds_come_in(far: Far, spool: Spool, part: object) -> None:
    with pytest.raises(Hal0Error) as caught:
        await inlined(far, spool, jsonio.dumps(asking(part)))
    assert caught.value.code == "request.remote_media"


async def test_nothing_is_fetched_where_nobody_wants_that(far: Far, spool: Spool) -> None:
    with pytest.raises(Hal0Error, match="data: URLs"):
        await inlined(far, spool, jsonio.dumps(asking({"image_url": "http://a.example/"})), remote_media=False)
    assert not far.asked


async def test_many_and_large_ones_are_refused(far: Far, spool: Spool) -> None:
    many = [{"image_url": f"http://a.example/{number}"} for number in range(MAX_ADDRESSES + 1)]
    with pytest.raises(Hal0Error, match=f"{MAX_ADDRESSES} at most"):
        await inlined(far, spool, jsonio.dumps(asking(*many)))
    assert not far.asked
    for limit in (500, 1300):  # the file is larger, or its base64 with the rest of the body
        with pytest.raises(Hal0Error) as caught:
            await inlined(far, spool, jsonio.dumps(asking({"image_url": "http://a.example/"})), json_limit=limit)
        assert caught.value.code == "request.too_large"


@virtual_time
async def test_slow_servers_hold_nobody_for_longer_than_said() -> None:
    """Neither the one who asks for them nor those who come after."""

    async def never(_address: str) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    spool = Spool(Path("nowhere"))
    inlining = Inlining(lambda: DispatchConfig(remote_media=True), never, spool)
    body = Body(jsonio.dumps(asking({"image_url": "http://a.example/"})))
    began = asyncio.get_running_loop().time()
    ends = await asyncio.gather(*(inlining.inlined(body) for _ in range(20)), return_exceptions=True)
    assert {getattr(end, "code", None) for end in ends} == {"request.remote_media"}
    assert asyncio.get_running_loop().time() - began == pytest.approx(PATIENCE_S)


async def test_a_body_that_names_nothing_is_left_alone(far: Far, spool: Spool) -> None:
    assert await inlined(far, spool, jsonio.dumps(asking({"type": "text", "text": "http://a.example/"}))) is None


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        *((b"\xff\xd8\xff\xe0", "image/jpeg"), (b"GIF89a", "image/gif"), (b"BM", "image/bmp")),
        *(
            (b"RIFF....WEBPVP8", "image/webp"),
            (b"RIFF....AVI ", ""),
            (b"ID3", "audio/mpeg"),
            (b"\xff\xfb", "audio/mpeg"),
        ),
        *((b"fLaC", "audio/flac"), (b"OggS", "audio/ogg"), (b"{}", ""), (b"", ""), (b"%PDF", "")),
    ],
)
def test_a_file_is_what_its_first_bytes_say(start: bytes, kind: str) -> None:
    assert kind_of(start) == kind
