"""Work that goes on for as long as hal0 does: what ends by a mistake of ours begins again, a little later each time."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import TypeAlias

from hal0.lib.aio import backoff_s, cancelled

log = logging.getLogger(__name__)

Work: TypeAlias = Callable[[], Coroutine[None, None, None]]


class Kept:
    """Tasks by name, one of each."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._tasks

    def keep(self, name: str, work: Work, *, again: Work | None = None, once: bool = False) -> None:
        """Have `work` done in a task of its own; one that fails begins again, after `again`. `once`: it has an end."""
        self._tasks[name] = asyncio.create_task(self._kept(name, work, again, once=once), name=f"supervisor-{name}")

    async def end(self, name: str) -> None:
        """Cancel it and wait for its end; nothing happens when there is none."""
        if (task := self._tasks.pop(name, None)) is not None:
            await cancelled(task)

    async def ended(self, name: str) -> None:
        """Return when it has come to its end, or there is none."""
        if (task := self._tasks.get(name)) is not None:
            await asyncio.wait([task])

    async def aclose(self) -> None:
        while self._tasks:  # one that has not ended yet may begin another
            await self.end(next(iter(self._tasks)))

    async def _kept(self, name: str, work: Work, again: Work | None, *, once: bool) -> None:
        failed = False
        for delay_s in backoff_s(1.0, 60.0):
            try:
                if failed and again is not None:
                    await again()
                failed = False
                await work()
                if once:
                    break
            except Exception:  # the task's outermost line: nothing that hal0 keeps alive may end by a mistake
                log.exception("%s failed by a mistake of hal0's; it begins again in %.0f s", name, delay_s)
            failed = True
            await asyncio.sleep(delay_s)
        if self._tasks.get(name) is asyncio.current_task():
            del self._tasks[name]
