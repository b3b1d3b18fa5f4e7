"""A transcription request: a form whose parts may come in any order, its file on disk before anything is decided."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from serving.errors import Refusal, not_allowed
from transcribing.transcript import FORMATS

# More than an hour of uncompressed speech; /tmp, where it lies meanwhile, is half a gigabyte of memory.
LARGEST_BYTES: Final = 192 * 1024 * 1024
_ALL_BYTES: Final = 448 * 1024 * 1024
_FIELD_BYTES: Final = 64 * 1024
_CHUNK_BYTES: Final = 256 * 1024
_FIELDS: Final = frozenset({"response_format", "stream", "language", "temperature", "timestamp_granularities[]"})
_STREAMED: Final = ("json", "text")
_YES_NO: Final = {"true": True, "1": True, "false": False, "0": False, "": False}


@dataclass(frozen=True, slots=True)
class Asked:
    """What is wanted; `language` is the form's own word, in lower case, None when it has none."""

    response_format: str
    stream: bool
    language: str | None


class Spool:
    """The uploads of all requests under way: together they must fit into /tmp."""

    def __init__(self, limit: int = _ALL_BYTES) -> None:
        self._limit = limit
        self._used = 0

    def take(self, size: int) -> None:
        """Raises Refusal 503 when there is no room."""
        if self._used + size > self._limit:
            raise Refusal(503, "busy: other uploads fill the space for them", code="busy", retry_after_s=5)
        self._used += size

    def give_back(self, size: int) -> None:
        self._used -= size


class Upload:
    """The file of one request while it is worked on."""

    def __init__(self, spool: Spool, file: IO[bytes]) -> None:
        self.given = False
        self.path = Path(file.name)
        self.size = 0
        self._spool = spool
        self._file = file

    async def receive(self, part: BodyPartReader) -> None:
        """Raises Refusal 400, 413 or 503."""
        if self.given:
            raise Refusal(400, "there is more than one file", param="file")
        self.given = True
        while piece := await part.read_chunk(_CHUNK_BYTES):
            self._spool.take(len(piece))
            self.size += len(piece)
            if self.size > LARGEST_BYTES:
                said = f"the file is larger than {LARGEST_BYTES >> 20} MiB; compress it, or send it in parts"
                raise Refusal(413, said, param="file")
            await asyncio.to_thread(self._file.write, piece)
        await asyncio.to_thread(self._file.flush)


@asynccontextmanager
async def uploading(spool: Spool) -> AsyncIterator[Upload]:
    """A place for a file; it is gone at the end, and who still reads it does so to its own end."""
    file: IO[bytes] = await asyncio.to_thread(tempfile.NamedTemporaryFile, prefix="upload-")
    upload = Upload(spool, file)
    try:
        yield upload
    finally:
        spool.give_back(upload.size)
        await asyncio.to_thread(file.close)


async def read(request: web.Request, upload: Upload) -> Asked:
    """Raises Refusal for what is not such a form; every field is read before any is judged."""
    if not request.content_type.startswith("multipart/form-data"):
        raise Refusal(400, "the body has to be multipart/form-data with a file in it", param="file")
    fields: dict[str, list[str]] = {}
    try:
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader):
                raise Refusal(400, "a part of the form is a form")
            if part.name == "file":
                await upload.receive(part)
            elif part.name in _FIELDS:
                fields.setdefault(part.name, []).append(await _text(part))
            else:
                await part.release()
    except (ValueError, RuntimeError, HttpProcessingError) as fault:  # all of them aiohttp's words for it
        said = " ".join(str(getattr(fault, "message", fault)).split())[:200]
        raise Refusal(400, f"the form cannot be read: {said}") from fault
    if not upload.given:
        raise Refusal(400, "the form has no file", param="file")
    return judged(fields)


async def _text(part: BodyPartReader) -> str:
    value = bytearray()
    while piece := await part.read_chunk(_CHUNK_BYTES):
        value += piece
        if len(value) > _FIELD_BYTES:
            raise Refusal(400, f"{part.name} is too long", param=part.name)
    return value.decode("utf-8", "replace").strip()


def judged(fields: dict[str, list[str]]) -> Asked:
    """Raises Refusal 400 that names what is allowed."""

    def last(name: str, default: str) -> str:
        return fields.get(name, [default])[-1]

    wanted = last("response_format", "json") or "json"
    if wanted not in FORMATS:
        raise not_allowed("response_format", wanted, FORMATS)
    stream = _one_of("stream", last("stream", "").lower(), _YES_NO)
    if stream and wanted not in _STREAMED:
        raise not_allowed("response_format", wanted, [f"{name} (with stream)" for name in _STREAMED])
    for granularity in fields.get("timestamp_granularities[]", []):
        if granularity != "segment":  # the model tells no times, only the cuts between its pieces are known
            raise not_allowed("timestamp_granularities[]", granularity, ["segment"])
    try:
        fine = 0 <= float(last("temperature", "0") or 0) <= 1
    except ValueError:
        fine = False
    if not fine:
        raise not_allowed("temperature", last("temperature", "0"), ["0 to 1"])
    return Asked(wanted, stream, last("language", "").lower() or None)


def _one_of(name: str, value: str, known: dict[str, Any]) -> Any:
    if value not in known:
        raise not_allowed(name, value, _words(known))
    return known[value]


def _words(known: Iterable[str]) -> list[str]:
    return [word for word in known if word]
