"""Fetches what a request names by address and puts it into the request, where the configuration wants that."""

import asyncio
import base64
import re
import secrets
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, TypeAlias

from hal0.config.dispatch import DispatchConfig
from hal0.dispatch.body import Body, Spool
from hal0.dispatch.edits import cuts_for
from hal0.dispatch.keeping import Keeping, too_large
from hal0.dispatch.media import Place, Shape, naming
from hal0.errors import Hal0Error

MAX_ADDRESSES: Final = 16  # of one request
MAX_BYTES: Final = 20 << 20  # of one picture or sound: what OpenAI takes at most
PATIENCE_S: Final = 30.0  # for all of a request together, its turn included
_AT_ONCE: Final = 4  # requests that fetch; what came is held until its request is written, without a turn
_PIECE_BYTES: Final = 3 * 64 * 1024  # encoded at a time; divisible by three, so that the pieces are one text

# What a file is, by its first bytes: what its server says of it is often wrong, and need not be true.
_IMAGES: Final = ((b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF8", "gif"), (b"BM", "bmp"))
_SOUNDS: Final = (
    *((b"ID3", "mpeg"), (b"\xff\xfb", "mpeg"), (b"\xff\xf3", "mpeg"), (b"\xff\xf2", "mpeg")),
    *((b"fLaC", "flac"), (b"OggS", "ogg")),
)
_RIFF: Final = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}

Fetch: TypeAlias = Callable[[str], Awaitable[bytes]]
"""The file behind an address, MAX_BYTES at most. Raises request.remote_media."""


async def fetched(address: str) -> bytes:
    """From the public network."""
    from hal0.dispatch.fetching import fetch  # few ever fetch anything

    return await fetch(address)


class Inlining:
    """`config` says, at every request, whether files are fetched and how large a body may be."""

    def __init__(self, config: Callable[[], DispatchConfig], fetch: Fetch, spool: Spool) -> None:
        self._config = config
        self._fetch = fetch
        self._spool = spool
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def inlined(self, body: Body) -> Body | None:
        """The body with everything in it, the caller's to close; None: it names nothing by address.

        Raises request.remote_media, request.invalid_json, request.too_large or state.write_failed.
        """
        named = await naming(body)
        if named is None:
            return None
        request, found = named
        if not self._config().remote_media:
            raise refused(
                f"cannot fetch {found[0].address[:100]!r} for a model of this machine: media come as data: URLs"
            )
        if len(found) > MAX_ADDRESSES:
            raise refused(f"cannot fetch {len(found)} files for one request: {MAX_ADDRESSES} at most")
        try:
            async with asyncio.timeout(PATIENCE_S), self._turns:
                files = await self._files(found)
        except TimeoutError:
            raise refused(f"cannot fetch the media of this request within {PATIENCE_S:g} s") from None
        standing = {}
        for place in found:
            kind, data = files[place.address]
            standing[token := secrets.token_hex(16).encode()] = data
            put(place, kind, token.decode())
        return await self._written(body, {place.room: request[place.room] for place in found}, standing)

    async def _files(self, found: list[Place]) -> dict[str, tuple[str, bytes]]:
        """Address -> media type and bytes; one after the other: together they may be no larger than a body."""
        files: dict[str, tuple[str, bytes]] = {}
        limit_bytes = self._config().json_limit
        for place in found:
            address = place.address
            if place.kind not in ("image", "audio"):
                raise refused(f"cannot fetch a {place.kind} for a model: only pictures and sounds are fetched")
            if address not in files:
                data = await self._fetch(address)
                files[address] = kind_of(data), data
            if not files[address][0].startswith(place.kind):
                raise refused(f"cannot use {address[:100]!r}: it is no {place.kind} that hal0 knows")
            if sum(len(data) for _, data in files.values()) > limit_bytes:
                raise too_large(limit_bytes, None)
        return files

    async def _written(self, body: Body, edits: dict[str, Any], standing: dict[bytes, bytes]) -> Body:
        """The body with these members; every token in them becomes its file, which is never in memory as base64."""
        keeping, tokens = Keeping(self._spool, self._config().json_limit), re.compile(b"(" + b"|".join(standing) + b")")
        try:
            async for piece in body.pieces(await cuts_for(body, edits)):
                for text in tokens.split(piece):
                    for part in _base64(standing[text]) if text in standing else (text,):
                        await keeping.take(part)
                        await asyncio.sleep(0)
            return await keeping.body()
        finally:
            keeping.close()


def _base64(data: bytes) -> Iterator[bytes]:
    return (base64.b64encode(data[at : at + _PIECE_BYTES]) for at in range(0, len(data), _PIECE_BYTES))


def kind_of(data: bytes) -> str:
    """The media type of a picture or a sound; "" for everything else."""
    if data[:4] == b"RIFF":
        return _RIFF.get(data[8:12], "")
    return next(_kinds(data), "")


def _kinds(data: bytes) -> Iterator[str]:
    yield from (f"image/{name}" for start, name in _IMAGES if data.startswith(start))
    yield from (f"audio/{name}" for start, name in _SOUNDS if data.startswith(start))


def put(place: Place, kind: str, text: str) -> None:
    """Where the address was, the file itself."""
    match place.shape:
        case Shape.DATA_URL:
            place.part[place.member] = f"data:{kind};base64,{text}"
        case Shape.BASE64:
            place.part[place.member] = text
        case Shape.SOURCE:
            place.part.clear()
            place.part.update(type="base64", media_type=kind, data=text)


def refused(message: str) -> Hal0Error:
    return Hal0Error("request.remote_media", message, hint="Send the file itself: data:image/png;base64,...")
