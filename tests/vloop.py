"""An event loop on virtual time: hours of timers in a tenth of a second, and a clear failure instead of a hang.

`virtual(coro)` runs one scenario; `@virtual_time` turns an async test into one that runs this way. When nothing is
ready the loop's clock jumps to the next timer. Threads still work: while a thread's answer is outstanding the clock
stands still and the loop waits for real. A scenario in which nothing can ever happen again raises `Deadlock`.
"""

import asyncio
import functools
import selectors
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")

START: Final = 1_000.0  # a loop's clock starts anywhere but at zero, so nobody may take it for the time of day
EPOCH: Final = 1_700_000_000.0  # what the wall shows at START
THREAD_PATIENCE_S: Final = 30.0  # real seconds that a thread, or a peer behind a socket, may take to answer
JUMPS_LIMIT: Final = 2_000_000  # timers in one scenario: beyond it something rearms itself without end


class Deadlock(AssertionError):
    """Nothing is ready, no timer is set, no thread is at work: every task waits for another one."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """A selector loop whose clock moves only when there is nothing else to do."""

    def __init__(self) -> None:
        self._now = START
        self._threads = 0
        self._patient = _PatientSelector(self)
        super().__init__(self._patient)

    def time(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds

    @property
    def waits_for_threads(self) -> bool:
        return self._threads > 0

    @contextmanager
    def real_time(self) -> Iterator[None]:
        """The clock stands still inside: something outside this loop is at work."""
        self._threads += 1
        try:
            yield
        finally:
            self._threads -= 1

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> "asyncio.Future[T]":  # type: ignore[override]
        self._threads += 1
        future: asyncio.Future[T] = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._thread_done)
        return future

    def _thread_done(self, _: object) -> None:
        self._threads -= 1

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        with self.real_time():
            await super().shutdown_default_executor(*args, **kwargs)


class InlineLoop(VirtualLoop):
    """What is given to a thread is done at once, by the loop itself: no time passes, and no order depends on chance."""

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> "asyncio.Future[T]":  # type: ignore[override]
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future


class _PatientSelector(selectors.DefaultSelector):
    """Asks the real selector first; moves the loop's clock instead of sleeping."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop
        self._jumps = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and self._alone and not self._loop.waits_for_threads:
            self._jump(timeout)  # nobody could say anything: there is nothing to ask the system for
            return []
        if self._loop.waits_for_threads and timeout != 0:
            return self._wait_for_real("a thread")
        if (ready := super().select(0)) or timeout == 0:
            return ready
        if timeout is not None:
            self._jump(timeout)
            return []
        if not self._alone:  # a socket's peer may still speak
            return self._wait_for_real("a peer")
        raise Deadlock(f"nothing can happen any more; waiting:\n{_waiting(self._loop)}")

    @property
    def _alone(self) -> bool:
        """Nothing is open but the loop's own self-pipe."""
        return len(self.get_map()) == 1

    def _jump(self, seconds: float) -> None:
        if seconds == 0:
            return
        self._jumps += 1
        if self._jumps > JUMPS_LIMIT:
            raise Deadlock(f"{JUMPS_LIMIT} timers and no end; waiting:\n{_waiting(self._loop)}")
        self._loop.advance(seconds)

    def _wait_for_real(self, whom: str) -> list[tuple[selectors.SelectorKey, int]]:
        if ready := super().select(THREAD_PATIENCE_S):
            return ready
        raise Deadlock(f"{whom} has not answered for {THREAD_PATIENCE_S} s; waiting:\n{_waiting(self._loop)}")


def _waiting(loop: asyncio.AbstractEventLoop, but: object = None) -> str:
    """One line per task: its name and the innermost line it stands at."""
    lines = []
    for task in asyncio.all_tasks(loop) - {but}:
        frames = task.get_stack()
        where = f"{frames[-1].f_code.co_filename}:{frames[-1].f_lineno}" if frames else "not started"
        lines.append(f"  {task.get_name()} at {where}")
    return "\n".join(sorted(lines)) or "  (no tasks)"


class LoopClock:
    """A wall clock that follows the running loop's; `skew_s` moves the wall alone, as NTP or an operator does."""

    def __init__(self) -> None:
        self.skew_s = 0.0

    def now(self) -> float:
        return EPOCH - START + asyncio.get_running_loop().time() + self.skew_s


def virtual(coro: Coroutine[Any, Any, T], loop_factory: Callable[[], VirtualLoop] = VirtualLoop) -> T:
    """Run one scenario on virtual time; tasks it leaves behind fail it, and what no task caught is raised."""
    unhandled: list[dict[str, Any]] = []
    before = time.process_time()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        loop = runner.get_loop()
        loop.set_exception_handler(lambda _, context: unhandled.append(context))
        result = runner.run(_alone(coro))
    if unhandled:
        raise AssertionError(f"nobody handled: {unhandled}") from unhandled[0].get("exception")
    assert time.process_time() - before < 600, "virtual time took more than ten minutes of the processor"
    return result


async def _alone(coro: Coroutine[Any, Any, T]) -> T:
    result = await coro
    await let_callbacks_run()
    me = asyncio.current_task()
    left = [task for task in asyncio.all_tasks() if task is not me]
    assert not left, f"tasks left behind:\n{_waiting(asyncio.get_running_loop(), me)}"
    return result


async def let_callbacks_run(rounds: int = 5) -> None:
    """Let everything that is ready now run, and what that makes ready; no time passes."""
    for _ in range(rounds):
        await asyncio.sleep(0)


def virtual_time(test: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Decorator: the async test runs on virtual time. Its fixtures must be plain ones (made outside the loop)."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        return virtual(test(*args, **kwargs))

    return run


async def until(condition: Callable[[], T], *, within_s: float, every_s: float = 0.01) -> T:
    """Wait on the loop's clock until `condition()` is true, and return its value; AssertionError after `within_s`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while not (value := condition()):
        if loop.time() >= deadline:
            name = getattr(condition, "__qualname__", repr(condition))
            raise AssertionError(f"not within {within_s} s: {name}\n{_waiting(loop)}")
        await asyncio.sleep(every_s)
    return value
