"""Eyes on a load: its log is followed, what it reads is counted, and what changes is told."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from hal0.engine.base import ContainerInfo, Engine
from hal0.errors import Hal0Error
from hal0.lib.aio import cancelled
from hal0.lib.clock import Clock
from hal0.slots.loading import Expected, Signs, progress_of
from hal0.slots.record import Container, Progress

_EVERY_S: Final = 0.25  # a look at /proc costs a tenth of a millisecond; a bar that moves four times a second flows


class LoadWatch:
    """`tell` gets every progress that differs from the one before; `moved` is set by news in the log."""

    def __init__(
        self, engine: Engine, clock: Clock, expected: Expected, tell: Callable[[Progress], None], moved: asyncio.Event
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._expected = expected
        self._tell = tell
        self._moved = moved
        self._signs = Signs()
        self._told: Progress | None = None

    def engine_says(self, fraction: float | None) -> bool:
        """Its health, or a line of its log: whether it is news."""
        if fraction is None or fraction <= (self._signs.engine or 0.0):
            return False
        self._signs = replace(self._signs, engine=fraction)
        self._look()
        return True

    async def run(self, container: Container, understand: Callable[[str], float | None]) -> None:
        """Until cancelled. `understand` turns a log line into a fraction."""
        listening = asyncio.create_task(self._listen(container, understand))
        try:
            info = await self._inspect(container)
            while True:
                if info is not None:
                    self._signs = replace(self._signs, read_bytes=await self._engine.bytes_read(info))
                self._look()
                await asyncio.sleep(_EVERY_S)
        finally:
            await cancelled(listening)

    async def _listen(self, container: Container, understand: Callable[[str], float | None]) -> None:
        """A log that cannot be followed costs nothing but its news."""
        with contextlib.suppress(Hal0Error):
            async for line in self._engine.logs(container.id or container.name, follow=True):
                if self.engine_says(understand(line.text)):
                    self._moved.set()

    async def _inspect(self, container: Container) -> ContainerInfo | None:
        try:
            return await self._engine.inspect(container.id or container.name)
        except Hal0Error:
            return None

    def _look(self) -> None:
        progress = progress_of(self._signs, self._expected, self._clock.now())
        if progress != self._told:
            self._told = progress
            self._tell(progress)
