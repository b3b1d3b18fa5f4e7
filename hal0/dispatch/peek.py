"""Reads a request's body without losing a byte, and finds what routing needs: model, stream, encoding_format."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from aiohttp import StreamReader
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import PayloadAccessError
from multidict import CIMultiDictProxy

from hal0.dispatch.body import Body, Share
from hal0.dispatch.keeping import Keeping, too_large
from hal0.dispatch.members import Members, NotJson
from hal0.dispatch.unhurried import AT_ONCE_BYTES
from hal0.errors import Hal0Error
from hal0.lib import jsonio
from hal0.lib.spread import spread

_MEMBERS: Final = ("model", "stream", "encoding_format")
# Below aiohttp's own low-water mark (64 KiB) reading is never paused, so nothing waits for being resumed.
_AT_HAND_BYTES: Final = 32 * 1024
# Names are repeated in answers and kept in records, so nothing else may pass as one.
_LONGEST_NAME: Final = 512
# A client that goes silent inside its own body has left without saying so; one that drips has nothing else in mind.
_SILENCE_S: Final = 60.0
_LEAST_BYTES: Final = 60 * 1024  # in so long, of a body that is not over by then


class Peek(NamedTuple):
    """What routing knows of a body; `model` is None when missing or empty."""

    model: str | None
    stream: bool
    encoding_format: str | None


def refuse_early(headers: CIMultiDictProxy[str], limit: int) -> None:
    """Refuse by the headers alone, before a byte of the body is asked for."""
    for encoding in headers.getall("Content-Encoding", ()):  # an engine may go by another one than the first
        if encoding.strip().lower() not in ("", "identity"):
            raise Hal0Error("request.encoding", f"cannot read a body with Content-Encoding {encoding[:100]!r}")
    for coding in headers.getall("Transfer-Encoding", ()):  # aiohttp's parser takes others before it, and undoes none
        if coding.strip().lower() != "chunked":
            raise Hal0Error(
                "request.encoding",
                f"cannot read a body with Transfer-Encoding {coding[:100]!r}",
                hint="Send the body unpacked, with a Content-Length or with Transfer-Encoding: chunked alone.",
            )
    length = headers.get("Content-Length")
    if length is not None and length.isdecimal() and int(length) > limit:
        raise too_large(limit, int(length))


async def read_json(content: StreamReader, spool: Share, limit: int) -> tuple[Body, Peek]:
    """The whole body, at most `limit` bytes, and its peek. Raises request.* errors; the caller closes the body."""
    if content.is_eof() and content.exception() is None and content.total_bytes <= _AT_HAND_BYTES:
        data = _at_hand(content)
        return Body(data), parsed(data)
    incoming, pieces, size = Incoming(content), list[bytes](), 0
    while size <= AT_ONCE_BYTES:
        piece = await incoming.next()
        if not piece:
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            return Body(data), parsed(data)
        size += len(piece)
        pieces.append(piece)
    return await _read_large(incoming, b"".join(pieces), spool, limit)


def _at_hand(content: StreamReader) -> bytes:
    """The whole of a small body that came with its head, as with most requests.

    It is looked at rather than taken: every taking has aiohttp run its parser once more over nothing and resume a
    transport that was never paused, which costs a small request a twelfth of its time.
    """
    if not content.total_bytes:
        return b""
    pieces = content._buffer  # noqa: SLF001  nothing public looks without taking
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class Incoming:
    """A body while it comes."""

    def __init__(self, content: StreamReader) -> None:
        self._content = content
        self._time = asyncio.get_running_loop().time
        self._since = self._time()
        self._came = 0  # bytes since then

    async def next(self) -> bytes:
        """What has come since; b"" at the end. Raises request.invalid."""
        try:
            async with asyncio.timeout(_SILENCE_S):
                piece = await self._content.readany()
        except TimeoutError:
            raise Hal0Error("request.invalid", f"cannot read the body: it stopped for {_SILENCE_S:.0f} s") from None
        except (HttpProcessingError, PayloadAccessError) as error:
            raise Hal0Error("request.invalid", f"cannot read the body: {error}") from error
        self._came += len(piece)
        if piece and self._time() - self._since > _SILENCE_S:
            self._keeps_pace()
        return piece

    def _keeps_pace(self) -> None:
        if self._came < _LEAST_BYTES:
            message = f"cannot read the body: no more than {self._came} bytes came of it in {_SILENCE_S:.0f} s"
            raise Hal0Error("request.invalid", message)
        self._since, self._came = self._time(), 0


async def _read_large(content: Incoming, piece: bytes, spool: Share, limit: int) -> tuple[Body, Peek]:
    """A body that is scanned while it arrives, kept in memory or in the spool; `piece` has arrived already."""
    members = Members(_MEMBERS)
    keeping = Keeping(spool, limit)
    try:
        while piece:
            await keeping.take(piece)
            await spread(members.feed, piece)
            piece = await content.next()
        members.finish()
        peek = _peek_of(members.values)
        return await keeping.body(), peek
    except NotJson as error:
        raise _not_json(str(error)) from None
    finally:
        keeping.close()


def parsed(data: bytes) -> Peek:
    """What routing knows of a whole body. Raises request.invalid_json and request.invalid."""
    if not data:
        raise _not_json("it is empty")
    try:
        value = jsonio.loads(data)
    except jsonio.JSONDecodeError as error:
        raise _not_json(str(error)) from None
    if not isinstance(value, dict):
        raise _not_json("it is not an object")
    return _peek_of(value)


def named(model: object) -> str | None:
    """A model as it was asked for; None when missing or empty. Raises request.invalid."""
    if model is None or (isinstance(model, str) and len(model) <= _LONGEST_NAME):
        return model or None
    message = f"cannot read `model`: it is not a string of at most {_LONGEST_NAME} characters"
    raise Hal0Error("request.invalid", message, param="model")


def _peek_of(members: Mapping[str, Any]) -> Peek:
    encoding = members.get("encoding_format")
    streamed = members.get("stream") is True
    return Peek(named(members.get("model")), streamed, encoding if isinstance(encoding, str) else None)


def _not_json(why: str) -> Hal0Error:
    return Hal0Error("request.invalid_json", f"cannot read the body as a JSON object: {why}")
