"""What runs, as podman tells it: asked every few seconds, and sooner when an event says that something happened."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final, Protocol

from hal0.engine.base import ContainerInfo, Engine, EventKind
from hal0.errors import Hal0Error
from hal0.lib.aio import backoff_s

log = logging.getLogger(__name__)

TICK_S: Final = 3.0  # every event may be lost: this is how long that can go unnoticed
LIST_S: Final = 5.0


class Watch(Protocol):
    """Who is told."""

    def engine_back(self) -> None:
        """The engine answers again."""
        ...

    def seen(self, infos: list[ContainerInfo]) -> None:
        """All containers of this instance, just now."""
        ...

    def ended(self, labels: Mapping[str, str]) -> None:
        """A container with these labels died or was removed."""
        ...


class Lookout:
    def __init__(self, engine: Engine, labels: Mapping[str, str], watch: Watch) -> None:
        self._engine = engine
        self._labels = labels
        self._watch = watch
        self.up = False

    async def containers(self, deadline_s: float = LIST_S) -> list[ContainerInfo] | None:
        """All containers of this instance; None when the engine does not say in time."""
        try:
            async with asyncio.timeout(deadline_s):
                infos = await self._engine.containers(self._labels)
        except (Hal0Error, TimeoutError) as err:
            if self.up:
                log.warning("podman does not answer: %s", err)
            self.up = False
            return None
        if not self.up:
            self.up = True
            self._watch.engine_back()
        return infos

    async def patiently(self) -> list[ContainerInfo]:
        """All containers of this instance, whenever the engine says so."""
        for delay_s in backoff_s(0.2, 2.0):
            infos = await self.containers()
            if infos is not None:
                return infos
            await asyncio.sleep(delay_s)
        raise AssertionError("backoff has no end")

    async def look(self) -> None:
        infos = await self.containers()
        if infos is not None:
            self._watch.seen(infos)

    async def tick(self) -> None:
        """Look again and again; runs for ever."""
        while True:
            await asyncio.sleep(TICK_S)
            await self.look()

    async def follow(self) -> None:
        """Look when an event says so; runs for ever."""
        async for event in self._engine.events(self._labels):
            if event.kind is EventKind.RESYNC:
                await self.look()
            elif event.kind in (EventKind.DIED, EventKind.REMOVED):
                self._watch.ended(event.labels)
