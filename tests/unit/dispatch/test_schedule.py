"""Turns among slots that do not fit together, on plain numbers: few swaps, bounded waits, nobody cut, fair shares."""

import heapq
import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hal0.dispatch.schedule import next_at, position, step
from hal0.dispatch.turns import (
    Admit,
    Arrived,
    Decision,
    Drop,
    Ended,
    Event,
    Gone,
    LoadFailed,
    Ready,
    Request,
    Rules,
    Schedule,
    Switch,
    Tick,
)
from hal0.vocab import SlotName

A, B, C = SlotName("a"), SlotName("b"), SlotName("c")
LOAD_S: Final = 3.0
SIZES: Final = {A: 10, B: 10, C: 20}


def alone(slots: frozenset[SlotName]) -> bool:
    return len(slots) <= 1


def within(limit: int) -> Callable[[frozenset[SlotName]], bool]:
    return lambda slots: sum(SIZES[slot] for slot in slots) <= limit


def request(name: str, slot: SlotName, arrived: float = 0.0, key: str = "k") -> Request:
    return Request(name, slot, key, arrived)


class Machine:
    """Runs a schedule in virtual time: loads take LOAD_S, requests their own time. Checks what must never happen."""

    def __init__(self, rules: Rules, *, failing: frozenset[SlotName] = frozenset()) -> None:
        self.rules, self.failing = rules, failing
        self.state = Schedule()
        self.now = 0.0
        self.due: list[tuple[float, int, Event]] = []
        self.order = itertools.count()
        self.takes: dict[str, float] = {}
        self.arrived: dict[str, Request] = {}
        self.waits: dict[str, float] = {}
        self.went_in: list[str] = []
        self.dropped: list[str] = []
        self.loads: list[SlotName] = []
        self.up: set[SlotName] = set()

    def at(self, when: float, event: Event) -> None:
        heapq.heappush(self.due, (when, next(self.order), event))

    def send(self, requests: Iterable[tuple[float, SlotName, float]], *, key: str = "k") -> None:
        """Requests as (arrival, slot, seconds of service)."""
        for when, slot, takes in requests:
            name = f"{slot}{len(self.takes)}"
            self.takes[name] = takes
            self.at(when, Arrived(Request(name, slot, key, when)))

    def run(self, *, until: float = math.inf) -> None:
        while True:
            times = [t for t in (self.due[0][0] if self.due else None, self.tick()) if t is not None]
            if not times or min(times) > until:
                return
            self.now = min(times)
            happened = bool(self.due) and self.due[0][0] <= self.now
            self.happen(heapq.heappop(self.due)[2] if happened else Tick())

    def tick(self) -> float | None:
        return next_at(self.state, self.rules, self.now)

    def happen(self, event: Event) -> None:
        if isinstance(event, Arrived):
            self.arrived[event.request.id] = event.request
        if isinstance(event, Ready):
            self.up.add(event.slot)
            assert self.rules.fits(frozenset(self.up))
        self.state, decisions = step(self.state, event, self.rules, self.now)
        for decision in decisions:
            self.obey(decision)

    def obey(self, decision: Decision) -> None:
        match decision:
            case Admit(name):
                assert self.arrived[name].slot in self.up
                assert name not in self.waits
                self.waits[name] = self.now - self.arrived[name].arrived
                self.went_in.append(name)
                self.at(self.now + self.takes[name], Ended(name))
            case Drop(name):
                self.dropped.append(name)
            case Switch(load, unload):
                cut = [r.id for r in self.state.running.values() if r.slot in unload]
                assert cut == [], "a slot was unloaded under its requests"
                self.up -= set(unload)
                self.loads.append(load)
                failed = load in self.failing
                self.at(self.now + LOAD_S, LoadFailed(load) if failed else Ready(load))


HANDOVER: Final = {A: LOAD_S + 1.0, B: LOAD_S + 1.0, C: LOAD_S + 1.0}  # the load, and a second of work to end


def rules(**more: object) -> Rules:
    plain: Mapping[str, object] = {"fits": alone, "max_wait_s": 30.0, "min_residency_s": 2.0, "handover_s": HANDOVER}
    return Rules(**{**plain, **more})  # type: ignore[arg-type]


