"""Turns at the real gate, on virtual time: who waits, who goes in, and what is asked of the supervisor."""

import asyncio
from collections import Counter

import pytest

from hal0.config.dispatch import DispatchConfig
from hal0.vocab import Phase, SlotName
from tests.unit.dispatch.house import BOUND_S, LOAD_S, STOP_S, answers, house, pairs_but
from tests.vloop import until, virtual, virtual_time


@virtual_time
async def test_requests_are_collated_by_slot() -> None:
    h = house()
    sent = [one for n in range(5) for name in "ab" for one in h.send(name, n * 0.1 + (name == "b") * 0.05)]
    served = await answers(sent)
    assert {answer.code for answer in served} == {None}
    assert h.order == ["a"] * 5 + ["b"] * 5
    assert h.loads == ["a", "b"]
    assert h.switched == [("b", {"a"})]


@virtual_time
async def test_who_fits_beside_is_loaded_as_ever_and_nobody_is_asked_to_leave() -> None:
    h = house(fits=lambda _slots: True)
    served = await answers(h.send("a", 0.0, 0.1), h.send("b", 0.0, 0.1))
    assert [answer.waited_s for answer in served] == pytest.approx([LOAD_S, LOAD_S - 0.1] * 2)
    assert [answer.trace.turn_s for answer in served] == [0.0] * 4
    assert (h.switched, h["a"].loads, h["b"].loads) == ([], 1, 1)


@virtual_time
async def test_a_ready_slot_that_nobody_waits_for_asks_no_scheduler() -> None:
    h = house()
    await answers(h.send("a", 0.0))

    def never(_slots: frozenset[SlotName]) -> bool:
        raise AssertionError("the hot path asked whether slots fit")

    h.fits = never
    served = await answers(h.send("a", 0.0, 0.0, 5.0))
    assert [answer.waited_s for answer in served] == [0.0] * 3


@virtual_time
async def test_a_slot_keeps_its_turn_while_it_has_work_until_the_other_is_due() -> None:
    h = house()
    busy = h.send("a", *(n * 0.5 for n in range(160)))
    (first,) = await answers(h.send("b", 10.0))
    assert first.code is None
    assert BOUND_S - 5.0 < first.waited_s <= BOUND_S
    await answers(busy)
    assert h.loads == ["a", "b", "a"]


@virtual_time
async def test_nothing_that_is_under_way_is_cut_and_nobody_new_goes_in() -> None:
    h = house()
    long = h.send("a", 0.0, takes_s=100.0)
    late = h.send("a", 50.0)
    (served,) = await answers(h.send("b", 5.0))
    assert served.waited_s == pytest.approx(LOAD_S + 100.0 - 5.0 + STOP_S + LOAD_S, abs=0.1)
    await answers(long, late)
    assert h.order == ["a", "b", "a"]


@virtual_time
async def test_a_loaded_slot_has_its_residency_also_when_it_is_idle() -> None:
    h = house(min_residency_s=10.0)
    served = await answers(h.send("a", 0.0, takes_s=0.1), h.send("b", 1.0, takes_s=0.1))
    assert served[1].waited_s == pytest.approx(LOAD_S - 1.0 + 10.0 + STOP_S + LOAD_S, abs=0.1)
    assert served[1].trace.turn_s == pytest.approx(served[1].waited_s - STOP_S - LOAD_S, abs=0.1)


@pytest.mark.parametrize("every", [0.25, 0.9, 3.0])
def test_sustained_traffic_on_one_never_starves_the_other(every: float) -> None:
    async def story() -> None:
        h = house()
        busy = h.send("a", *(n * every for n in range(int(300 / every))))
        rare = h.send("b", 10.0, 11.0, 100.0, 170.0, 250.0)
        served = await answers(busy, rare)
        assert {answer.code for answer in served} == {None}
        assert max(answer.waited_s for answer in served) <= BOUND_S
        assert len(h.loads) <= 2 * 5 + 1

    virtual(story())


@virtual_time
async def test_three_that_all_want_the_memory_get_it_in_time() -> None:
    h = house("a", "b", "c")
    served = await answers(*(h.send(name, *(n * 0.5 for n in range(200)), takes_s=0.5) for name in "abc"))
    assert {answer.code for answer in served} == {None}
    assert max(answer.waited_s for answer in served) <= BOUND_S
    assert len(h.loads) <= 3 * 100 / 8


@virtual_time
async def test_who_does_not_stand_in_the_way_need_not_wait() -> None:
    h = house("a", "b", "c", fits=pairs_but("a", "b"))
    busy = h.send("a", *(n * 0.5 for n in range(60)))
    other = h.send("b", 5.0)
    (beside,) = await answers(h.send("c", 6.0))
    assert beside.waited_s == LOAD_S
    await answers(busy, other)
    assert h.switched[0] == ("b", {"a"})  # c stays


# -- the hold contract ----------------------------------------------------------------------------------------------


