"""A body that does not come: its client is told, however it goes about it."""

import asyncio
from typing import cast

import pytest
from aiohttp import StreamReader

from hal0.dispatch.peek import Incoming
from hal0.errors import Hal0Error
from tests.vloop import virtual_time


class Slow:
    """Gives so many bytes, each time after so many seconds."""

    def __init__(self, piece: int, every_s: float, times: int) -> None:
        self._piece, self._every_s, self._times = piece, every_s, times

    async def readany(self) -> bytes:
        await asyncio.sleep(self._every_s)
        self._times -= 1
        return bytes(self._piece) if self._times >= 0 else b""


async def took(slow: Slow) -> int:
    """How many bytes came. Raises as `next`."""
    incoming, size = Incoming(cast("StreamReader", slow)), 0
    while piece := await incoming.next():
        size += len(piece)
    return size


@virtual_time
async def test_one_that_stops_is_not_waited_for() -> None:
    with pytest.raises(Hal0Error, match="it stopped for 60 s"):
        await took(Slow(1, 61, 1))


@virtual_time
async def test_one_that_drips_has_an_end() -> None:
    began = asyncio.get_running_loop().time()
    with pytest.raises(Hal0Error, match="bytes came of it") as raised:
        await took(Slow(100, 1, 10**9))
    assert raised.value.code == "request.invalid"
    assert asyncio.get_running_loop().time() - began < 130


@virtual_time
async def test_a_slow_line_is_none_that_drips() -> None:
    assert await took(Slow(2048, 1, 3600)) == 2048 * 3600
    assert await took(Slow(100, 50, 1)) == 100
