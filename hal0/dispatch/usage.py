"""Reads token counts out of an answer's ends, after it has passed; costs one look per event of a stream."""

import re
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from hal0.dispatch.frames import FRAME_ENDS
from hal0.lib import jsonio

_KEPT_BYTES: Final = 4096  # of one chunk: usage and timings together take about 1 KiB
_KEPT_CHUNKS: Final = 8  # the last events of a stream: usage, finish reason, [DONE]
_MOST: Final = 1 << 40  # no answer has as many tokens, in all or in a second

_WORDS: Final = (b'"usage"', b'"timings"')
# An object of numbers, at most one object deep inside it (prompt_tokens_details). The same words inside generated
# text are escaped (\"usage\") and do not match.
_USAGE: Final = re.compile(rb'"usage"\s*:\s*(\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\})')
_TIMINGS: Final = re.compile(rb'"timings"\s*:\s*(\{[^{}]*\})')


class Usage(NamedTuple):
    """Tokens as the engine counted them; None where it did not say."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    tokens_per_second: float | None = None


_NOTHING: Final = Usage()


class Meter:
    """Keeps the first chunk of an answer and what its ends may say, and when the first came (`clock`'s time).

    Of a stream nothing else is touched again: with a thousand of them, memory that is no more in the processor's
    cache is what a token costs most.
    """

    __slots__ = ("_clock", "_first", "_last", "_open", "first_at")

    def __init__(self, clock: Callable[[], float]) -> None:
        self.first_at: float | None = None
        self._clock = clock
        self._first = b""
        self._last: deque[bytes] | None = None
        self._open = True  # amid an event, or in what is no stream of events

    def saw(self, chunk: bytes) -> None:
        if self._open or not chunk.endswith(FRAME_ENDS) or may_say(chunk):
            self._keep(chunk)

    def usage(self) -> Usage:
        return usage_in(b"".join((self._first, *(self._last or ()))))

    def _keep(self, chunk: bytes) -> None:
        self._open = not chunk.endswith(FRAME_ENDS)
        if not self._first:
            self.first_at = self._clock()
            self._first, chunk = chunk[:_KEPT_BYTES], chunk[_KEPT_BYTES:]
        if chunk:
            self._last = self._last or deque(maxlen=_KEPT_CHUNKS)
            self._last.append(chunk if len(chunk) <= _KEPT_BYTES else chunk[-_KEPT_BYTES:])


def usage_in(text: bytes) -> Usage:
    """What an answer, or the ends of one, says."""
    if not may_say(text):
        return _NOTHING
    usage, timings = _said(_USAGE, text), _said(_TIMINGS, text)
    if not usage and not timings:
        return _NOTHING
    return Usage(
        prompt_tokens=_read(usage) or _timed(timings),
        completion_tokens=_number(usage, "completion_tokens", "output_tokens") or _number(timings, "predicted_n"),
        tokens_per_second=_rate(timings),
    )


def may_say(text: bytes) -> bool:
    """Whether there may be something in it to count by."""
    return text.find(_WORDS[0]) >= 0 or text.find(_WORDS[1]) >= 0  # `in` raises and catches before it looks


def _said(pattern: re.Pattern[bytes], text: bytes) -> dict[str, Any]:
    """All that the objects found say, the later word against the earlier: some streams begin with what was read."""
    said: dict[str, Any] = {}
    for found in pattern.findall(text):
        try:
            said |= jsonio.loads(found)
        except jsonio.JSONDecodeError:
            continue
    return said


def _read(usage: dict[str, Any]) -> int | None:
    """Tokens of the prompt. Anthropic's form counts those that came from a cache beside the others."""
    read = _number(usage, "prompt_tokens", "input_tokens")
    cached = [_number(usage, name) or 0 for name in ("cache_read_input_tokens", "cache_creation_input_tokens")]
    return read if read is None else read + sum(cached)


def _timed(timings: dict[str, Any]) -> int | None:
    """Tokens of the prompt, as llama-server times them: those that were in its cache already took no time."""
    read = _number(timings, "prompt_n")
    return read if read is None else read + (_number(timings, "cache_n") or 0)


def _number(values: dict[str, Any], *names: str) -> int | None:
    """The first that is a count of tokens; whoever answers may write anything there."""
    return next((values[name] for name in names if type(values.get(name)) is int and 0 <= values[name] < _MOST), None)


def _rate(timings: dict[str, Any]) -> float | None:
    value = timings.get("predicted_per_second")
    return float(value) if isinstance(value, int | float) and 0 <= value < _MOST else None
