"""Turns among slots that do not fit into memory together: when one makes way for another. Pure.

Requests of one slot are collated (A A B B): a slot that is loaded keeps its turn while it has work, until another one
is due. Due is the last moment at which every waiting slot can still be served in time, one after the other. Nothing
that is under way is ever cut: a slot whose turn is over takes nobody in, and leaves when its last request has ended.

`plan` looks at how things stand and has no memory but the turn that has begun, so it is right also when every event
before was lost. `max_wait_s` can be kept while it is at least the handovers of all slots that take turns plus their
residencies but one; below that `min_residency_s` decides, and turns are as short as it allows.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import replace

from hal0.dispatch.turns import Plan, Rules, Seat, Seats, Standing, Turn
from hal0.vocab import SlotName


def plan(seats: Seats, turn: Turn | None, rules: Rules, now: float) -> Plan:
    """What is to be done now; `turn` is the one that the last plan ended with."""
    seats = dict(seats)
    turn = _kept(seats, turn, rules)
    loads = []
    for slot in _line(seats):
        if _may_load(seats, slot, turn, rules, now):
            loads.append(slot)
            seats[slot] = _coming(seats[slot], now)
            turn = None if turn is not None and turn.slot == slot else turn
        elif turn is None and now >= _turn_at(seats, slot, rules):
            turn = Turn(slot, _leavers(seats, slot, rules))
    return Plan(
        loads=tuple(loads),
        turn=turn,
        switch=turn is not None and bool(turn.leaving) and all(seats[slot].busy == 0 for slot in turn.leaving),
        look_at=math.inf if turn is not None else _look_at(seats, rules, now),
        begins=_begins(seats, turn, rules, now),
    )


def _kept(seats: Seats, turn: Turn | None, rules: Rules) -> Turn | None:
    """The turn goes on while its slot is waited for and nobody else has to leave than those who knew."""
    if turn is None or turn.slot not in _line(seats):
        return None
    leaving = _leavers(seats, turn.slot, rules)
    if not leaving <= turn.leaving or any(seats[slot].standing is not Standing.HERE for slot in leaving):
        return None
    return Turn(turn.slot, leaving)


# -- who may load -----------------------------------------------------------------------------------------------------


def _line(seats: Seats) -> dict[SlotName, float]:
    """Slots that are waited for and not loaded, and when their oldest request came, in the order of their turns."""
    oldest = {
        slot: seat.oldest for slot, seat in seats.items() if seat.standing is Standing.AWAY and seat.oldest is not None
    }
    return dict(sorted(oldest.items(), key=lambda item: (seats[item[0]].share, item[1], item[0])))


def _may_load(seats: Seats, slot: SlotName, turn: Turn | None, rules: Rules, now: float) -> bool:
    """It fits beside all that is here, and is in nobody's way; or it fits beside nothing: its refusal is the answer."""
    present = _present(seats)
    if not rules.fits(present | {slot}):
        return not rules.fits(frozenset({name for name in present if not _may_leave(seats[name])} | {slot}))
    if turn is not None:
        return rules.fits(present - turn.leaving | {slot, turn.slot})
    ready_to_leave = now + seats[slot].handover_s + rules.min_residency_s
    return ready_to_leave <= _due_at(seats, rules) or not _in_the_way(seats, slot, rules, now)


def _in_the_way(seats: Seats, slot: SlotName, rules: Rules, now: float) -> bool:
    """Somebody whose turn is before its own would have to wait until it leaves again."""
    after = {**seats, slot: _coming(seats[slot], now)}
    return any(slot in _leavers(after, name, rules) for name in itertools.takewhile(slot.__ne__, _line(seats)))


def _present(seats: Seats) -> frozenset[SlotName]:
    return frozenset(slot for slot, seat in seats.items() if seat.standing is not Standing.AWAY)


def _may_leave(seat: Seat) -> bool:
    return seat.standing is Standing.LEAVING or not seat.pinned


def _since(oldest: float | None) -> float:
    return math.inf if oldest is None else oldest


def _coming(seat: Seat, now: float) -> Seat:
    return replace(seat, standing=Standing.COMING, since=now + seat.handover_s)


# -- whose turn it is -------------------------------------------------------------------------------------------------


