"""Turns among slots that do not fit together, on plain numbers: few swaps, bounded waits, nobody cut, fair shares."""

import heapq
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hal0.dispatch.admission import Waiter
from hal0.dispatch.line import Line, Place
from hal0.dispatch.schedule import plan
from hal0.dispatch.turns import Rules, Seat, Standing, Turn
from hal0.vocab import SlotName

A, B, C = SlotName("a"), SlotName("b"), SlotName("c")
LOAD_S: Final = 3.0
SIZES: Final = {A: 10, B: 10, C: 20}


def alone(slots: frozenset[SlotName]) -> bool:
    return len(slots) <= 1


def within(limit: int) -> Callable[[frozenset[SlotName]], bool]:
    return lambda slots: sum(SIZES[slot] for slot in slots) <= limit


class Machine:
    """Plans in virtual time: loads take LOAD_S, requests their own time. Checks what must never happen.

    Requests go in as at the gate: in their line's order, where the slot is loaded, has room, and may take somebody.
    """

    def __init__(
        self,
        rules: Rules,
        *,
        room: Mapping[SlotName, int] | None = None,
        failing: frozenset[SlotName] = frozenset(),
        pinned: frozenset[SlotName] = frozenset(),
    ) -> None:
        self.rules, self.room, self.failing, self.pinned = rules, room or {}, failing, pinned
        self.now = 0.0
        self.turn: Turn | None = None
        self.due: list[tuple[float, int, Callable[[], None]]] = []
        self.order = itertools.count()
        self.look_at = math.inf
        self.lines: dict[SlotName, Line] = {slot: Line() for slot in SIZES}
        self.names: dict[Place, tuple[str, SlotName, float]] = {}
        self.running: Counter[SlotName] = Counter()
        self.up: dict[SlotName, float] = {}
        self.coming: dict[SlotName, float] = {}
        self.sent: dict[str, str] = {}
        self.waits: dict[str, float] = {}
        self.went_in: list[str] = []
        self.dropped: list[str] = []
        self.loads: list[SlotName] = []
        self.begins: Mapping[SlotName, float] = {}

    def at(self, when: float, act: Callable[[], None]) -> None:
        heapq.heappush(self.due, (when, next(self.order), act))

    def send(self, requests: Iterable[tuple[float, SlotName, float]], *, key: str = "k") -> None:
        """Requests as (arrival, slot, seconds of service)."""
        for when, slot, takes in requests:
            name = f"{slot}{len(self.sent)}"
            self.sent[name] = key
            place = Place(Waiter(when, math.inf), key)
            self.names[place] = name, slot, takes
            self.at(when, lambda slot=slot, place=place: self.lines[slot].join(place))  # type: ignore[misc]

    def leave(self, name: str) -> None:
        """Its client has had enough."""
        for line in self.lines.values():
            for place in [place for place in line if self.names[place][0] == name]:
                line.leave(place, served=False)

    def crash(self, slot: SlotName) -> None:
        del self.up[slot]

    def run(self, *, until: float = math.inf) -> None:
        while (first := min(self.due[0][0] if self.due else math.inf, self.look_at)) <= until:
            if first == math.inf:
                return
            self.now = first
            if self.due and self.due[0][0] <= self.now:
                heapq.heappop(self.due)[2]()
            self.look()

    def look(self) -> None:
        self.go_in()
        made = plan(self.seats(), self.turn, self.rules, self.now)
        self.turn, self.look_at, self.begins = made.turn, made.look_at, made.begins
        for slot in made.loads:
            self.load(slot)
        if made.switch:
            assert self.turn is not None
            for slot in self.turn.leaving:
                assert self.running[slot] == 0, "a slot was unloaded under its requests"
                del self.up[slot]
            self.load(self.turn.slot)
            self.turn = None
        self.go_in()

    def seats(self) -> dict[SlotName, Seat]:
        return {slot: self.seat(slot, line) for slot, line in self.lines.items()}

    def seat(self, slot: SlotName, line: Line) -> Seat:
        standing = Standing.HERE if slot in self.up else Standing.COMING if slot in self.coming else Standing.AWAY
        return Seat(
            standing=standing,
            since=self.up.get(slot, self.coming.get(slot, math.inf)),
            busy=self.running[slot],
            oldest=line.oldest() if line else None,
            handover_s=HANDOVER_S,
            pinned=slot in self.pinned,
        )

    def load(self, slot: SlotName) -> None:
        self.loads.append(slot)
        self.coming[slot] = self.now + LOAD_S
        self.at(self.now + LOAD_S, lambda: self.arrive(slot))

    def arrive(self, slot: SlotName) -> None:
        del self.coming[slot]
        if slot not in self.failing:
            self.up[slot] = self.now
            assert self.rules.fits(frozenset(self.up)), self.up
            return
        for place in list(self.lines[slot]):
            self.dropped.append(self.names[place][0])
            self.lines[slot].leave(place, served=False)

    def go_in(self) -> None:
        closed = self.turn.leaving if self.turn is not None else frozenset()
        for slot in self.up.keys() - closed:
            for place in list(self.lines[slot])[: self.room.get(slot, 1000) - self.running[slot]]:
                self.lines[slot].leave(place, served=True)
                name, _, takes = self.names[place]
                self.waits[name] = self.now - place.waiter.arrived
                self.went_in.append(name)
                self.running[slot] += 1
                self.at(self.now + takes, lambda slot=slot: self.running.subtract([slot]))  # type: ignore[misc]


