"""Notices when nothing has come for too long: a timer that looks, rather than one that is moved for all that comes."""

import asyncio
from collections.abc import Callable
from typing import Final

_LOOKS: Final = 8  # within the time that may pass


class Silence:
    """Calls `over`, with the limit, when nothing was heard for so long, and whenever that passes once more.

    `heard` is asked whether something was since it was asked last. Whoever hears need not tell anybody, and so the end
    of a silence is noticed up to an eighth of the limit late, and never early. Of many streams, each in memory of its
    own that is seldom in the processor's cache, that is worth having.
    """

    __slots__ = ("_heard", "_limit_s", "_looks_at", "_loop", "_over", "_since", "_timer")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, heard: Callable[[], bool], over: Callable[[float], None]
    ) -> None:
        self._loop = loop
        self._heard = heard
        self._over = over
        self._limit_s = 0.0
        self._since = loop.time()
        self._timer: asyncio.Handle | None = None
        self._looks_at = 0.0  # uvloop's timers do not tell, when they are due at once

    def begin(self) -> None:
        """It counts anew, from now."""
        self._heard()
        self._since = self._loop.time()

    def limit(self, seconds: float) -> None:
        """How long it may last from now on, what has passed of it included; 0: as long as it likes."""
        if self._limit_s == seconds:
            return
        self._limit_s = seconds
        if seconds:
            first = self._since + seconds / _LOOKS
            if self._timer is not None and self._looks_at > first:
                self.stop_looking()
            if self._timer is None:
                self._look_at(first)

    def stop_looking(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def end(self) -> None:
        """Nobody listens any more."""
        self._limit_s = 0.0
        self.stop_looking()

    def _look(self) -> None:
        self._timer = None
        if not self._limit_s:
            return
        now = self._loop.time()
        if self._heard():
            self._since = now
        if now >= self._since + self._limit_s:
            self._since = now
            self._over(self._limit_s)
        if self._limit_s:
            due = self._since + self._limit_s
            self._look_at(min(due, now + self._limit_s / _LOOKS))

    def _look_at(self, when: float) -> None:
        self._looks_at = when
        self._timer = self._loop.call_at(when, self._look)
