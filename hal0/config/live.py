"""The configuration in force while hal0 runs: read again when a file is saved, kept when the new one is wrong."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from hal0.config.custom import Sources
from hal0.config.load import Loaded
from hal0.config.root import RootConfig
from hal0.config.watch import changes
from hal0.errors import Hal0Error
from hal0.paths import Paths

log = logging.getLogger(__name__)

Apply: TypeAlias = Callable[[RootConfig], Awaitable[None]]


class LiveConfig:
    """`root` is always a valid configuration; `problem` says why the files on disk are not in force, if so;
    `origins` who said what of it.

    What reads the files and what writes them takes turns: an edit of hal0's own is never applied twice or half.
    """

    def __init__(self, paths: Paths, loaded: Loaded, environ: Mapping[str, str], overrides: Mapping[str, Any]) -> None:
        self.sources = Sources(paths, environ, overrides)
        self.root: RootConfig = loaded.root
        self.origins = loaded.origins
        self.problem: Hal0Error | None = None
        self._listeners: list[Callable[[RootConfig], None]] = []
        self._turn = asyncio.Lock()

    def on_change(self, listener: Callable[[RootConfig], None]) -> None:
        """Tell `listener`, too, of every configuration that comes into force; it takes no time and raises nothing."""
        self._listeners.append(listener)

    async def follow(self, apply: Apply) -> None:
        """Apply every saved change, for ever."""
        async for _ in changes(self.sources.paths):
            await self.reread(apply)

    async def reread(self, apply: Apply) -> None:
        """Read the files again; a wrong one leaves everything as it is and is reported."""
        async with self._turn:
            try:
                loaded = await asyncio.to_thread(self.sources.load)
            except Hal0Error as err:
                self.problem = err
                log.error("the saved configuration is not in force: %s", err.message)  # noqa: TRY400  it says it all
                return
            if await self._enforce(loaded, apply):
                log.info("the saved configuration is in force")

    async def edit(self, write: Callable[[Sources], Loaded], apply: Apply) -> None:
        """Change the files by `write` (blocking, on a thread of its own); in force when this returns.

        Raises what `write` raises; then nothing has changed. Not to be cancelled in the middle.
        """
        async with self._turn:
            await self._enforce(await asyncio.to_thread(write, self.sources), apply)

    async def _enforce(self, loaded: Loaded, apply: Apply) -> bool:
        self.problem, self.origins = None, loaded.origins
        if loaded.root == self.root:
            return False
        self.root = loaded.root
        for listener in self._listeners:
            listener(loaded.root)
        await apply(loaded.root)
        return True
