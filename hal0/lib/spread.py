"""Long work on the event loop, spread over its turns: of all such work there is one short step in each, and no more.

Stepping aside after every step is not enough where many have such work: each would step in every turn.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final
from weakref import WeakKeyDictionary

from hal0.lib.clock import stopwatch

_STEP_S: Final = 0.002
_PIECE_BYTES: Final = 4 * 1024  # what nobody has to look at the clock for


class OnePerLoop:
    """A lock of each event loop; who waits longest has it next."""

    def __init__(self) -> None:
        self._locks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()

    @property
    def here(self) -> asyncio.Lock:
        return self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())


_STEP: Final = OnePerLoop()


@asynccontextmanager
async def step() -> AsyncIterator[None]:
    """The block, which waits for nothing, is the one step of its turn."""
    async with _STEP.here:
        yield
        await asyncio.sleep(0)


async def spread(work: Callable[[bytes], object], data: bytes) -> None:
    """Do the work on all of the data, piece by piece."""
    if len(data) <= _PIECE_BYTES:
        work(data)
        return
    time, at = stopwatch(asyncio.get_running_loop()), 0
    while at < len(data):
        async with step():
            until = time() + _STEP_S
            while True:
                work(data[at : at + _PIECE_BYTES])
                at += _PIECE_BYTES
                if at >= len(data) or time() >= until:
                    break
