"""A line is everybody's: nobody keeps others out by filling it, on virtual time at the real gate."""

import asyncio
from collections import Counter

import pytest

from hal0.vocab import Phase, SlotName
from tests.unit.dispatch.house import Answer, House, answers, house
from tests.vloop import virtual_time


def full_house(*, max_inflight: int = 1, queue_limit: int = 4) -> House:
    h = house("a")
    h["a"].become(max_inflight=max_inflight, queue_limit=queue_limit)
    return h


def by_key(asked: dict[str, list["asyncio.Task[Answer]"]]) -> dict[str, Counter[str | None]]:
    return {key: Counter(task.result().code for task in tasks) for key, tasks in asked.items()}


@virtual_time
async def test_a_full_line_takes_in_whoever_has_fewer_places_than_another() -> None:
    h = full_house()
    greedy = h.send("a", *(n * 0.01 for n in range(5)), takes_s=5.0, key="greedy")
    modest = h.send("a", 1.0, 1.1, takes_s=0.1, key="modest")
    late = h.send("a", 1.2, takes_s=0.1, key="modest")
    await answers(greedy, modest, late)
    # One is under way beside the line of four: it is halved, and not more than that.
    assert by_key({"greedy": greedy, "modest": modest, "late": late}) == {
        "greedy": Counter({None: 3, "slot.queue_full": 2}),
        "modest": Counter({None: 2}),
        "late": Counter({"slot.queue_full": 1}),
    }
    assert [task.result().code for task in greedy] == [None] * 3 + ["slot.queue_full"] * 2  # the newest had to go
    gone = greedy[-1].result()
    assert gone.waited_s == pytest.approx(0.96)
    assert gone.error is not None
    assert gone.error.body()["error"]["details"]["limit"] == 4
    assert h.gate.waiting(SlotName("a")) == 0


@virtual_time
async def test_whoever_is_alone_has_the_whole_line() -> None:
    h = full_house()
    alone = h.send("a", *(n * 0.01 for n in range(6)), takes_s=1.0, key="alone")
    await answers(alone)
    assert by_key({"alone": alone}) == {"alone": Counter({None: 5, "slot.queue_full": 1})}
    assert alone[-1].result().waited_s == 0.0


@virtual_time
async def test_nobody_loses_a_place_to_one_who_would_not_wait() -> None:
    h = full_house()
    greedy = h.send("a", *(n * 0.01 for n in range(5)), key="greedy")
    hurried = h.send("a", 1.0, patience_s=0.0, key="hurried")
    await answers(greedy, hurried)
    assert by_key({"greedy": greedy, "hurried": hurried}) == {
        "greedy": Counter({None: 5}),
        "hurried": Counter({"slot.queue_full": 1}),
    }


@virtual_time
async def test_a_line_for_a_load_is_shared_in_the_same_way() -> None:
    h = full_house(queue_limit=3)
    greedy = h.send("a", *(n * 0.01 for n in range(4)), key="greedy")
    others = [one for n in range(3) for one in h.send("a", 0.5 + n * 0.1, key=f"other{n}")]
    await asyncio.sleep(0.9)
    assert h["a"].snapshot().phase is Phase.WARMING
    assert h.gate.waiting(SlotName("a")) == 4
    await answers(greedy, others)
    assert by_key({"greedy": greedy, "others": others}) == {
        "greedy": Counter({None: 1, "slot.queue_full": 3}),
        "others": Counter({None: 3}),
    }
