"""Turns among slots that do not fit into memory together: who goes in, and when one makes way for another. Pure.

Requests of one slot are collated (A A B B): a slot that is loaded keeps its turn while it has work, until another one
is due. Due is the last moment at which every waiting slot can still be served in time, one after the other. Nothing
that is under way is ever cut: a slot whose turn is over takes nobody in, and leaves when its last request has ended.

`max_wait_s` can be kept while it is at least the handovers of all slots that take turns plus their residencies but
one; below that `min_residency_s` decides, and turns are as short as it allows.
"""

import math
from dataclasses import replace
from typing import assert_never

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
    Turn,
)
from hal0.vocab import SlotName


def step(state: Schedule, event: Event, rules: Rules, now: float) -> tuple[Schedule, tuple[Decision, ...]]:
    """Fold one event in; then everybody goes in who may, and a turn changes if it is time."""
    state, dropped = _fold(state, event, now)
    decisions: list[Decision] = list(dropped)
    while True:
        state, admitted = _admit_all(state, rules)
        decisions += admitted
        state, switch, settled = _take_turns(state, rules, now)
        if switch is not None:
            decisions.append(switch)
        if settled:
            return state, tuple(decisions)


def next_at(state: Schedule, rules: Rules, now: float) -> float | None:
    """When to send `Tick` if nothing happens before; None: time alone changes nothing."""
    if state.turn is not None:
        return None
    line = _line(state)
    times = (_turn_at(state, oldest, _leavers(state, slot, rules), rules) for slot, oldest in line.items())
    return min((at for at in times if now < at < math.inf), default=None)


def position(state: Schedule, request_id: str) -> int | None:
    """A waiting request's place among those for its slot by arrival, from 1."""
    found = next((request for request in state.waiting if request.id == request_id), None)
    if found is None:
        return None
    line = [request.id for request in state.waiting if request.slot == found.slot]
    return line.index(request_id) + 1


# -- what happened ----------------------------------------------------------------------------------------------------


def _fold(state: Schedule, event: Event, now: float) -> tuple[Schedule, list[Drop]]:
    match event:
        case Arrived(request):
            return _joined(state, request), []
        case Ended(request_id):
            waiting = tuple(request for request in state.waiting if request.id != request_id)
            running = {id_: request for id_, request in state.running.items() if id_ != request_id}
            return _shares(replace(state, waiting=waiting, running=running)), []
        case Ready(slot):
            turn = None if state.turn is not None and state.turn.slot == slot else state.turn
            return replace(state, resident={slot: now, **state.resident}, turn=turn), []
        case Gone(slot):
            resident = {name: since for name, since in state.resident.items() if name != slot}
            return replace(state, resident=resident), []
        case LoadFailed(slot):
            turn = None if state.turn is not None and state.turn.slot == slot else state.turn
            dropped = [Drop(request.id) for request in state.waiting if request.slot == slot]
            waiting = tuple(request for request in state.waiting if request.slot != slot)
            return _shares(replace(state, waiting=waiting, turn=turn)), dropped
        case Tick():
            return state, []
        case _:
            assert_never(event)


def _joined(state: Schedule, request: Request) -> Schedule:
    """A caller who was away begins level with the one who has had least: idleness saves nothing up."""
    level = min(state.served.values(), default=0)
    served = {**state.served, request.key: state.served.get(request.key, level)}
    return replace(state, waiting=(*state.waiting, request), served=served)


def _shares(state: Schedule) -> Schedule:
    """Only callers who have something here have a share."""
    present = {request.key for request in (*state.waiting, *state.running.values())}
    return replace(state, served={key: count for key, count in state.served.items() if key in present})


# -- who goes in ------------------------------------------------------------------------------------------------------


def _admit_all(state: Schedule, rules: Rules) -> tuple[Schedule, list[Admit]]:
    admitted: list[Admit] = []
    while (request := _next_in(state, rules)) is not None:
        admitted.append(Admit(request.id))
        state = replace(
            state,
            waiting=tuple(other for other in state.waiting if other is not request),
            running={**state.running, request.id: request},
            served={**state.served, request.key: state.served[request.key] + 1},
        )
    return state, admitted


