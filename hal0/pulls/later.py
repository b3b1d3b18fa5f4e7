"""Pulls, made at their first use: most starts of hal0 download nothing, and need not wait for what does it."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from hal0.pulls.pulls import Pulls

_FOLDER: Final = ".pulls"  # of the store; named once more, so that a look at it costs nothing


class PullsLater:
    """Call it for the pulls; `make` imports what they need."""

    def __init__(self, store: Path, make: Callable[[], "Pulls"]) -> None:
        self._left = store / _FOLDER
        self._make = make
        self._pulls: Pulls | None = None
        self._booted = asyncio.Event()

    def __call__(self) -> "Pulls":
        if self._pulls is None:
            self._pulls = self._make()
        return self._pulls

    async def boot(self) -> None:
        """Go on with what an earlier process left, if it left anything."""
        try:
            if await asyncio.to_thread(self._left.is_dir):
                await self().boot()
        finally:
            self._booted.set()

    async def booted(self) -> "Pulls":
        """The pulls, with what earlier processes left: nothing is begun twice."""
        await self._booted.wait()
        return self()

    async def aclose(self) -> None:
        if self._pulls is not None:
            await self._pulls.aclose()