def test_fifty_mixed_requests_swap_no_more_often_than_they_come_in_bursts() -> None:
    machine = Machine(rules())
    bursts = 5
    for burst in range(bursts):
        machine.send((burst * 20.0 + n * 0.01, (A, B)[n % 2], 1.0) for n in range(10))
    machine.run()
    assert len(machine.waits) == 50
    assert len(machine.loads) - 1 <= bursts  # the first load swaps nobody out
    assert max(machine.waits.values()) <= 30.0


def test_requests_are_collated_by_slot_beyond_its_residency() -> None:
    machine = Machine(rules(room={A: 1, B: 1}))
    machine.send((n * 0.1, slot, 1.0) for n, slot in enumerate((A, B) * 5))
    machine.run()
    assert machine.went_in == ["a0", "a2", "a4", "a6", "a8", "b1", "b3", "b5", "b7", "b9"]


@pytest.mark.parametrize("every", [0.25, 0.9, 3.0])
def test_sustained_traffic_on_one_never_starves_the_other(every: float) -> None:
    machine = Machine(rules())
    machine.send((n * every, A, 1.0) for n in range(int(300 / every)))
    machine.send((t, B, 1.0) for t in (10.0, 11.0, 100.0, 170.0, 250.0))
    machine.run()
    assert len(machine.waits) == len(machine.takes)
    assert max(machine.waits.values()) <= 30.0
    assert len(machine.loads) <= 2 * 5 + 1


def test_sustained_traffic_on_all_shares_the_machine_in_time() -> None:
    machine = Machine(rules())
    for slot in (A, B, C):
        machine.send((n * 0.5, slot, 0.5) for n in range(400))
    machine.run()
    assert len(machine.waits) == 1200
    assert max(machine.waits.values()) <= 30.0
    assert len(machine.loads) <= 3 * 200 / 10  # turns are as long as the bound lets them be


def test_below_what_can_be_kept_residency_decides_and_all_are_served() -> None:
    machine = Machine(rules(max_wait_s=1.0))
    for slot in (A, B):
        machine.send((n * 0.5, slot, 0.5) for n in range(100))
    machine.run()
    assert len(machine.waits) == 200
    assert len(machine.loads) <= 2 + 50 / 2  # each turn lasts its residency at least


def test_a_load_is_kept_a_moment_for_more_of_its_kind() -> None:
    machine = Machine(rules(min_residency_s=5.0))
    machine.send([(0.0, A, 0.5), (0.1, B, 0.5), (5.0, A, 0.5)])
    machine.run()
    assert machine.went_in == ["a0", "a2", "b1"]
    assert machine.loads == [A, B]


def test_slots_that_fit_together_stay_together() -> None:
    machine = Machine(rules(fits=within(20)))
    machine.send((n * 0.5, (A, B)[n % 2], 1.0) for n in range(40))
    machine.run()
    assert machine.loads == [A, B]
    machine.send([(machine.now + 1, C, 1.0)])
    machine.run()
    assert (machine.loads[2:], machine.up) == ([C], {C})


def test_no_more_leave_than_must() -> None:
    machine = Machine(rules(fits=within(30)))
    machine.send([(0.0, A, 1.0), (5.0, B, 1.0), (20.0, C, 1.0)])
    machine.run()
    assert machine.up == {B, C}  # the one that was here longest made way, the other did not have to


def test_who_fits_beside_need_not_wait_for_who_does_not() -> None:
    machine = Machine(rules(fits=within(20)))
    machine.send((n * 0.5, A, 1.0) for n in range(40))
    machine.send([(4.0, C, 1.0), (5.0, B, 1.0)])
    machine.run()
    assert machine.waits["b41"] <= LOAD_S


def test_a_long_answer_is_waited_for() -> None:
    machine = Machine(rules())
    machine.send([(0.0, A, 500.0), (1.0, B, 1.0), (40.0, A, 1.0)])
    machine.run()
    assert machine.waits["b1"] == pytest.approx(503 - 1 + LOAD_S)
    assert machine.went_in == ["a0", "b1", "a2"]  # from its due time on nobody else goes in