def _leavers(seats: Seats, slot: SlotName, rules: Rules) -> frozenset[SlotName]:
    """Who makes way for `slot`: as few as possible, those without work first, then those who have been here longest.

    Who is leaving already goes by itself.
    """
    chosen: list[SlotName] = []
    staying = {name for name, seat in seats.items() if seat.standing in (Standing.HERE, Standing.COMING)} | {slot}

    def reluctance(name: SlotName) -> tuple[bool, bool, int, float, SlotName]:
        seat = seats[name]
        return seat.standing is Standing.COMING, seat.has_work, seat.priority, seat.since, name

    for name in sorted((name for name in staying - {slot} if not seats[name].pinned), key=reluctance):
        if rules.fits(frozenset(staying)):
            break
        chosen.append(name)
        staying.discard(name)
    for name in reversed(chosen):  # a small one may have been chosen before the one that is enough
        if rules.fits(frozenset(staying | {name})):
            staying.add(name)
    return frozenset(chosen) - staying


def _turn_at(seats: Seats, slot: SlotName, rules: Rules) -> float:
    """From when on the turn may change for `slot`; inf: not before something else has changed.

    Every leaver has had its residency, and then is idle while its burst may still be coming in, or owes its place.
    """
    due = _due_at(seats, rules)
    settled = _since(seats[slot].oldest) + rules.settle_s
    times = []
    for name in _leavers(seats, slot, rules):
        seat = seats[name]
        if seat.standing is not Standing.HERE:
            return math.inf
        times.append(max(seat.since + rules.min_residency_s, due if seat.has_work else min(settled, due)))
    return max(times, default=math.inf)


def _due_at(seats: Seats, rules: Rules) -> float:
    """The last moment from which all waiting slots, one after the other, are still served in time."""
    latest: float = math.inf
    for slot, oldest in reversed(_line(seats).items()):
        latest = min(oldest + rules.max_wait_s, latest - rules.min_residency_s) - seats[slot].handover_s
    return latest


def _look_at(seats: Seats, rules: Rules, now: float) -> float:
    times = (_turn_at(seats, slot, rules) for slot in _line(seats))
    return min((at for at in times if at > now), default=math.inf)


# -- what is to be expected -------------------------------------------------------------------------------------------


def _begins(seats: Seats, turn: Turn | None, rules: Rules, now: float) -> Mapping[SlotName, float]:
    """When the load of every slot that waits for a turn begins if all goes as planned; `now` where nobody knows."""
    after = {slot: _settled(seat) for slot, seat in seats.items()}
    begins: dict[SlotName, float] = {}
    if turn is not None:
        begins[turn.slot] = now
        _change(after, turn.slot, turn.leaving, now)
        after |= {slot: replace(after[slot], oldest=seats[slot].oldest) for slot in turn.leaving}  # nobody goes in
    begins |= dict.fromkeys(_line(after), now)
    while line := _line(after):
        moments = {slot: _begin_at(after, slot, rules, now) for slot in line}
        slot = min(moments, key=lambda name: moments[name])
        if moments[slot] == math.inf:
            break
        begins[slot] = moments[slot]
        _change(after, slot, _leavers(after, slot, rules), moments[slot])
    return begins


def _settled(seat: Seat) -> Seat:
    """As it will be when what is under way is done."""
    match seat.standing:
        case Standing.LEAVING:
            return replace(seat, standing=Standing.AWAY)
        case Standing.COMING:
            return replace(seat, standing=Standing.HERE)
        case _:
            return seat


def _begin_at(seats: Seats, slot: SlotName, rules: Rules, now: float) -> float:
    return max(now if rules.fits(_present(seats) | {slot}) else _turn_at(seats, slot, rules), now)


def _change(seats: dict[SlotName, Seat], slot: SlotName, leaving: frozenset[SlotName], at: float) -> None:
    """As it will be after this turn: its slot is here, and whoever waited for those who left has been served."""
    seats[slot] = replace(seats[slot], standing=Standing.HERE, since=at + seats[slot].handover_s, busy=0, oldest=None)
    for name in leaving:
        seats[name] = replace(seats[name], standing=Standing.AWAY, since=math.inf, busy=0, oldest=None)
