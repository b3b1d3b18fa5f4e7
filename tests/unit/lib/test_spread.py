"""Long work in short steps: one of them in each turn, in the order in which the work came."""

import asyncio
from functools import partial

from hal0.lib.spread import spread


async def test_all_of_it_is_done_in_order_and_others_have_their_turns() -> None:
    done, turns = bytearray(), 0
    data = bytes(range(256)) * 400

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    def work(piece: bytes) -> None:
        done.extend(piece)
        until = time() + 0.003  # more than a step may take
        while time() < until:
            pass

    time = asyncio.get_running_loop().time
    task = asyncio.create_task(others())
    await spread(work, data)
    task.cancel()
    assert done == data
    assert turns >= 24  # one after each piece but the first


async def test_however_many_have_such_work_one_of_them_steps_in_a_turn() -> None:
    turn, steps = 0, []

    async def count() -> None:
        nonlocal turn
        while True:
            await asyncio.sleep(0)
            turn += 1

    def slow(name: str, _piece: bytes) -> None:
        steps.append((turn, name))
        until = time() + 0.003
        while time() < until:
            pass

    time = asyncio.get_running_loop().time
    counting = asyncio.create_task(count())
    await asyncio.gather(*(spread(partial(slow, name), bytes(3 * 4096)) for name in "abcd"))
    counting.cancel()
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
