"""The head of an engine's answer, and knowing it again by its bytes when the engine says it once more. Pure.

An engine begins nearly all its answers alike, but for their length. To parse that anew costs more than to compare it.
"""

from functools import lru_cache
from typing import Final, NamedTuple

from hal0.dispatch.headers import BODILESS, END, LENGTH, get

_REMEMBERED: Final = 64  # headers of answers; an engine has a handful


class Head(NamedTuple):
    """An answer's status line and headers, as the slot spelled them, but for the length of its body (bytes)."""

    status: int
    reason: str
    headers: tuple[tuple[bytes, bytes], ...]
    length: int | None

    def get(self, name: bytes) -> bytes | None:
        return get(self.headers, name)

    @property
    def is_events(self) -> bool:
        return is_events(self.headers)


@lru_cache(maxsize=_REMEMBERED)
def is_events(headers: tuple[tuple[bytes, bytes], ...]) -> bool:
    """Whether a stream of events follows."""
    return (get(headers, b"content-type") or b"").startswith(b"text/event-stream")


class Whole(NamedTuple):
    """A complete answer, and whether its connection may carry another one."""

    head: Head
    body: bytes
    keep: bool


class Familiar:
    """The last answer of a connection that came in one piece: `look`, and `learn` what the parser made of it.

    What is compared is every byte of the head but the digits of its length, so nothing is taken for known that the
    parser might have read in another way.
    """

    __slots__ = ("_head", "_keep", "_known", "_seen")

    def __init__(self) -> None:
        self._known = self._seen = b""
        self._head: Head | None = None
        self._keep = False

    def look(self, data: bytes) -> Whole | None:
        """The first bytes of an answer; None: let the parser read them."""
        end = data.find(END)
        length = LENGTH.search(data, 0, end + 2) if end > 0 else None
        self._seen = b""
        if length is None or end + len(END) + int(length[1]) != len(data):
            return None
        key = data[: length.start(1)] + data[length.end(1) : end]
        if self._head is None or key != self._known:
            self._seen = key
            return None
        body = data[end + len(END) :]
        return Whole(Head(self._head.status, self._head.reason, self._head.headers, len(body)), body, self._keep)

    def learn(self, head: Head, *, keep: bool) -> None:
        """The answer that was looked at last has this head; where none ever has a body, its length says nothing."""
        if self._seen and head.status not in BODILESS:
            self._known, self._head, self._keep = self._seen, head, keep

    def doubt(self) -> None:
        """What was looked at last is not as plain as it seemed."""
        self._seen = b""
