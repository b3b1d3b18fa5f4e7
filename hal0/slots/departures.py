"""Containers of a slot that are on their way out: each in a task of its own, tried again until it is gone."""

import logging
from collections.abc import Callable
from typing import Final

from hal0.errors import Hal0Error
from hal0.slots.effects import Effects, Stuck
from hal0.slots.eyes import Eyes
from hal0.slots.happenings import Happening, Left, Stayed
from hal0.slots.orders import emptied
from hal0.slots.record import Container
from hal0.slots.serving import InFlight
from hal0.slots.state import NEVER
from hal0.slots.warmup import STOP_S

log = logging.getLogger(__name__)

_AGAIN_S: Final = 60.0


class Departures:
    """`tend` it with what is leaving, as often as you like: every container is tried once, then once a minute."""

    def __init__(self, effects: Effects, requests: InFlight, eyes: Eyes, report: Callable[[Happening], None]) -> None:
        self._effects = effects
        self._requests = requests
        self._eyes = eyes
        self._report = report
        self._due: dict[str, float] = {}  # by name: when it is tried again

    def hurry(self) -> None:
        """Something has changed: what would not go before may go now."""
        self._due.clear()

    def wake_at(self, leaving: tuple[Container, ...]) -> float:
        return min((self._due.get(container.name, 0.0) for container in leaving), default=NEVER)

    def tend(self, leaving: tuple[Container, ...], now: float, drain_s: float) -> None:
        names = {container.name for container in leaving}
        self._due = {name: due for name, due in self._due.items() if name in names}
        for container in leaving:
            if now >= self._due.get(container.name, 0.0):
                self._due[container.name] = now + _AGAIN_S
                if not self._eyes.busy(container.name):
                    self._eyes.start(container.name, self._see_out(container, drain_s))

    async def _see_out(self, container: Container, drain_s: float) -> None:
        """Its own requests may finish, then are ended engine side first; only then it is told to stop."""
        error = Hal0Error("slot.draining", f"{container.model} was replaced: this answer was ended early")
        await emptied(self._requests, drain_s, error, container.name)
        try:
            await self._effects.retire(container, stop_s=STOP_S)
        except (Stuck, Hal0Error) as err:
            log.warning("%s is still there (%s)", container.name, err)
            self._report(Stayed(container.name))
        else:
            self._report(Left(container.name))
