"""What is news: a table of changes, and the feed that reads them off the event stream."""

import asyncio
from typing import Any

import pytest

from hal0.events.bus import Bus, Event, Topic
from hal0.lib.clock import SteadyClock
from hal0.observe.activity import Activity, over, told
from hal0.observe.live import Feed, LiveDecisions
from tests.fakes.slots import settled
from tests.unit.observe.records import record


def slot(state: str, model: str = "m", **members: Any) -> dict[str, Any]:
    return {"state": state, "model": model, "message": "why", "desired": {"by": "operator"}, **members}


def job(state: str, **members: Any) -> dict[str, Any]:
    return {
        "kind": "swap",
        "target": "primary",
        "state": state,
        "error": None,
        "note": None,
        "by": "request",
        **members,
    }


CHANGES: list[tuple[str, Any, Any, tuple[str, str] | None]] = [
    ("slot", None, slot("offline"), ("slot.created", "slot x was created")),
    ("slot", slot("offline"), slot("starting"), ("slot.loading", "slot x loads m")),
    ("slot", slot("starting"), slot("warming"), None),
    ("slot", slot("warming"), slot("ready"), ("slot.ready", "slot x is ready with m")),
    ("slot", slot("ready"), slot("serving"), None),
    ("slot", slot("serving"), slot("idle"), None),
    ("slot", slot("ready"), slot("ready", "n"), ("slot.swapped", "slot x has n instead of m")),
    ("slot", slot("idle"), slot("unloading"), ("slot.unloading", "slot x unloads m")),
    ("slot", slot("unloading"), slot("offline"), ("slot.offline", "slot x is offline")),
    ("slot", slot("ready"), slot("error"), ("slot.failed", "slot x failed: why")),
    ("slot", slot("offline"), None, ("slot.deleted", "slot x was deleted")),
    ("job", job("running"), job("done"), ("job.done", "the swap of primary is done")),
    (
        "job",
        None,
        job("failed", error={"message": "no room"}),
        ("job.failed", "the swap of primary is failed: no room"),
    ),
    ("job", job("done"), job("done"), None),
    ("job", None, job("running"), None),
    ("upstream", slot("online"), slot("offline"), ("upstream.offline", "upstream x: why")),
    ("upstream", slot("online"), slot("online"), None),
    ("upstream", slot("online"), None, ("upstream.deleted", "upstream x was deleted")),
    ("image", None, slot("ready"), None),
]


@pytest.mark.parametrize(("topic", "before", "after", "news"), CHANGES)
def test_news(topic: str, before: Any, after: Any, news: tuple[str, str] | None) -> None:
    entry = told(topic, "x", before, after, 1.5)
    assert (None if entry is None else (entry.kind, entry.message)) == news
    assert entry is None or entry.at == 1.5


@pytest.mark.parametrize(
    ("topic", "value", "ends"),
    [
        ("job", job("running"), False),
        ("job", job("interrupted"), True),
        ("slot", slot("offline"), False),
        ("slot", None, True),
    ],
)
def test_of_jobs_that_ended_nothing_is_remembered(topic: str, value: Any, ends: bool) -> None:
    assert over(topic, value) is ends


async def test_the_feed_tells_what_changes_after_the_beginning_in_order() -> None:
    bus, noted = Bus(lambda: [Event(Topic.SLOT, "x", slot("offline"))]), list[Activity]()
    feed = Feed(bus, [noted.append], SteadyClock(asyncio.get_running_loop()))
    following = asyncio.create_task(feed.follow())
    await settled(lambda: bus.wanted(Topic.SLOT))
    async with bus.listen(topics=frozenset({Topic.ACTIVITY})) as listening:
        assert listening.first == [], "happenings are in no snapshot"
        for state in ("starting", "warming", "ready"):
            bus.publish(Topic.SLOT, "x", slot(state))
        await settled(lambda: len(noted) == 2)
        feed.say("key.made", "laptop", "a key")
        assert [entry.kind for entry in noted] == ["slot.loading", "slot.ready", "key.made"]
        assert len({entry.id for entry in noted}) == 3
        (first,) = await listening.next()
        assert isinstance(first, Event)
        assert first.value is not None
        assert (first.id, first.value["kind"]) == (str(noted[0].id), "slot.loading")
    following.cancel()


async def test_decisions_are_announced_only_to_those_who_ask() -> None:
    bus = Bus(list)
    live = LiveDecisions(bus)
    async with bus.listen():
        live([record("a")])
    assert bus.last_seq == 0


async def test_of_a_crowd_the_failed_ones_are_shown_and_the_rest_is_counted() -> None:
    bus = Bus(list)
    live = LiveDecisions(bus)
    async with bus.listen(topics=frozenset({Topic.DECISION})) as listening:
        live([record(f"r{n}", status=503 if n == 3 else 200) for n in range(100)])
        shown = [event for _ in range(16) for event in await listening.next() if isinstance(event, Event)]
        values = [event.value or {} for event in shown]
        assert [event.id for event in shown] == ["r3", *(f"r{n}" for n in range(85, 100))]
        assert [value["left_out"] for value in values[:3]] == [3, 81, 0]
        assert str(values[0]["summary"]).endswith("primary answered 503 after 2 ms.")
        live([record("next")])
        (event,) = await listening.next()
        assert isinstance(event, Event)
        assert (event.value or {})["left_out"] == 0
