"""How fast bytes come, how long the rest will take, and how fast they may come. Pure but for the waiting."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

_WINDOW_S: Final = 10.0
_BURST_S: Final = 0.25  # of the limit: what may come at once


class Meter:
    """`now` is seconds of any steady clock."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()
        self._sum = 0

    def count(self, size_bytes: int, now: float) -> None:
        self._seen.append((now, size_bytes))
        self._sum += size_bytes
        self._forget(now)

    def rate(self, now: float) -> float | None:
        """Bytes per second over the last ten seconds; None before there is anything to tell."""
        self._forget(now)
        if len(self._seen) < 2:
            return None
        return self._sum / max(now - self._seen[0][0], 0.1)

    def eta_s(self, left_bytes: int, now: float) -> float | None:
        rate = self.rate(now)
        return left_bytes / rate if rate else None

    def _forget(self, now: float) -> None:
        while self._seen and now - self._seen[0][0] > _WINDOW_S:
            self._sum -= self._seen.popleft()[1]


class Throttle:
    """All downloads together stay below the limit, which may change at any time; None: there is none."""

    def __init__(self, limit: Callable[[], int | None]) -> None:
        self._limit = limit
        self._free_at = 0.0

    async def take(self, size_bytes: int) -> None:
        """Return when so many bytes more may have come."""
        limit = self._limit()
        if limit is None:
            return
        now = asyncio.get_running_loop().time()
        self._free_at = max(self._free_at, now - _BURST_S) + size_bytes / limit
        if (wait := self._free_at - now) > 0:
            await asyncio.sleep(wait)