HANDOVER_S: Final = LOAD_S + 1.0  # the load, and a second of work to end


def rules(**more: Any) -> Rules:
    plain: Mapping[str, Any] = {"fits": alone, "max_wait_s": 30.0, "min_residency_s": 2.0}
    return Rules(**{**plain, **more})


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
    machine = Machine(rules(), room={A: 1, B: 1})
    machine.send((n * 0.1, slot, 1.0) for n, slot in enumerate((A, B) * 5))
    machine.run()
    assert machine.went_in == ["a0", "a2", "a4", "a6", "a8", "b1", "b3", "b5", "b7", "b9"]


@pytest.mark.parametrize("every", [0.25, 0.9, 3.0])
def test_sustained_traffic_on_one_never_starves_the_other(every: float) -> None:
    machine = Machine(rules())
    machine.send((n * every, A, 1.0) for n in range(int(300 / every)))
    machine.send((t, B, 1.0) for t in (10.0, 11.0, 100.0, 170.0, 250.0))
    machine.run()
    assert len(machine.waits) == len(machine.sent)
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
    assert (machine.loads[2:], set(machine.up)) == ([C], {C})


def test_no_more_leave_than_must() -> None:
    machine = Machine(rules(fits=within(30)))
    machine.send([(0.0, A, 1.0), (5.0, B, 1.0), (20.0, C, 1.0)])
    machine.run()
    assert set(machine.up) == {B, C}  # the one that was here longest made way, the other did not have to


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
    machine.at(50.0, lambda: machine.leave("b1"))
    machine.run()
    assert (machine.loads, machine.waits["a2"]) == ([A], 10.0)


def test_a_failed_load_ends_its_own_waiters_only() -> None:
    machine = Machine(rules(), failing=frozenset({B}))
    machine.send([(0.0, A, 1.0), (0.5, B, 1.0), (0.6, B, 1.0), (9.0, A, 1.0)])
    machine.run()
    assert machine.dropped == ["b1", "b2"]
    assert machine.went_in == ["a0", "a3"]


def test_a_pinned_slot_makes_no_way_and_the_load_is_asked_for_as_it_is() -> None:
    machine = Machine(rules(), pinned=frozenset({A}), failing=frozenset({B}))
    machine.send([(0.0, A, 1.0), (5.0, B, 1.0)])
    machine.run()
    assert (machine.loads, machine.dropped, set(machine.up)) == ([A, B], ["b1"], {A})


def test_a_slot_that_is_gone_is_loaded_again_for_who_waits() -> None:
    machine = Machine(rules(), room={A: 1})
    machine.send([(0.0, A, 5.0), (1.0, A, 1.0)])
    machine.run(until=4.0)
    machine.at(5.0, lambda: machine.crash(A))
    machine.run()
    assert machine.loads == [A, A]
    assert machine.went_in == ["a0", "a1"]


def test_keys_have_equal_shares_of_a_slot_that_is_full() -> None:
    machine = Machine(rules(), room={A: 1})
    machine.send(((0.0, A, 1.0) for _ in range(40)), key="greedy")
    machine.send(((10.0, A, 1.0) for _ in range(5)), key="modest")
    machine.run()
    modest = [wait for name, wait in machine.waits.items() if machine.sent[name] == "modest"]
    assert max(modest) <= 2 * 5  # every other place is its own, as soon as it comes


def places(line: Line) -> list[tuple[str | None, float]]:
    return [(place.key, place.waiter.arrived) for place in line]


def test_callers_take_turns_in_a_line_and_each_ones_requests_keep_their_order() -> None:
    line = Line()
    for n, key in enumerate(["greedy", "greedy", "greedy", "modest", None, "modest"]):
        line.join(Place(Waiter(float(n), 60.0), key))
    assert places(line) == [
        ("greedy", 0), ("modest", 3), (None, 4), ("greedy", 1), ("modest", 5), ("greedy", 2),
    ]  # fmt: skip


def test_one_caller_is_first_come_first_served() -> None:
    line = Line()
    made = [Place(Waiter(float(n), 60.0)) for n in range(3)]
    for place in made:
        line.join(place)
    assert [line.ahead(place) for place in made] == [0, 1, 2]
    line.leave(made[0], served=True)
    assert [line.ahead(place) for place in made[1:]] == [0, 1]


