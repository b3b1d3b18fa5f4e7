"""asyncio pieces that the standard library lacks: backoff, single-flight, broadcast."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, Final, Generic, TypeVar

_log: Final = logging.getLogger("hal0")

T = TypeVar("T")


def backoff_s(first: float, cap: float, *, factor: float = 2.0, jitter: float = 0.2) -> Iterator[float]:
    """Endless delays in seconds: first, first*factor ... cap, each +-jitter."""
    delay = first
    while True:
        yield delay * random.uniform(1 - jitter, 1 + jitter)  # noqa: S311  spreads load, guards nothing
        delay = min(delay * factor, cap)


class SingleFlight(Generic[T]):
    """Callers that ask for the same key while the work runs share it.

    A caller that is cancelled leaves; the work goes on for the others.
    """

    def __init__(self) -> None:
        self._flights: dict[str, asyncio.Task[T]] = {}

    async def run(self, key: str, work: Callable[[], Awaitable[T]]) -> T:
        task = self._flights.get(key)
        if task is None:
            task = asyncio.ensure_future(self._call(work))
            self._flights[key] = task
            task.add_done_callback(lambda done: self._landed(key, done))
        return await asyncio.shield(task)

    async def _call(self, work: Callable[[], Awaitable[T]]) -> T:
        return await work()

    def _landed(self, key: str, task: asyncio.Task[T]) -> None:
        self._flights.pop(key, None)
        if not task.cancelled():
            task.exception()  # every caller may have left: an unread failure is no warning

    async def aclose(self) -> None:
        """Cancel what is under way and wait for it."""
        tasks = list(self._flights.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Room:
    """Room in a transport's buffer, as its protocol is told of it; whoever writes waits until there is some."""

    def __init__(self) -> None:
        self._back: asyncio.Future[None] | None = None

    @property
    def full(self) -> bool:
        return self._back is not None

    def pause(self) -> None:
        if self._back is None:
            self._back = asyncio.get_running_loop().create_future()

    def resume(self) -> None:
        back, self._back = self._back, None
        if back is not None:
            back.set_result(None)

    async def wait(self) -> None:
        if self._back is not None:
            await asyncio.shield(self._back)


class Signal:
    """Wakes everyone who waits, again and again; waiters look at the state themselves."""

    def __init__(self) -> None:
        self._future: asyncio.Future[None] | None = None

    def notify(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)
        self._future = None

    async def wait(self) -> None:
        if self._future is None:
            self._future = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._future)


class ToTheEnd:
    """Runs work that is not to stop half-way: it ends also when its caller leaves."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    async def aclose(self) -> None:
        """Cancel what is under way and wait for it."""
        for task in list(self._tasks):
            await cancelled(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # the caller may have left: an unread failure is no warning


async def settled(work: Coroutine[Any, Any, T]) -> T:
    """The work's result; a caller that is cancelled waits for its end first, such as for a thread that writes."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # an unread failure would be a warning
        raise


def told_if_broken(task: asyncio.Task[Any]) -> None:
    """A done-callback for what should run for ever: one that ends by a mistake says so then, not when hal0 stops."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("hal0 made a mistake: %s has ended", task.get_name(), exc_info=error)


async def cancelled(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait until it has ended, however it ends; the caller's own cancellation still gets through."""
    task.cancel()
    await asyncio.wait([task])  # unlike `await task` it raises nothing of the task's own
    if not task.cancelled():
        task.exception()  # an unread failure would be a warning
