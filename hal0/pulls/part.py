"""A file that is on its way: its bytes so far, and beside it a note of which they are.

The note is written after the bytes are: after a kill it names nothing that is not there. Blocking.
"""

import os
from pathlib import Path
from typing import Final

from hal0.lib import jsonio
from hal0.lib.atomic import write_atomic
from hal0.pulls.spans import Span, cut, sound

_SCHEMA: Final = 1


class Part:
    """`size_bytes` and `spans` are known once it has begun; `etag` is the server's, to ask whether it is the same."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._note = path.with_name(f"{path.name}.json")
        self.size_bytes = 0
        self.etag: str | None = None
        self.spans: list[Span] = []

    @property
    def begun(self) -> bool:
        return bool(self.spans)

    @property
    def done_bytes(self) -> int:
        return sum(span.at - span.start for span in self.spans)

    def load(self) -> None:
        """What an earlier process left; nothing when that makes no sense."""
        try:
            note = jsonio.loads(self._note.read_bytes())
            spans = [Span(*map(int, span)) for span in note["spans"]]
            size, etag = int(note["size"]), note["etag"]
            there = self.path.stat().st_size
        except (OSError, ValueError, KeyError, TypeError):
            return
        if note.get("schema") == _SCHEMA and there == size and sound(spans, size) and isinstance(etag, str | None):
            self.size_bytes, self.etag, self.spans = size, etag, spans

    def begin(self, size_bytes: int, etag: str | None) -> None:
        """Anew, with nothing."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._note.unlink(missing_ok=True)
        with self.path.open("wb") as file:
            file.truncate(size_bytes)
        self.size_bytes, self.etag, self.spans = size_bytes, etag, cut(size_bytes)

    def came(self, size_bytes: int) -> None:
        """All of it, to another place."""
        self.size_bytes, self.spans = size_bytes, [Span(0, size_bytes, size_bytes)]

    def forget(self) -> None:
        """As if it had never begun."""
        self._note.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
        self.spans = []

    def open(self) -> int:
        """A descriptor to write with; the caller closes it."""
        return os.open(self.path, os.O_RDWR | os.O_CLOEXEC)

    def note(self, fd: int) -> None:
        """What has been written until now is there after a kill, and after a power cut."""
        spans = [[span.start, span.at, span.end] for span in self.spans]
        os.fdatasync(fd)
        data = {"schema": _SCHEMA, "size": self.size_bytes, "etag": self.etag, "spans": spans}
        write_atomic(self._note, jsonio.dumps(data))


def write_at(fd: int, data: bytes | bytearray, at: int) -> None:
    """All of it. Raises OSError."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, at)
        view, at = view[written:], at + written
