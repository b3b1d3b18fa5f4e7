"""One HTTP/1.1 exchange over a blocking socket: what `hal0ctl` needs, at a tenth of the standard client's import."""

import socket
from collections.abc import Iterable
from typing import Final

_READ_BYTES: Final = 64 * 1024
_MAX_LINE_BYTES: Final = 64 * 1024
_MAX_HEADERS: Final = 200


class NotHttp(Exception):
    """What was said, or was to be said, is not HTTP/1."""


class BrokenOff(Exception):
    """The connection ended in the middle of the answer."""


def request(
    method: str, host: str, target: str, headers: Iterable[tuple[str, str]], body: bytes | None = None
) -> bytes:
    """The bytes of a request that asks for one answer and the end of the connection. Raises NotHttp."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    if any("\r" in line or "\n" in line for line in lines):
        raise NotHttp("the request holds a line break")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


class Answer:
    """The answer on a socket whose request is sent: its head at once, its body when read.

    Everything raises NotHttp, BrokenOff, or the socket's own OSError and TimeoutError.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = b""
        self._begun = False  # the first chunk
        try:
            self.status, headers = self._head()
            while self.status < 200:  # 1xx announces the real one
                self.status, headers = self._head()
        except BrokenOff:
            raise NotHttp("the connection ended before an answer") from None
        length = headers.get("content-length")
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        self._left: int | None = None  # bytes of the body, or of its present chunk; None: until the connection ends
        if self._chunked or self.status in (204, 304):
            self._left = 0
        elif length is not None:
            self._left = _number(length, 10)
        self._ended = not self._chunked and self._left == 0

    def read(self, most: int) -> bytes:
        """The body, at most so many bytes of it."""
        pieces, size = [], 0
        while size < most and (piece := self.read1(most - size)):
            pieces.append(piece)
            size += len(piece)
        return b"".join(pieces)

    def read1(self, most: int = _READ_BYTES) -> bytes:
        """What has come of the body, waiting for at least one byte; b"" at its proper end."""
        if self._chunked and not self._left and not self._ended:
            self._next_chunk()
        if self._ended:
            return b""
        data = self._buffer or self._sock.recv(_READ_BYTES)
        if not data:
            if self._left is not None:
                raise BrokenOff
            self._ended = True
            return b""
        size = min(len(data), most, len(data) if self._left is None else self._left)
        data, self._buffer = data[:size], data[size:]
        if self._left is not None:
            self._left -= size
            self._ended = not self._chunked and not self._left
        return data

    def _next_chunk(self) -> None:
        if self._begun and self._line():
            raise NotHttp("a chunk is longer than it said")
        self._begun = True
        self._left = _number(self._line().partition(";")[0].strip(), 16)
        if not self._left:
            self._ended = True
            while self._line():  # trailers
                pass

    def _head(self) -> tuple[int, dict[str, str]]:
        version, _, rest = self._line().partition(" ")
        status = rest[:3]
        if not version.startswith("HTTP/1.") or not (status.isascii() and status.isdecimal() and len(status) == 3):
            raise NotHttp("no status line")
        headers: dict[str, str] = {}
        while line := self._line():
            name, colon, value = line.partition(":")
            if not colon or len(headers) > _MAX_HEADERS:
                raise NotHttp("no headers")
            headers[name.strip().lower()] = value.strip()
        return int(status), headers

    def _line(self) -> str:
        while (end := self._buffer.find(b"\n")) < 0:
            data = self._sock.recv(_READ_BYTES)
            if not data:
                raise BrokenOff
            self._buffer += data
            if len(self._buffer) > _MAX_LINE_BYTES and b"\n" not in self._buffer:
                raise NotHttp("a line without an end")
        line, self._buffer = self._buffer[:end], self._buffer[end + 1 :]
        return line.rstrip(b"\r").decode("latin-1")


def _number(text: str, base: int) -> int:
    try:
        value = int(text, base)
    except ValueError:
        value = -1
    if value < 0:
        raise NotHttp(f"{text[:20]!r} is no length")
    return value
