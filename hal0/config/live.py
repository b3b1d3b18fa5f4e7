"""The configuration in force while hal0 runs: read again when a file is saved, kept when the new one is wrong."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from hal0.config.load import Loaded, load
from hal0.config.root import RootConfig
from hal0.config.watch import changes
from hal0.errors import Hal0Error
from hal0.paths import Paths

log = logging.getLogger(__name__)


class LiveConfig:
    """`root` is always a valid configuration; `problem` says why the files on disk are not in force, if so."""

    def __init__(self, paths: Paths, loaded: Loaded, environ: Mapping[str, str], overrides: Mapping[str, Any]) -> None:
        self._paths = paths
        self._environ = environ
        self._overrides = overrides
        self.root: RootConfig = loaded.root
        self.problem: Hal0Error | None = None

    async def follow(self, apply: Callable[[RootConfig], Awaitable[None]]) -> None:
        """Apply every saved change, for ever."""
        async for _ in changes(self._paths):
            await self.reread(apply)

    async def reread(self, apply: Callable[[RootConfig], Awaitable[None]]) -> None:
        """Read the files again; a wrong one leaves everything as it is and is reported."""
        try:
            loaded = await asyncio.to_thread(load, self._paths, self._environ, self._overrides)
        except Hal0Error as err:
            self.problem = err
            log.error("the saved configuration is not in force: %s", err.message)  # noqa: TRY400  it says it all
            return
        self.problem = None
        if loaded.root != self.root:
            self.root = loaded.root
            await apply(loaded.root)
            log.info("the saved configuration is in force")
