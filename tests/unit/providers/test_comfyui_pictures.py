"""Uploads, well-formed and not: what is a picture is measured, anything else is one typed error, whatever its bytes."""

import struct
from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hal0.errors import Hal0Error
from hal0.providers.base import Part
from hal0.providers.comfyui.asked import members_of, wish_of
from hal0.providers.comfyui.pictures import Look, look
from tests.fakes.comfy import png

T = TypeVar("T")
PNG = png(5, 7, b"red")
JPEG = bytes.fromhex("ffd8ffe000104a46494600010101006000600000ffffc00011080102030403") + b"\x01\x11\0\x02\x11\x01\x03"
VP8X = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x10\0\0\0" + b"\x03\x01\0\x01\0\0"
VP8L = b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f" + struct.pack("<I", 99 | 49 << 14 | 1 << 28)
VP8 = b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 640, 480)
PALETTE = PNG.replace(b"\x08\x02\0\0\0", b"\x08\x03\0\0\0")


def before_pixels(picture: bytes, kind: bytes, data: bytes = b"") -> bytes:
    """A PNG with one piece more, in front of its pixels."""
    at = picture.index(b"IDAT") - 4
    return picture[:at] + struct.pack(">I", len(data)) + kind + data + bytes(4) + picture[at:]


KNOWN = [
    (PNG, Look("png", 5, 7, alpha=False)),
    (PNG.replace(b"\x08\x02\0\0\0", b"\x08\x06\0\0\0"), Look("png", 5, 7, alpha=True)),
    (before_pixels(before_pixels(PALETTE, b"tRNS"), b"tEXt", bytes(9000)), Look("png", 5, 7, alpha=True)),
    (before_pixels(PALETTE, b"tEXt", b"tRNS acTL"), Look("png", 5, 7, alpha=False)),
    (JPEG, Look("jpeg", 0x304, 0x102, alpha=False)),
    (VP8X, Look("webp", 260, 2, alpha=True)),
    (VP8L, Look("webp", 100, 50, alpha=True)),
    (VP8, Look("webp", 640, 480, alpha=False)),
]


@pytest.mark.parametrize(("data", "seen"), KNOWN, ids=[f"{seen.format}-{len(data)}" for data, seen in KNOWN])
def test_a_picture_is_measured(data: bytes, seen: Look) -> None:
    assert look(data, "image") == seen


@pytest.mark.parametrize(
    "data",
    [b"", b"GIF89a\x01\0\x01\0", PNG[:20], b"\xff\xd8", b"\xff\xd8\xff", JPEG[:20], b"RIFF\0\0\0\0WEBPVP8X", b"BM"],
)
def test_what_is_none_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(Hal0Error) as caught:
        look(data, "mask")
    assert (caught.value.code, caught.value.status, caught.value.param) == ("render.unsupported_picture", 415, "mask")


@pytest.mark.parametrize("film", [before_pixels(PNG, b"acTL", bytes(8)), VP8X.replace(b"\x10", b"\x12", 1)])
def test_an_animation_is_refused_before_the_engine_makes_as_many_pictures(film: bytes) -> None:
    with pytest.raises(Hal0Error, match="it is an animation; send one picture"):
        look(film, "image")


@pytest.mark.parametrize(("width", "height"), [(0, 5), (65_535, 65_535), (4097, 4096), (2**32 - 1, 2**32 - 1)])
def test_a_picture_of_too_many_pixels_is_refused_before_anybody_decodes_it(width: int, height: int) -> None:
    with pytest.raises(Hal0Error, match="pixels"):
        look(PNG[:16] + struct.pack(">II", width, height) + PNG[24:], "image")


def outcome(work: Callable[[], T]) -> T | Hal0Error:
    try:
        return work()
    except Hal0Error as error:
        return error


@given(st.sampled_from([b"", PNG[:16], PNG[:8], JPEG[:2], JPEG[:21], VP8X[:16], VP8L[:16], VP8[:16]]), st.binary())
@example(PNG[:33], struct.pack(">I4sI", 0, b"tEXt", 0) * 100_000)  # pieces without an end
@example(JPEG[:2], b"\xff" * 100_000)  # padding without an end
@example(JPEG[:2], b"\xff\xe0\0\0" * 25_000)  # segments of no length
def test_whatever_comes_is_a_picture_or_one_typed_error(start: bytes, rest: bytes) -> None:
    seen = outcome(lambda: look(start + rest, "image"))
    if isinstance(seen, Hal0Error):
        assert seen.code == "render.unsupported_picture"
    else:
        assert 0 < seen.width * seen.height <= 1 << 24


ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.binary(max_size=40), st.just([{}])
)
MEMBERS = """
prompt negative_prompt n size quality seed steps cfg strength output_format output_compression response_format
partial_images background style image mask user
"""
NAMES = MEMBERS.split()


@given(st.sampled_from(["generations", "edits", "variations"]), st.dictionaries(st.sampled_from(NAMES), ANYTHING))
def test_whatever_is_wished_is_a_wish_or_names_its_field(path: str, members: dict[str, object]) -> None:
    wish = outcome(lambda: wish_of(f"/images/{path}", {"prompt": "x", "image": PNG, **members}))
    if isinstance(wish, Hal0Error):
        assert wish.code in ("request.invalid", "render.unsupported_picture")
        assert wish.param in NAMES
    else:
        assert 1 <= wish.n <= 10
        assert (wish.upload is None) is (path == "generations")


@pytest.mark.parametrize("text", ["?", "\u00e9"])
def test_a_picture_that_is_no_base64_is_refused(text: str) -> None:
    with pytest.raises(Hal0Error, match="`image`: it is not base64"):
        wish_of("/images/edits", {"prompt": "x", "image": f"data:image/png;base64,{text}"})


def test_a_forms_fields_are_a_bodys_members() -> None:
    parts = [Part("prompt", None, b"\xc3\xa9"), Part("image[]", "a.png", PNG), Part("n", None, b"2")]
    wish = wish_of("/images/edits", members_of(parts))
    assert (wish.prompt, wish.n) == ("\u00e9", 2)
    assert wish.upload is not None
    assert wish.upload.image == PNG


@pytest.mark.parametrize(
    "parts",
    [
        [Part("image[]", "a", PNG), Part("image[]", "b", PNG)],
        [Part("n", None, b"1"), Part("n", None, b"2")],
        [Part("prompt", None, b"\xff")],
    ],
)
def test_a_form_that_says_two_things_is_refused(parts: list[Part]) -> None:
    with pytest.raises(Hal0Error, match="cannot make this picture"):
        members_of(parts)
