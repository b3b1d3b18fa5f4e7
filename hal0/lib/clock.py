"""The only source of time outside the event loop, so that tests can hold it still."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio  # for a name only: hal0ctl reads this module too, and must start quickly


class Clock(Protocol):
    """Wall-clock time for records, logs and people; durations are measured on the event loop's clock."""

    def now(self) -> float:
        """Seconds since the epoch."""
        ...


class SystemClock:
    def now(self) -> float:
        return time.time()


def iso(seconds: float) -> str:
    """ISO 8601 in UTC with milliseconds, as on the wire: 2026-01-31T12:00:00.123Z."""
    second, micros = divmod(round(seconds * 1e6), 1_000_000)
    return f"{_iso_second(second)}.{micros // 1000:03d}Z"


@lru_cache(maxsize=64)
def _iso_second(second: int) -> str:
    """Many lines of a log fall into one second."""
    return datetime.fromtimestamp(second, UTC).isoformat().removesuffix("+00:00")


def stopwatch(loop: "asyncio.AbstractEventLoop") -> Callable[[], float]:
    """The loop's seconds, for what is measured rather than waited for.

    uvloop's own clock stands still during a turn and moves in whole milliseconds: a request that costs hal0 a fifth of
    one would be said to cost nothing, or five times that. It counts what `time.monotonic` counts.
    """
    return time.monotonic if type(loop).__module__.partition(".")[0] == "uvloop" else loop.time


class SteadyClock:
    """The wall clock as it was when the loop started, moved on by the loop's own clock.

    Deadlines and records share it, so that a correction of the wall clock moves neither.
    """

    def __init__(self, loop: "asyncio.AbstractEventLoop") -> None:
        self._loop = loop
        self._offset = time.time() - loop.time()

    def now(self) -> float:
        return self._loop.time() + self._offset