def _next_in(state: Schedule, rules: Rules) -> Request | None:
    """Of all that could go in: the caller's who has had least, and of those the oldest."""
    closed = state.turn.leaving if state.turn is not None else frozenset()
    busy = [request.slot for request in state.running.values()]
    open_ = {
        slot for slot in state.resident if slot not in closed and busy.count(slot) < rules.room.get(slot, math.inf)
    }
    candidates = (request for request in state.waiting if request.slot in open_)
    return min(candidates, key=lambda request: (state.served[request.key], request.arrived), default=None)


# -- whose turn it is -------------------------------------------------------------------------------------------------


def _take_turns(state: Schedule, rules: Rules, now: float) -> tuple[Schedule, Switch | None, bool]:
    """One change of turn at most, and whether that was all."""
    turn = state.turn
    if turn is None:
        for slot, oldest in _line(state).items():
            leaving = _leavers(state, slot, rules)
            if now >= _turn_at(state, oldest, leaving, rules):
                return replace(state, turn=Turn(slot, leaving)), None, False
        return state, None, True
    if turn.begun:
        return state, None, True
    if all(request.slot != turn.slot for request in state.waiting):
        return replace(state, turn=None), None, False  # nobody waits for it any more: nobody has to leave
    if any(request.slot in turn.leaving for request in state.running.values()):
        return state, None, True
    resident = {slot: since for slot, since in state.resident.items() if slot not in turn.leaving}
    begun = replace(state, resident=resident, turn=replace(turn, begun=True))
    return begun, Switch(turn.slot, tuple(sorted(turn.leaving & state.resident.keys()))), True


def _line(state: Schedule) -> dict[SlotName, float]:
    """Slots that are waited for and not loaded, by when their oldest request arrived, the first first."""
    oldest: dict[SlotName, float] = {}
    for request in state.waiting:
        if request.slot not in state.resident:
            oldest[request.slot] = min(oldest.get(request.slot, math.inf), request.arrived)
    return dict(sorted(oldest.items(), key=lambda item: (item[1], item[0])))


def _leavers(state: Schedule, slot: SlotName, rules: Rules) -> frozenset[SlotName]:
    """Who makes way for `slot`: as few as possible, those without work first, then those who have been here longest.

    Nobody when not even all of them are enough: then the load is ordered as it is, and its refusal is the answer.
    """
    chosen: list[SlotName] = []
    staying = set(state.resident) | {slot}
    may_leave = [name for name in state.resident if name not in rules.pinned]
    for name in sorted(may_leave, key=lambda name: (_has_work(state, name), state.resident[name], name)):
        if rules.fits(frozenset(staying)):
            break
        chosen.append(name)
        staying.discard(name)
    if not rules.fits(frozenset(staying)):
        return frozenset()
    for name in reversed(chosen):  # a small one may have been chosen before the one that is enough
        if rules.fits(frozenset(staying | {name})):
            staying.add(name)
    return frozenset(chosen) - staying


def _turn_at(state: Schedule, oldest: float, leaving: frozenset[SlotName], rules: Rules) -> float:
    """From when on the turn may change for one who waits since `oldest`.

    Every leaver has had its residency, and then is idle while its burst may still be coming in, or owes its place.
    """
    due = _due_at(state, rules)
    times = []
    for slot in leaving:
        over = state.resident[slot] + rules.min_residency_s
        busy = _has_work(state, slot)
        times.append(max(over, due) if busy else min(max(over, oldest + rules.settle_s), due))
    return max(times, default=-math.inf)


def _due_at(state: Schedule, rules: Rules) -> float:
    """The last moment from which all waiting slots, one after the other, are still served in time."""
    latest: float = math.inf
    for slot, oldest in reversed(_line(state).items()):
        latest = min(oldest + rules.max_wait_s, latest - rules.min_residency_s) - rules.handover_s.get(slot, 0.0)
    return latest


def _has_work(state: Schedule, slot: SlotName) -> bool:
    return any(request.slot == slot for request in (*state.running.values(), *state.waiting))
