"""How long a download waits for a server, and that hal0's own limit is no silence of it."""

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hal0.errors import Hal0Error
from hal0.pulls.meter import Throttle
from hal0.pulls.spans import Span
from hal0.pulls.transfer import Patience, Transfer
from hal0.pulls.verdicts import Again
from tests.vloop import virtual_time

PIECE = b"x" * 65536


class _Pieces:
    def __init__(self, count: int) -> None:
        self.left = count

    async def readany(self) -> bytes:
        self.left -= 1
        return PIECE if self.left >= 0 else b""


@virtual_time
async def test_a_server_that_says_nothing_is_given_up() -> None:
    patience = Patience(limit_s=120.0)
    await asyncio.sleep(60)
    await patience.pause(Again("the connection ended early"), 1.0)
    await asyncio.sleep(60)
    with pytest.raises(Hal0Error, match="for 120 s nothing came"):
        await patience.pause(Again("the connection ended early"), 1.0)


@virtual_time
async def test_a_limit_of_a_few_bytes_a_second_outlasts_no_patience(tmp_path: Path) -> None:
    """One piece waits for eleven minutes: neither this range nor another one gives up meanwhile, nor just after."""
    patience, arrived = Patience(limit_s=120.0), list[int]()
    asker: Any = None
    transfer = Transfer(asker, [Throttle(lambda: 100)], arrived.append)
    answer: Any = SimpleNamespace(content=_Pieces(1))
    fd = os.open(tmp_path / "part", os.O_RDWR | os.O_CREAT)
    try:
        pouring = asyncio.create_task(transfer._pour(answer, Span(0, 0, 1 << 20), fd, patience))
        await asyncio.sleep(300)
        await patience.pause(Again("the connection ended early"), 1.0)
        await pouring
        await patience.pause(Again("the connection ended early"), 1.0)
    finally:
        os.close(fd)
    assert arrived == [len(PIECE)]