def test_idleness_saves_no_shares_up() -> None:
    line = Line()
    for n in range(9):
        line.join(Place(Waiter(float(n), 60.0), "old"))
    for place in list(line)[:7]:
        line.leave(place, served=True)
    for key in ("new", "new", "old", "new"):
        line.join(Place(Waiter(10.0, 60.0), key))
    assert [key for key, _ in places(line)] == ["new", "old", "new", "old", "new", "old"]


def test_at_rest_there_is_nothing_to_do() -> None:
    made = plan({A: here(), B: Seat()}, None, rules(), 5.0)
    assert (made.loads, made.turn, made.switch, made.look_at, made.begins) == ((), None, False, math.inf, {})


def here(since: float = 0.0, **more: Any) -> Seat:
    return Seat(standing=Standing.HERE, since=since, **more)


def test_what_is_to_be_expected_is_told() -> None:
    busy = {A: here(busy=1), B: Seat(oldest=10.0, handover_s=4.0), C: Seat(oldest=12.0, handover_s=4.0)}
    made = plan(busy, None, rules(), 12.0)
    assert made.look_at == 42.0 - 4.0 - 2.0 - 4.0  # both still come in time: C by 42, B before it
    assert made.begins == {B: 32.0, C: 32.0 + 4.0 + 2.0}


def test_who_was_turned_out_and_waits_comes_last() -> None:
    busy = {A: here(busy=1, oldest=39.0), B: Seat(oldest=10.0, handover_s=4.0)}
    made = plan(busy, None, rules(), 40.0)
    assert (made.turn, made.switch) == (Turn(B, frozenset({A})), False)
    assert made.begins == {B: 40.0, A: 40.0 + 4.0 + 2.0}


def test_pinned_in_the_middle_of_its_last_requests_a_slot_stays() -> None:
    seats = {A: here(busy=1, pinned=True), B: Seat(oldest=10.0)}
    made = plan(seats, Turn(B, frozenset({A})), rules(), 50.0)
    assert (made.turn, made.loads) == (None, (B,))  # as it is, so that its refusal is told


def test_a_slot_that_comes_between_has_its_residency_as_well() -> None:
    seats = {A: here(busy=1), B: here(49.0), C: Seat(oldest=10.0)}
    made = plan(seats, Turn(C, frozenset({A})), rules(), 50.0)
    assert (made.turn, made.look_at) == (None, 51.0)


def test_nobody_makes_way_while_it_still_loads() -> None:
    seats = {A: Seat(standing=Standing.COMING, since=52.0), B: Seat(oldest=0.0)}
    made = plan(seats, None, rules(), 50.0)
    assert (made.turn, made.loads, made.begins) == (None, (), {B: 54.0})


def test_who_is_leaving_is_waited_for() -> None:
    seats = {A: Seat(standing=Standing.LEAVING), B: Seat(oldest=0.0)}
    made = plan(seats, None, rules(), 50.0)
    assert (made.turn, made.loads, made.begins) == (None, (), {B: 50.0})


def test_the_one_of_low_priority_makes_way() -> None:
    seats = {A: here(), B: here(5.0, priority=10), C: Seat(oldest=50.0)}
    made = plan(seats, None, rules(fits=within(30)), 60.0)
    assert (made.turn, made.switch) == (Turn(C, frozenset({B})), True)


def test_who_fits_beside_waits_when_it_would_be_in_somebodys_way() -> None:
    seats = {A: here(busy=1), C: Seat(oldest=10.0, handover_s=4.0), B: Seat(oldest=30.0, handover_s=4.0)}
    late, early = (plan(seats, None, rules(fits=within(20)), now) for now in (35.0, 25.0))
    assert (late.loads, early.loads) == ((), (B,))


ARRIVALS = st.lists(
    st.tuples(st.floats(0, 60), st.sampled_from([A, B, C]), st.sampled_from([0.1, 1.0])), min_size=15, max_size=50
)


@settings(max_examples=150)
@given(ARRIVALS, st.sampled_from([19, 20, 30]), st.sampled_from([None, 1, 4]))
def test_whatever_comes_everybody_is_served_and_nobody_is_cut(
    arrivals: list[tuple[float, SlotName, float]], limit: int, room: int | None
) -> None:
    limits = {} if room is None else dict.fromkeys((A, B, C), room)
    machine = Machine(rules(fits=within(max(limit, 20)) if limit > 19 else alone), room=limits)
    machine.send(arrivals)
    machine.run()
    assert machine.waits.keys() == machine.sent.keys()
    assert (machine.running.total(), sum(map(len, machine.lines.values())), machine.turn) == (0, 0, None)
    if room is None:
        assert max(machine.waits.values()) <= 30.0
