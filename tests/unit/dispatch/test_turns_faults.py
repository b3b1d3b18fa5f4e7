"""Turns at the real gate when loads fail, slots crash, and operators have other wishes."""

import asyncio

import pytest

from hal0.errors import Hal0Error
from hal0.vocab import Phase, Want
from tests.unit.dispatch.house import LOAD_S, PERMANENT, STOP_S, answers, house
from tests.vloop import until, virtual_time


@virtual_time
async def test_a_failed_load_is_told_to_its_own_waiters_only() -> None:
    h = house()
    h.failing = {"b"}
    first = h.send("a", 0.0, takes_s=0.5)
    failed = h.send("b", 1.0, 1.5)
    again = h.send("a", 6.5)
    served = await answers(failed)
    assert {answer.code for answer in served} == {"slot.load_failed"}
    assert all(PERMANENT.message in answer.error.message for answer in served if answer.error)
    assert {answer.code for answer in await answers(first, again)} == {None}


@virtual_time
async def test_an_unload_that_cannot_be_is_told_and_the_other_goes_on() -> None:
    h = house()
    h.stuck = Hal0Error("state.write_failed", "cannot unload slot a: its record cannot be written")
    first = h.send("a", 0.0, takes_s=0.5)
    (refused,) = await answers(h.send("b", 1.0))
    assert refused.code == "state.write_failed"
    (served,) = await answers(h.send("a", 1.0))
    assert (served.code, served.waited_s) == (None, 0.0)
    await answers(first)


@virtual_time
async def test_a_mistake_in_a_switch_lets_nobody_wait() -> None:
    h = house()
    h.stuck = ZeroDivisionError()  # type: ignore[assignment]
    first = h.send("a", 0.0, takes_s=0.5)
    (refused,) = await answers(h.send("b", 1.0))
    assert refused.code == "system.internal"
    await answers(first, h.send("a", 1.0))


@virtual_time
async def test_a_pinned_slot_makes_no_way_and_the_refusal_says_why() -> None:
    h = house()
    h["a"].become(pinned=True)
    first = h.send("a", 0.0)
    (refused,) = await answers(h.send("b", 5.0))
    assert (refused.code, refused.error and refused.error.details["cause"]) == (
        "slot.load_failed",
        "slot.memory_budget",
    )
    assert h.switched == []
    await answers(first)


@virtual_time
async def test_a_slot_that_is_pinned_when_its_turn_is_over_stays_and_takes_requests() -> None:
    h = house()
    long = h.send("a", 0.0, takes_s=100.0)
    asking = h.send("b", 5.0)
    late = h.send("a", 40.0)
    await asyncio.sleep(50.0)
    h["a"].become(pinned=True)
    (served,) = await answers(late)
    assert served.waited_s == pytest.approx(10.0, abs=0.1)
    assert [answer.code for answer in await answers(asking, long)] == ["slot.load_failed", None]


@virtual_time
async def test_an_operator_who_unloads_the_other_shortens_the_wait() -> None:
    h = house()
    first = h.send("a", 0.0, takes_s=0.5)
    asking = h.send("b", 4.0)
    await asyncio.sleep(4.1)
    h.unload("a")
    (served,) = await answers(asking)
    assert served.waited_s == pytest.approx(0.1 + STOP_S + LOAD_S, abs=0.1)
    assert h.switched == []
    await answers(first)


@virtual_time
async def test_an_operator_who_loads_a_third_is_not_undone_at_once() -> None:
    h = house("a", "b", "c", fits=lambda slots: len(slots) <= 1 or slots == {"a", "c"})
    long = h.send("a", 0.0, takes_s=40.0)
    asking = h.send("b", 5.0)
    await asyncio.sleep(42.0)  # b's turn: a has one request left
    h["c"].request_load()
    await asyncio.sleep(LOAD_S + 1.9)
    assert h["c"].snapshot().phase is Phase.READY
    (served,) = await answers(asking)
    assert served.code is None
    assert h.switched == [("b", {"a", "c"})]
    await answers(long)


@virtual_time
async def test_a_cancelled_load_is_told_and_the_turn_is_over() -> None:
    h = house()
    first = h.send("a", 0.0, takes_s=0.5)
    asking = h.send("b", 4.0)
    await until(lambda: h["b"].snapshot().phase is Phase.WARMING, within_s=20.0)
    await asyncio.sleep(0.1)
    h.unload("b")
    assert [answer.code for answer in await answers(asking)] == ["slot.load_cancelled"]
    (served,) = await answers(h.send("a", 0.0))
    assert served.waited_s == pytest.approx(STOP_S + LOAD_S, abs=0.1)
    await answers(first)


@virtual_time
async def test_who_was_held_for_a_load_that_came_is_not_told_that_it_was_cancelled() -> None:
    h = house(max_wait_s=10.0)
    h["a"].become(max_inflight=1)
    queue = h.send("a", *[0.0] * 6, takes_s=5.0)
    others = h.send("b", 4.0)
    assert {answer.code for answer in await answers(queue, others)} == {None}
    assert h.loads == ["a", "b", "a"]


@virtual_time
async def test_a_crash_of_the_one_that_serves_is_not_the_end_of_its_turn() -> None:
    h = house()
    busy = h.send("a", *(n * 0.5 for n in range(40)))
    other = h.send("b", 5.0)
    await asyncio.sleep(8.0)
    h.crash("a")
    served = await answers(busy, other)
    assert {answer.code for answer in served} == {None}
    assert h.loads[:3] == ["a", "a", "b"]


@virtual_time
async def test_a_slot_that_is_forgotten_and_placed_anew_is_seen_as_it_is() -> None:
    h = house()
    first = h.send("a", 0.0, takes_s=0.5)
    asking = h.send("b", 3.6)
    await asyncio.sleep(3.7)
    h["a"].become(phase=Phase.OFFLINE, want=Want.UNLOADED, endpoint=None, ready_at=None)
    (served,) = await answers(asking)
    assert served.waited_s == pytest.approx(0.1 + LOAD_S, abs=0.1)
    await answers(first)


@virtual_time
async def test_the_gate_can_be_closed_in_the_middle() -> None:
    h = house()
    long = h.send("a", 0.0, takes_s=60.0)
    asking = h.send("b", 4.0)
    await asyncio.sleep(50.0)
    await h.gate.close()
    for one in asking:
        one.cancel()
    await answers(long)


@virtual_time
async def test_how_many_wait_is_told_to_the_slot() -> None:
    h = house()
    long = h.send("a", 0.0, takes_s=10.0)
    await answers(h.send("b", 4.0, 5.0), long)
    assert h["b"].queues == [1, 2, 1, 0]
    assert h["a"].queues == [1, 0]
