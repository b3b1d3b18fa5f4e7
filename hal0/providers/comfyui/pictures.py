"""What an uploaded picture is, from its first bytes: format, size, and whether it can be transparent. Pure.

Nothing is decoded here: the engine does that, in its container. What is refused early is what would only cost it time
or memory: other formats, and pictures of more pixels than anybody edits.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from hal0.errors import Hal0Error

# 4096 x 4096. Decoded, ComfyUI holds twelve bytes for each pixel: 200 MB.
MAX_PIXELS: Final = 1 << 24
_PNG: Final = b"\x89PNG\r\n\x1a\n"
# Pieces of a PNG before its pixels; editors write some dozens.
_MOST_CHUNKS: Final = 1000
# Frame headers of JPEG: all of C0-CF but tables and the arithmetic coder's.
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALPHA_TYPES: Final = (4, 6)  # of PNG: grey and colour, with alpha


@dataclass(frozen=True, slots=True)
class Look:
    """`alpha`: the format of this file has room for transparency. `moves`: it has several pictures."""

    format: str
    width: int
    height: int
    alpha: bool
    moves: bool = False


def look(data: bytes, param: str) -> Look:
    """Raises render.unsupported_picture, naming the field `param`."""
    try:
        seen = _png(data) or _webp(data) or _jpeg(data)
    except (struct.error, IndexError):
        seen = None
    if seen is None:
        said = "it is empty" if not data else "it is no whole PNG, JPEG or WebP file"
        raise _unsupported(f"cannot read `{param}` as a picture: {said}", param)
    if seen.moves:  # the engine would make as many new ones, all at once
        raise _unsupported(f"cannot take `{param}`: it is an animation; send one picture", param)
    if not 0 < seen.width * seen.height <= MAX_PIXELS:
        said = f"it has {seen.width}x{seen.height} pixels, and {MAX_PIXELS} is the most"
        raise _unsupported(f"cannot take `{param}`: {said}", param)
    return seen


def _unsupported(message: str, param: str) -> Hal0Error:
    return Hal0Error("render.unsupported_picture", message, param=param)


def _png(data: bytes) -> Look | None:
    if not data.startswith(_PNG) or data[12:16] != b"IHDR":
        return None
    width, height, _depth, kind = struct.unpack_from(">IIBB", data, 16)
    before = frozenset(_chunks(data))
    palette = kind == 3 and b"tRNS" in before
    return Look("png", width, height, kind in _ALPHA_TYPES or palette, moves=b"acTL" in before)


def _chunks(data: bytes) -> Iterator[bytes]:
    """What kinds of pieces a PNG has before its pixels. Raises struct.error where it ends too soon, or has too many."""
    at = len(_PNG)
    for _ in range(_MOST_CHUNKS):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IDAT":
            return
        yield kind
        at += 12 + length
    raise struct.error


def _webp(data: bytes) -> Look | None:
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return None
    match data[12:16]:
        case b"VP8X":
            width = int.from_bytes(data[24:27], "little") + 1
            height = int.from_bytes(data[27:30], "little") + 1
            return Look("webp", width, height, bool(data[20] & 0x10), moves=bool(data[20] & 0x02))
        case b"VP8L":
            (bits,) = struct.unpack_from("<I", data, 21)
            return Look("webp", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1))
        case b"VP8 ":
            width, height = struct.unpack_from("<HH", data, 26)
            return Look("webp", width & 0x3FFF, height & 0x3FFF, alpha=False)
        case _:
            return None


def _jpeg(data: bytes) -> Look | None:
    for marker, at in _segments(data):
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 3)
            return Look("jpeg", width, height, alpha=False)
    return None


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Each marker with the place of its length, until the pixels begin. Every step goes forward."""
    if not data.startswith(b"\xff\xd8"):
        return
    at = 2
    while data[at] == 0xFF:
        if data[at + 1] == 0xFF:  # padding
            at += 1
            continue
        yield data[at + 1], at + 2
        (length,) = struct.unpack_from(">H", data, at + 2)
        at += 2 + max(length, 2)
