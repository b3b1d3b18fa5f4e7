"""Long work in short steps: one of them in each turn, in the order in which the work came."""

import asyncio
from collections.abc import Iterator
from functools import partial
from itertools import count

import pytest

from hal0.lib import spread as spreading
from hal0.lib.spread import spread


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every piece takes longer than a step may."""
    seconds: Iterator[float] = count(0.0, 0.003)
    monkeypatch.setattr(spreading, "stopwatch", lambda _loop: partial(next, seconds))


class Turns:
    """Counts those of the loop."""

    def __init__(self) -> None:
        self.number = 0
        self._task = asyncio.create_task(self._count())

    async def _count(self) -> None:
        while True:
            await asyncio.sleep(0)
            self.number += 1

    def stop(self) -> None:
        self._task.cancel()


@pytest.mark.usefixtures("slow")
async def test_all_of_it_is_done_in_order_and_others_have_their_turns() -> None:
    done, turns = bytearray(), Turns()
    data = bytes(range(256)) * 400
    await spread(done.extend, data)
    turns.stop()
    assert done == data
    assert turns.number >= 24  # one after each piece but the first


@pytest.mark.usefixtures("slow")
async def test_however_many_have_such_work_one_of_them_steps_in_a_turn() -> None:
    turns, steps = Turns(), []

    def work(name: str, _piece: bytes) -> None:
        steps.append((turns.number, name))

    await asyncio.gather(*(spread(partial(work, name), bytes(3 * 4096)) for name in "abcd"))
    turns.stop()
    assert len({turn for turn, _ in steps}) == len(steps) == 12
    assert [name for _, name in steps] == list("abcd" * 3)


async def test_who_is_given_up_amid_it_holds_up_nobody() -> None:
    def work(_piece: bytes) -> None:
        steps.append(1)

    steps: list[int] = []
    tasks = [asyncio.create_task(spread(work, bytes(1 << 20))) for _ in range(3)]
    await asyncio.sleep(0)
    for task in tasks[:2]:
        task.cancel()
    await tasks[2]
    assert len(steps) >= 256
