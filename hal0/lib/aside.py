"""Blocking work that may hang, kept aside: in a thread of its own that nobody waits for longer than agreed.

asyncio's own threads are few, shared by all of hal0, and waited for when it ends. A driver or a network share that
hangs would take one after the other; then nothing that needs a thread goes on, and hal0 cannot even be stopped.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import Any, Final, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

ASIDE: Final = "hal0-aside"  # every thread that nobody waits for


class Aside(Generic[P, T]):
    """One kind of work, once at a time: what hangs costs one thread, not one per question."""

    def __init__(self, work: Callable[P, T]) -> None:
        self._work: Final = work
        self._running: asyncio.Future[T] | None = None
        self._of: tuple[object, object] = ((), {})  # what it was asked of: its arguments
        self._given_up = False

    @property
    def hangs(self) -> bool:
        """Somebody gave it up, and it has not come to an end since."""
        return self._given_up and self._running is not None and not self._running.done()

    async def within(self, seconds: float, /, *args: P.args, **kwargs: P.kwargs) -> T | None:
        """What it gives; None when that takes longer. Who asks the same while it is under way shares it, who asks
        something else waits for its end first.

        Raises what it raises.
        """
        loop, of = asyncio.get_running_loop(), (args, kwargs)
        until = loop.time() + seconds
        while True:
            running = self._running
            if running is None or running.done():
                running = self._running = in_a_thread(lambda: self._work(*args, **kwargs))
                self._of, self._given_up = of, False
            mine = self._of == of
            await asyncio.wait({running}, timeout=max(until - loop.time(), 0.0))
            if not running.done():
                self._given_up = True
                return None
            if mine:
                return running.result()


def in_a_thread(work: Callable[[], T]) -> "asyncio.Future[T]":
    """Its result, in a thread that hal0 does not wait for when it ends."""
    future = asyncio.get_running_loop().run_in_executor(_OWN_THREADS, work)
    future.add_done_callback(_read)
    return future


def _read(future: "asyncio.Future[Any]") -> None:
    if not future.cancelled():
        future.exception()  # everybody may have left: an unread failure is no warning


class OneThread(Executor):
    """Everything in the order asked for, in one thread that hal0 does not wait for when it ends."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._begun = False

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> "Future[T]":
        future: Future[T] = Future()
        if not self._begun:
            threading.Thread(target=self._run, name=self._name, daemon=True).start()
            self._begun = True  # a machine that has no thread left now may have one later
        self._queue.put(lambda: _carry_out(future, lambda: fn(*args, **kwargs)))
        return future

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = False) -> None:
        """It ends when everything is done; nothing may be submitted any more, and nobody waits."""
        self._queue.put(None)

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            work()


class _OwnThreads(Executor):
    """A thread for each piece of work."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> "Future[T]":
        future: Future[T] = Future()
        work = (future, lambda: fn(*args, **kwargs))
        threading.Thread(target=_carry_out, args=work, name=ASIDE, daemon=True).start()
        return future


def _carry_out(future: "Future[T]", work: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work()
    except BaseException as error:  # whatever it is belongs to whoever waits
        future.set_exception(error)
    else:
        future.set_result(result)


_OWN_THREADS: Final = _OwnThreads()
