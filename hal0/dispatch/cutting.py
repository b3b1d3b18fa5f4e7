"""Requests under way, by their client's connection: whoever may end them gives the reason, and the client is told."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

from hal0.errors import Hal0Error

T = TypeVar("T")


class Abortable(Protocol):
    """A request without a task."""

    def abort(self, error: Hal0Error) -> None: ...


class Cuttable:
    """A connection has one request at a time: a task, or one of those in `without_task`."""

    def __init__(self) -> None:
        self.without_task: dict[asyncio.Transport, Abortable] = {}
        self._under_way: dict[asyncio.Transport, _Work] = {}

    async def run(self, transport: asyncio.Transport | None, work: Coroutine[Any, Any, T]) -> T:
        """Do the work; raises what `cut` was given, should it be cut."""
        task = asyncio.current_task()
        if transport is None or task is None:
            return await work
        mine = self._under_way[transport] = _Work(task)
        try:
            return await work
        except asyncio.CancelledError:
            if mine.error is None:
                raise
            task.uncancel()
            raise mine.error from None
        finally:
            del self._under_way[transport]

    def cut(self, transport: asyncio.Transport, error: Hal0Error) -> bool:
        """Whether there was a request to end."""
        if (short := self.without_task.get(transport)) is not None:
            short.abort(error)
            return True
        found = self._under_way.get(transport)
        if found is None:
            return False
        if found.error is None:
            found.error = error
            found.task.cancel()
        return True


class _Work:
    __slots__ = ("error", "task")

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self.task = task
        self.error: Hal0Error | None = None
