"""Finds pictures and sounds that a request names by address: an engine would fetch them from wherever it is told to.

Whoever may ask a model must not make this machine call others on its network, so a slot gets the bytes and no address.
"""

import re
from collections.abc import Iterator
from enum import Enum
from threading import Event
from typing import Any, Final, NamedTuple

from hal0.dispatch.body import Body
from hal0.dispatch.unhurried import apart, parsed
from hal0.errors import Hal0Error
from hal0.lib.spread import step

# Members whose value, or the `url` in it, is an address, as OpenAI and those who follow it spell them, and of what.
_NAMED: Final = {"image_url": "image", "audio_url": "audio", "video_url": "video", "file_url": "file"}
# Members that hold plain base64; llama.cpp takes an address in its place.
_PLAIN: Final = {"input_audio": "audio", "input_video": "video"}
# Where the parts of a conversation stand; tools and metadata name addresses that nobody fetches.
_ROOMS: Final = ("messages", "input", "prompt", "content", "system", "images", "mask")
# A member that ends in `url` with a text that is no data: URL, one that ends in `data` with a text that does not begin
# like base64, or one whose name hides behind an escape. A quote inside a text is escaped, so this finds no texts about
# such members. Nothing here repeats without a bound or looks at a byte for long: the text is the client's. Three
# patterns, because one that begins with letters is found faster than an alternative.
_ADDRESS: Final = re.compile(rb'url"(?:\s{60}|\s*:(?:\s{60}|\s*"(?!data:)))')
_NO_BASE64: Final = re.compile(
    rb'data"(?:\s{60}|\s*:(?:\s{60}|\s*"(?!data:)(?:http|[A-Za-z0-9+/=]{0,8}[^A-Za-z0-9+/="])))'
)
_ESCAPED: Final = re.compile(rb'\\u[0-9A-Fa-f]{4}[^"\\]{0,32}"(?:\s{60}|\s*:)')
_OVERLAP_BYTES: Final = 256  # more than any can reach
_SLICE_BYTES: Final = 64 * 1024  # searched at a time: at worst two milliseconds
_BOM: Final = b"\xef\xbb\xbf"  # llama.cpp's parser passes over it
_OBJECT: Final = re.compile(rb"\s*\{")


class Shape(Enum):
    """How the bytes themselves would stand there."""

    DATA_URL = "data url"
    BASE64 = "base64"
    SOURCE = "source"  # Anthropic's: an object that says what it holds


class Place(NamedTuple):
    """Where an address stands: in this member of this part of the request; `room` is the top-level member around it."""

    room: str
    part: dict[str, Any]
    member: str
    kind: str
    shape: Shape

    @property
    def address(self) -> str:
        return str(self.part[self.member])

    @property
    def is_remote(self) -> bool:
        if self.shape is Shape.BASE64:  # no picture and no sound begins with the bytes that `http` stands for
            return self.address.lower().lstrip().startswith(("http", "file:")) or "://" in self.address[:64]
        return not self.address.startswith("data:")


class Naming(NamedTuple):
    """A request that names media by address, and where it does."""

    request: dict[str, Any]
    places: list[Place]


async def naming(body: Body) -> Naming | None:
    """What the body names by address; None: nothing.

    Most bodies are only searched; one that looks suspicious is parsed. Raises request.invalid_json for an object that
    cannot be (an engine's parser may be more patient than hal0's), request.too_large and state.write_failed.
    """
    if not await _suspicious(body):
        return None
    return await apart(naming_in, body)


def naming_in(data: bytes | bytearray, given_up: Event | None = None) -> Naming | None:
    """`naming`, without the search."""
    data = data.removeprefix(_BOM)
    try:
        value = parsed(data, given_up)
    except ValueError as error:
        if not _OBJECT.match(data):
            return None
        raise Hal0Error("request.invalid_json", f"cannot read the body as a JSON object: {error}") from None
    found = list(places(value)) if isinstance(value, dict) else []
    return Naming(value, found) if found else None


def suspicious(data: bytes) -> bool:
    """Whether a body is worth a closer look: a microsecond for a small one."""
    return bool(_ADDRESS.search(data) or _NO_BASE64.search(data) or _ESCAPED.search(data))


def places(request: dict[str, Any]) -> Iterator[Place]:
    """Every address in a request."""
    return (place for room in _ROOMS for place in _places(room, request.get(room)) if place.is_remote)


def _places(room: str, value: Any) -> Iterator[Place]:
    """Without recursion: how deep a request nests is the client's choice."""
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, list):
            left.extend(value)
        elif isinstance(value, dict):
            left.extend(value.values())
            yield from _in(room, value)


def _in(room: str, part: dict[str, Any]) -> Iterator[Place]:
    for name in _NAMED.keys() & part.keys():
        inner = part[name]
        holder, member = (inner, "url") if isinstance(inner, dict) else (part, name)
        if isinstance(holder.get(member), str):
            yield Place(room, holder, member, _NAMED[name], Shape.DATA_URL)
    for name in _PLAIN.keys() & part.keys():
        inner = part[name]
        for member in ("data", "url"):
            if isinstance(inner, dict) and isinstance(inner.get(member), str):
                yield Place(room, inner, member, _PLAIN[name], Shape.BASE64)
    source = part.get("source")
    if isinstance(source, dict) and isinstance(source.get("url"), str):
        yield Place(room, source, "url", "image", Shape.SOURCE)


async def _suspicious(body: Body) -> bool:
    if body.in_memory and body.size <= _SLICE_BYTES:
        return suspicious(body.data)
    tail = b""
    async for piece in body.pieces():
        for at in range(0, len(piece), _SLICE_BYTES):
            part = tail + piece[at : at + _SLICE_BYTES]
            async with step():
                if suspicious(part):
                    return True
            tail = part[-_OVERLAP_BYTES:]
    return False
