"""Which bytes of a file are still to come: ranges that are fetched beside each other. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

_LANES: Final = 4  # ranges at the same time; more make hubs slower, not faster
_WORTH_BYTES: Final = 16 << 20  # a shorter range costs more to ask for than it saves


@dataclass(slots=True)
class Span:
    """Bytes `start` to `end` (not included); everything before `at` has come."""

    start: int
    at: int
    end: int

    @property
    def left(self) -> int:
        return self.end - self.at


def cut(size_bytes: int) -> list[Span]:
    """The ranges of a file that has not begun."""
    lanes = max(1, min(_LANES, size_bytes // _WORTH_BYTES))
    edges = [size_bytes * n // lanes for n in range(lanes + 1)]
    return [Span(begin, begin, end) for begin, end in pairwise(edges)]


def sound(spans: Iterable[Span], size_bytes: int) -> bool:
    """Whether they cover the file, each byte once."""
    at = 0
    for span in spans:
        if not at == span.start <= span.at <= span.end:
            return False
        at = span.end
    return at == size_bytes


def covers(said: str, span: Span, size_bytes: int) -> bool:
    """Whether a Content-Range is the one that was asked for: the rest of the span, of a file of this size."""
    return said.strip().lower() == f"bytes {span.at}-{span.end - 1}/{size_bytes}"
