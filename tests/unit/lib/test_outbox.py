"""What is posted in one turn goes out at its end: in order, all of it, and to nobody who has closed."""

import asyncio
from typing import cast

from hal0.lib.outbox import Outbox


class Wire:
    """A transport that keeps what it was given."""

    def __init__(self, log: list[bytes]) -> None:
        self._log = log
        self.closed = False

    def is_closing(self) -> bool:
        return self.closed

    def write(self, data: bytes) -> None:
        self._log.append(data)


def wire(log: list[bytes]) -> asyncio.Transport:
    return cast("asyncio.Transport", Wire(log))


async def test_the_first_goes_at_once_and_the_rest_at_the_end_of_the_turn() -> None:
    log: list[bytes] = []
    outbox, one, other = Outbox(asyncio.get_running_loop()), wire(log), wire(log)
    for _ in range(2):
        for data, to in ((b"1", one), (b"2", other), (b"3", one)):
            outbox.post(to, data)
        asyncio.get_running_loop().call_soon(log.append, b"4")
        assert log == [b"1"]
        await asyncio.sleep(0)
        assert log == [b"1", b"2", b"3", b"4"]
        log.clear()


async def test_a_flush_sends_it_now_and_only_once() -> None:
    log: list[bytes] = []
    outbox, one = Outbox(asyncio.get_running_loop()), wire(log)
    outbox.post(one, b"1")
    outbox.post(one, b"2")
    outbox.flush()
    assert log == [b"1", b"2"]
    outbox.post(one, b"3")
    await asyncio.sleep(0)
    assert log == [b"1", b"2", b"3"]


async def test_who_has_closed_meanwhile_takes_nothing_and_holds_nobody_up() -> None:
    log: list[bytes] = []
    outbox, one, other = Outbox(asyncio.get_running_loop()), wire(log), wire(log)
    for data, to in ((b"1", one), (b"2", one), (b"3", other)):
        outbox.post(to, data)
    cast("Wire", one).closed = True
    await asyncio.sleep(0)
    assert log == [b"1", b"3"]
