"""The bus: nothing lost between snapshot and stream, slow listeners are reset, publishers never wait."""

import asyncio
import tracemalloc
from typing import Any

import pytest

from hal0.events.bus import LISTENER_CAPACITY, RING_BYTES, RING_CAPACITY, Bus, Event, Reset, Topic
from hal0.lib.jsonio import dumps
from tests.vloop import virtual_time


class Entities:
    """The values a bus announces, with the snapshot that belongs to them."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, Any]] = {}
        self.bus = Bus(self.snapshot)

    def snapshot(self) -> list[Event]:
        return [Event(Topic.SLOT, name, value) for name, value in self.values.items()]

    def set(self, name: str, value: int) -> None:
        self.values[name] = {"n": value}
        self.bus.publish(Topic.SLOT, name, self.values[name])


def numbers(events: list[Event | Reset]) -> list[int | None]:
    """The announced values; None stands for a reset."""
    return [event.value["n"] if isinstance(event, Event) and event.value else None for event in events]


@virtual_time
async def test_a_new_listener_gets_snapshots_then_everything_after() -> None:
    entities = Entities()
    entities.set("primary", 1)
    async with entities.bus.listen() as listening:
        assert numbers(listening.first) == [1]
        entities.set("primary", 2)
        entities.set("embed", 3)
        assert numbers(await listening.next()) == [2]
        assert numbers(await listening.next()) == [3]


@virtual_time
async def test_a_returning_listener_gets_exactly_what_it_missed() -> None:
    entities = Entities()
    for n in range(1, 6):
        entities.set("primary", n)
    async with entities.bus.listen(after=3) as listening:
        assert numbers(listening.first) == [4, 5]
        assert [event.seq for event in listening.first] == [4, 5]
    async with entities.bus.listen(after=5) as listening:
        assert listening.first == []


@pytest.mark.parametrize("after", [0, 999_999])
@virtual_time
async def test_a_listener_from_too_long_ago_or_another_boot_is_reset(after: int) -> None:
    entities = Entities()
    for n in range(RING_CAPACITY + 2):
        entities.set("primary", n)
    async with entities.bus.listen(after=after) as listening:
        assert listening.first[0] == Reset(entities.bus.last_seq)
        assert numbers(listening.first[1:]) == [RING_CAPACITY + 1]


@virtual_time
async def test_what_is_kept_is_bounded_in_bytes_as_well() -> None:
    entities, large = Entities(), {"n": 1, "text": "x" * (RING_BYTES // 10)}
    for _ in range(30):
        entities.bus.publish(Topic.SLOT, "primary", large)
    async with entities.bus.listen(after=22) as listening:
        assert numbers(listening.first) == [1] * 8
    async with entities.bus.listen(after=10) as listening:
        assert listening.first == [Reset(30)]
    entities.bus.publish(Topic.SLOT, "primary", {"n": 2, "text": "x" * RING_BYTES})
    async with entities.bus.listen(after=30) as listening:
        assert listening.first == [Reset(31)], "what does not fit at all is not kept"


@virtual_time
async def test_what_nobody_listens_to_is_not_looked_at_and_whoever_comes_back_is_told() -> None:
    entities = Entities()
    entities.set("primary", 1)
    entities.bus.announce(Topic.SLOT, "primary", lambda: pytest.fail("nobody listens"))
    async with entities.bus.listen(after=1) as listening:
        assert listening.first[0] == Reset(2)
        entities.bus.announce(Topic.SLOT, "primary", lambda: {"n": 3})
        assert numbers(await listening.next()) == [3]
    async with entities.bus.listen(after=2) as listening:
        assert numbers(listening.first) == [3]


def test_what_is_kept_takes_no_more_memory_than_its_bytes() -> None:
    bus, count = Bus(list), 500
    value = {f"member{n}": "x" * 20 for n in range(30)}
    tracemalloc.start()
    try:
        for n in range(count):
            bus.publish(Topic.SLOT, "primary", {**value, "n": n})
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken / count < len(dumps(value)) + 300


@virtual_time
async def test_a_slow_listener_is_reset_and_ends_up_with_the_last_value() -> None:
    entities = Entities()
    async with entities.bus.listen() as listening:
        for n in range(LISTENER_CAPACITY + 10):
            entities.set("primary", n)
        first, *rest = await listening.next()
        assert first == Reset(LISTENER_CAPACITY + 10)
        assert numbers(rest) == [LISTENER_CAPACITY + 9]
        entities.set("primary", -1)
        assert numbers(await listening.next()) == [-1]


@virtual_time
async def test_a_full_but_not_overrun_listener_loses_nothing() -> None:
    entities = Entities()
    async with entities.bus.listen() as listening:
        for n in range(LISTENER_CAPACITY):
            entities.set("primary", n)
        seen = [numbers(await listening.next()) for _ in range(LISTENER_CAPACITY)]
    assert seen == [[n] for n in range(LISTENER_CAPACITY)]


@virtual_time
async def test_a_listener_that_left_costs_nothing_and_hears_nothing() -> None:
    entities = Entities()
    async with entities.bus.listen() as gone:
        pass
    for n in range(LISTENER_CAPACITY * 2):
        entities.set("primary", n)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(60):
            await gone.next()


@virtual_time
async def test_an_entity_that_is_gone_is_announced_as_none() -> None:
    entities = Entities()
    async with entities.bus.listen() as listening:
        entities.bus.publish(Topic.JOB, "j1", None)
        assert await listening.next() == [Event(Topic.JOB, "j1", None, 1)]
