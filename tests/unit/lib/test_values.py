"""Ring, clock and JSON codec."""

import asyncio
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal0.lib.clock import SteadyClock, SystemClock, iso
from hal0.lib.jsonio import JSONDecodeError, dumps, dumps_pretty, loads
from hal0.lib.ring import Ring
from tests.vloop import virtual_time


@given(capacity=st.integers(1, 20), items=st.integers(0, 60), seen=st.integers(0, 70))
def test_a_ring_gives_exactly_what_came_since_or_says_that_it_forgot(capacity: int, items: int, seen: int) -> None:
    ring: Ring[int] = Ring(capacity)
    assert [ring.append(n) for n in range(1, items + 1)] == list(range(1, items + 1))
    assert len(ring) == min(items, capacity)
    assert list(ring) == list(range(max(1, items - capacity + 1), items + 1))
    known = items - capacity <= seen <= items
    assert ring.since(seen) == ([(n, n) for n in range(seen + 1, items + 1)] if known else None)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_700_000_000.1239, "2023-11-14T22:13:20.123Z"),
        (951_782_400, "2000-02-29T00:00:00.000Z"),
    ],
)
def test_times_on_the_wire_are_utc_with_milliseconds(seconds: float, text: str) -> None:
    assert iso(seconds) == text


def test_the_system_clock_is_the_time_of_day() -> None:
    before = time.time()
    assert before <= SystemClock().now() <= time.time()


@virtual_time
async def test_the_steady_clock_moves_with_the_loop_from_the_time_of_day() -> None:
    clock = SteadyClock(asyncio.get_running_loop())
    before = clock.now()
    assert before == pytest.approx(time.time(), abs=5)
    await asyncio.sleep(3600)
    assert clock.now() - before == pytest.approx(3600)


@given(st.recursive(st.none() | st.booleans() | st.text() | st.integers(-(2**53), 2**53), st.lists))
def test_json_survives_a_round_trip(value: Any) -> None:
    assert loads(dumps(value)) == value
    assert loads(dumps_pretty(value)) == value


def test_json_for_people_is_indented_and_ends_its_line() -> None:
    assert dumps_pretty({"a": [1]}) == b'{\n  "a": [\n    1\n  ]\n}\n'
    assert dumps({"a": [1]}) == b'{"a":[1]}'


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"NaN", b"{} x"])
def test_what_is_not_json_is_a_value_error(data: bytes) -> None:
    with pytest.raises(JSONDecodeError):
        loads(data)
    assert issubclass(JSONDecodeError, ValueError)
