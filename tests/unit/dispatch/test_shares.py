"""Turns are shared among callers, not among the slots that they want."""

import asyncio

from hal0.dispatch.shares import Shares
from hal0.vocab import SlotName
from tests.unit.dispatch.house import House, house
from tests.vloop import virtual_time

A, B, C, D = map(SlotName, "abcd")


def test_the_slots_of_one_caller_come_one_after_the_other() -> None:
    shares = Shares()
    assert shares.of({A: {"x": 1.0}, B: {"x": 2.0}, C: {"x": 3.0}, D: {"y": 4.0}}) == {A: 0, B: 1, C: 2, D: 0}
    shares.turn(0, ["x"])
    assert shares.of({B: {"x": 2.0}, C: {"x": 3.0}, D: {"y": 4.0}}) == {B: 1, C: 2, D: 0}
    shares.turn(0, ["y"])
    assert shares.of({B: {"x": 2.0}, C: {"x": 3.0}, D: {"y": 9.0}}) == {B: 1, C: 2, D: 1}


def test_a_slot_has_the_share_of_whoever_is_next() -> None:
    assert Shares().of({A: {"x": 1.0}, B: {"x": 2.0, "y": 3.0}}) == {A: 0, B: 0}


def test_who_was_away_has_saved_nothing_up() -> None:
    shares = Shares()
    for share in range(5):
        shares.turn(share, ["x"])
    assert shares.of({A: {"x": 1.0}, B: {"new": 2.0}, C: {"new": 3.0}}) == {A: 5, B: 4, C: 5}


def test_what_it_remembers_is_bounded_by_who_is_there() -> None:
    shares = Shares()
    for n in range(100):
        shares.turn(n, [f"key{n}"])
    assert len(shares._had) == 1


async def keeps_asking(h: House, name: str, key: str) -> None:
    while True:
        await h.ask(name, key=key)
        await asyncio.sleep(1.5)  # long enough for its slot to make way


@virtual_time
async def test_who_wants_many_slots_gets_no_more_turns_than_who_wants_one() -> None:
    h = house(*"abcd", max_wait_s=300.0)
    asking = [asyncio.create_task(keeps_asking(h, name, "greedy")) for name in "abc"]
    asking.append(asyncio.create_task(keeps_asking(h, "d", "modest")))
    await asyncio.sleep(600.0)
    for one in asking:
        one.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    modest = h.order.count("d")
    assert 0.4 < modest / len(h.order) < 0.6
    assert min(h.order.count(name) for name in "abc") > 0.1 * len(h.order)  # and nobody starves
    await asyncio.sleep(300.0)
