"""The one thread that works the model, and the line in front of it."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from serving.errors import Refusal

P = ParamSpec("P")
R = TypeVar("R")


class Worker:
    """One thread: the runtime below spreads a single piece of work over all the cores by itself.

    A request is admitted once and may bring many pieces of work; pieces of several requests take turns.
    """

    def __init__(self, limit: int) -> None:
        """`limit`: requests at a time, those that wait included."""
        self._limit = limit
        self._admitted = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """A place in the line. Raises Refusal 503 when there is none."""
        if self._admitted >= self._limit:
            raise Refusal(503, f"busy: {self._limit} requests are here already", code="busy", retry_after_s=1)
        self._admitted += 1
        try:
            yield
        finally:
            self._admitted -= 1

    async def run(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Cancelled before its turn it never begins; cancelled later it ends unheard."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: call(*args, **kwargs))