def test_when_the_one_who_waits_gives_up_nobody_has_to_leave() -> None:
    machine = Machine(rules())
    machine.send([(0.0, A, 100.0), (1.0, B, 1.0), (40.0, A, 1.0)])
    machine.at(50.0, Ended("b1"))
    machine.run()
    assert (machine.loads, machine.waits["a2"]) == ([A], 10.0)


def test_a_failed_load_ends_its_own_waiters_only() -> None:
    machine = Machine(rules(), failing=frozenset({B}))
    machine.send([(0.0, A, 1.0), (0.5, B, 1.0), (0.6, B, 1.0), (9.0, A, 1.0)])
    machine.run()
    assert machine.dropped == ["b1", "b2"]
    assert machine.went_in == ["a0", "a3"]


def test_a_pinned_slot_makes_no_way_and_the_load_is_asked_for_as_it_is() -> None:
    machine = Machine(rules(pinned=frozenset({A})), failing=frozenset({B}))
    machine.send([(0.0, A, 1.0), (5.0, B, 1.0)])
    machine.run()
    assert (machine.loads, machine.dropped, machine.up) == ([A, B], ["b1"], {A})


def test_a_slot_that_is_gone_is_loaded_again_for_who_waits() -> None:
    machine = Machine(rules(room={A: 1}))
    machine.send([(0.0, A, 5.0), (1.0, A, 1.0)])
    machine.run(until=4.0)
    machine.up.discard(A)
    machine.at(5.0, Gone(A))
    machine.run()
    assert machine.loads == [A, A]
    assert machine.went_in == ["a0", "a1"]


def test_keys_have_equal_shares_of_a_slot_that_is_full() -> None:
    machine = Machine(rules(room={A: 1}, max_wait_s=1000.0))
    machine.send(((0.0, A, 1.0) for _ in range(40)), key="greedy")
    machine.send(((10.0, A, 1.0) for _ in range(5)), key="modest")
    machine.run()
    modest = [wait for name, wait in machine.waits.items() if machine.arrived[name].key == "modest"]
    assert max(modest) <= 2 * 5  # every other place is its own, as soon as it comes


def test_idleness_saves_no_shares_up() -> None:
    state = Schedule(resident={A: 0.0})
    limits = rules(room={A: 1})
    for n in range(9):
        state, _ = step(state, Arrived(request(f"old{n}", A, key="old")), limits, float(n))
        state, _ = step(state, Ended(f"old{n}"), limits, float(n))
    assert state.served == {}
    for name, key in (("x", "old"), ("y", "old"), ("z", "new")):
        state, _ = step(state, Arrived(request(name, A, key=key)), limits, 10.0)
    assert state.served["new"] == state.served["old"] == 1


def test_a_place_in_line_is_told_by_arrival() -> None:
    state = Schedule(waiting=(request("x", A), request("y", B), request("z", A)))
    assert [position(state, name) for name in ("x", "y", "z", "nobody")] == [1, 1, 2, None]


def test_at_rest_there_is_nothing_to_wait_for() -> None:
    assert next_at(Schedule(resident={A: 0.0}), rules(), 5.0) is None
    assert step(Schedule(), Tick(), rules(), 5.0) == (Schedule(), ())


ARRIVALS = st.lists(
    st.tuples(st.floats(0, 60), st.sampled_from([A, B, C]), st.sampled_from([0.1, 1.0])), min_size=15, max_size=50
)


@settings(max_examples=150)
@given(ARRIVALS, st.sampled_from([19, 20, 30]), st.sampled_from([None, 1, 4]))
def test_whatever_comes_everybody_is_served_and_nobody_is_cut(
    arrivals: list[tuple[float, SlotName, float]], limit: int, room: int | None
) -> None:
    limits = {} if room is None else dict.fromkeys((A, B, C), room)
    machine = Machine(rules(fits=within(max(limit, 20)) if limit > 19 else alone, room=limits))
    machine.send(arrivals)
    machine.run()
    assert machine.waits.keys() == machine.takes.keys()
    assert (machine.state.running, machine.state.waiting, machine.state.served) == ({}, (), {})
    if room is None:
        assert max(machine.waits.values()) <= 30.0