@virtual_time
async def test_waiting_for_a_turn_counts_against_the_hold() -> None:
    h = house()
    busy = h.send("a", *(n * 0.5 for n in range(40)))
    (refused,) = await answers(h.send("b", 5.0, hold_s=20.0))
    assert (refused.code, refused.waited_s) == ("slot.loading", 0.0)  # its turn would come too late for it
    assert refused.error is not None
    details = refused.error.body()["error"]["details"]
    assert 20.0 < details["retry_after_s"] <= BOUND_S
    assert (details["state"], details["position"]) == ("offline", 1)
    assert details["progress"]["phase"] == "waiting"
    await until(lambda: h["b"].snapshot().phase is Phase.READY, within_s=BOUND_S)  # and it comes all the same
    await answers(busy)


@virtual_time
async def test_who_was_sent_away_finds_the_slot_loaded_when_told_to_come_back() -> None:
    h = house()
    busy = h.send("a", *(n * 0.5 for n in range(120)))
    sent_away = 0
    while (answer := await h.ask("b", hold_s=1.0, patience_s=1.0)).error is not None:
        sent_away += 1
        await asyncio.sleep(answer.error.retry_after_s or 0.0)
    assert sent_away <= 2
    await answers(busy)


@virtual_time
async def test_a_hold_that_ends_while_the_last_requests_go_on_is_a_refusal() -> None:
    h = house(max_wait_s=8.0)
    long = h.send("a", 0.0, takes_s=200.0)
    (refused,) = await answers(h.send("b", 10.0, hold_s=60.0))
    assert refused.code == "slot.loading"
    assert refused.waited_s == pytest.approx(60.0)
    assert refused.trace.turn_s == pytest.approx(60.0)
    await answers(long)
    await until(lambda: h["b"].snapshot().phase is Phase.READY, within_s=10.0)


@virtual_time
async def test_a_longest_wait_that_was_made_longer_is_kept_as_well() -> None:
    h = house(max_wait_s=4.0)
    h.gate.apply(DispatchConfig(max_wait_s=BOUND_S, min_residency_s=2.0))
    busy = h.send("a", *(n * 0.5 for n in range(120)), takes_s=3.0)
    (served,) = await answers(h.send("b", 10.0))
    assert served.code is None
    assert served.waited_s <= BOUND_S
    await answers(busy)


@virtual_time
async def test_a_longest_wait_that_is_made_shorter_counts_for_who_waits_already() -> None:
    h = house(max_wait_s=300.0)
    long = h.send("a", 0.0, 1.0, takes_s=100.0)
    asking, late = h.send("b", 4.0), h.send("a", 25.0, takes_s=100.0)
    await asyncio.sleep(20.0)
    h.gate.apply(DispatchConfig(max_wait_s=10.0, min_residency_s=2.0))
    await asyncio.sleep(10.0)
    assert h.gate.waiting(SlotName("a")) == 1, "it is b's turn: nobody else goes in"
    await answers(asking, long, late)


@virtual_time
async def test_a_client_that_leaves_leaves_the_line_and_nobody_has_to_go_for_it() -> None:
    h = house()
    long = h.send("a", 0.0, takes_s=60.0)
    (asking,) = h.send("b", 4.0)
    late = h.send("a", 40.0)
    await asyncio.sleep(50.0)
    assert h.gate.waiting(SlotName("a")) == 1  # b's turn: nobody goes in
    asking.cancel()
    (served,) = await answers(late)
    assert served.code is None
    assert served.waited_s == pytest.approx(10.0, abs=0.1)
    await answers(long)
    assert (h.loads, h.switched) == (["a"], [])


@virtual_time
async def test_a_queue_for_room_outlives_a_turn_of_others() -> None:
    h = house(max_wait_s=15.0)
    h["a"].become(max_inflight=1)
    queue = h.send("a", *[0.0] * 12, takes_s=10.0, hold_s=60.0)
    others = h.send("b", *(20.0 * n for n in range(1, 6)))
    served = await answers(queue, others)
    assert {answer.code for answer in served} == {None}
    assert [answer.trace.queue_position for answer in served[:12]] == list(range(1, 13))


@virtual_time
async def test_limits_hold_also_for_those_who_wait_for_a_turn() -> None:
    h = house()
    h["b"].become(max_inflight=2, queue_limit=3)
    long = h.send("a", 0.0, takes_s=20.0)
    served = await answers(h.send("b", *[5.0] * 7))
    assert Counter(answer.code for answer in served) == {None: 5, "slot.queue_full": 2}
    waits = sorted(answer.waited_s for answer in served if answer.code is None)
    assert [round(wait - waits[0]) for wait in waits] == [0, 0, 1, 1, 2]  # two at a time
    await answers(long)


@virtual_time
async def test_a_greedy_caller_shares_the_line_with_a_modest_one() -> None:
    h = house()
    h["a"].become(max_inflight=1)
    greedy = h.send("a", *[0.0] * 40, key="greedy")
    modest = h.send("a", *[10.0] * 5, key="modest")
    served = await answers(modest)
    assert max(answer.waited_s for answer in served) <= 2 * 5
    await answers(greedy)
