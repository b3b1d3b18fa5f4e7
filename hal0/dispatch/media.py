"""Finds pictures and sounds that a request names by address: an engine would fetch them from wherever it is told to.

Only `data:` URLs go to a slot. Whoever may ask a model must not make this machine call others on its network.
"""

import asyncio
import re
from collections.abc import Iterator
from typing import Any, Final

from hal0.dispatch.body import Body
from hal0.errors import Hal0Error
from hal0.lib import jsonio

# Members whose value, or the `url` in it, is an address, as OpenAI and those who follow it spell them.
_NAMED: Final = frozenset({"image_url", "audio_url", "video_url", "file_url"})
# Where the parts of a conversation stand; tools and metadata name addresses that nobody fetches.
_ROOMS: Final = ("messages", "input", "prompt", "content", "system")
# A member that ends in `url` with a text that is no data: URL, or whose name hides behind an escape. A quote inside a
# text is escaped, so this finds no texts about such members. Nothing here repeats without a bound or looks at a byte
# for long: the text is the client's.
_ADDRESS: Final = re.compile(rb'url"(?:\s{60}|\s*:(?:\s{60}|\s*"(?!data:)))')
_ESCAPED: Final = re.compile(rb'\\u[0-9A-Fa-f]{4}[^"\\]{0,32}"(?:\s{60}|\s*:)')
_OVERLAP_BYTES: Final = 256  # more than either can reach
_SLICE_BYTES: Final = 64 * 1024  # searched at a time: at worst two milliseconds
_PARSE_LIMIT_BYTES: Final = 256 * 1024  # beyond, a parser call belongs into a thread


async def refuse_remote(body: Body) -> None:
    """Raises request.remote_media. Most bodies are only searched; one that looks suspicious is parsed."""
    if not await _suspicious(body):
        return
    data = body.data if body.in_memory else b"".join([piece async for piece in body.pieces()])
    found = remote_in(data) if len(data) <= _PARSE_LIMIT_BYTES else await asyncio.to_thread(remote_in, data)
    if found is not None:
        raise Hal0Error(
            "request.remote_media",
            f"cannot fetch {found[:100]!r} for a model of this machine: media come as data: URLs",
            hint="Send the file itself: data:image/png;base64,...",
        )


def suspicious(data: bytes) -> bool:
    """Whether a body is worth a closer look: half a microsecond for a small one."""
    return _ADDRESS.search(data) is not None or _ESCAPED.search(data) is not None


def remote_in(data: bytes) -> str | None:
    """The first address of a body that is no data: URL; None, too, for what is no JSON object."""
    try:
        value = jsonio.loads(data)
    except jsonio.JSONDecodeError:
        return None
    if not isinstance(value, dict):
        return None
    for room in _ROOMS:
        for address in _addresses(value.get(room)):
            if not address.startswith("data:"):
                return address
    return None


def _addresses(value: Any) -> Iterator[str]:
    """Without recursion: how deep a request nests is the client's choice."""
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, list):
            left.extend(value)
        elif isinstance(value, dict):
            left.extend(value.values())
            yield from _named(value)


def _named(part: dict[str, Any]) -> Iterator[str]:
    for name in _NAMED & part.keys():
        address = part[name]
        if isinstance(address, dict):
            address = address.get("url")
        if isinstance(address, str):
            yield address
    source = part.get("source")  # Anthropic's
    if isinstance(source, dict) and isinstance(address := source.get("url"), str):
        yield address


async def _suspicious(body: Body) -> bool:
    if body.in_memory and body.size <= _SLICE_BYTES:
        return suspicious(body.data)
    tail = b""
    async for piece in body.pieces():
        for at in range(0, len(piece), _SLICE_BYTES):
            part = tail + piece[at : at + _SLICE_BYTES]
            if suspicious(part):
                return True
            tail = part[-_OVERLAP_BYTES:]
            await asyncio.sleep(0)
    return False
