"""Container logs: podman's frames to whole lines. Pieces of a line come as frames of their own and are joined."""

import re
import struct
from collections.abc import Iterator
from typing import Final

from hal0.engine.base import LogLine
from hal0.engine.documents import seconds

_HEADER: Final = struct.Struct(">BxxxL")  # stream, three zero bytes, length
_STREAMS: Final = {1: "stdout", 2: "stderr"}
_STAMP: Final = re.compile(rb"\d{4}-\d\d-\d\dT[0-9:.]+(?:Z|[+-]\d\d:\d\d) ")
_MAX_LINE_BYTES: Final = 64 * 1024  # a program that never ends its line must not fill our memory


class LogDecoder:
    """Feed bytes as they come, get the lines that are complete; `finish` gives what was never ended."""

    def __init__(self) -> None:
        self._raw = bytearray()
        self._text: dict[str, bytearray] = {}
        self._at: dict[str, float | None] = {}

    def feed(self, data: bytes) -> Iterator[LogLine]:
        self._raw += data
        while len(self._raw) >= _HEADER.size:
            stream, length = _HEADER.unpack_from(self._raw)
            end = _HEADER.size + length
            if len(self._raw) < end:
                return
            piece = bytes(self._raw[_HEADER.size : end])
            del self._raw[:end]
            yield from self._join(_STREAMS.get(stream, "stdout"), piece)

    def finish(self) -> Iterator[LogLine]:
        for stream in list(self._text):
            yield from self._take(stream)

    def _join(self, stream: str, piece: bytes) -> Iterator[LogLine]:
        stamp = _STAMP.match(piece)  # each piece carries its own
        text = piece[stamp.end() :] if stamp else piece
        if stream not in self._text:
            self._text[stream] = bytearray()
            self._at[stream] = seconds(stamp[0].decode().strip()) if stamp else None
        self._text[stream] += text
        if text.endswith(b"\n") or len(self._text[stream]) >= _MAX_LINE_BYTES:
            yield from self._take(stream)

    def _take(self, stream: str) -> Iterator[LogLine]:
        at = self._at.pop(stream)
        text = self._text.pop(stream).decode(errors="replace")
        for line in text.removesuffix("\n").split("\n"):
            yield LogLine(stream, line.rstrip("\r"), at)
