"""The event loop of every async test: its clock leaves out the time in which the machine stood still.

A process that gets no processor for a second finds all of its timers due at once: a limit of 50 ms has passed before
anybody read the answer that came in time. Such a test fails for what the machine does, not for what hal0 does. So no
turn of the loop counts for longer than `TURN_S`, and waiting is done in pieces that count no longer than asked for.
Work between two turns is not judged by this clock: `blockbuster` finds what blocks, processor time what is slow.
"""

import asyncio
import selectors
import time
from typing import Final

TURN_S: Final = 0.01
_LATE_S: Final = 0.005  # later than asked for a system may well wake who waits; this much is time like any other


class SteadyLoop(asyncio.SelectorEventLoop):
    """A selector loop that was never stopped."""

    def __init__(self) -> None:
        self._selects = _Selector()
        super().__init__(self._selects)

    def time(self) -> float:
        return self._selects.now()


class _Selector(selectors.DefaultSelector):
    """Waits in pieces, and counts what each of them took."""

    def __init__(self) -> None:
        super().__init__()
        self._looked_at = self._counted = time.monotonic()

    def now(self) -> float:
        return self._counted + min(time.monotonic() - self._looked_at, TURN_S)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._count(TURN_S)
        end = float("inf") if timeout is None else self._counted + timeout
        while True:
            piece_s = min(max(end - self._counted, 0.0), TURN_S)
            ready = super().select(piece_s)
            self._count(piece_s + _LATE_S)
            if ready or self._counted >= end:
                return ready

    def _count(self, most_s: float) -> None:
        real = time.monotonic()
        self._counted += min(real - self._looked_at, most_s)
        self._looked_at = real
