"""Swap by overlap as tables: what is decided, what is learned, where a boot stands, what time brings."""

import itertools
from typing import Any

import pytest

from hal0.config.slots import SlotConfig
from hal0.engine.base import ContainerInfo, ContainerStatus
from hal0.hardware.pools import RAM
from hal0.slots import happenings as h
from hal0.slots import timers
from hal0.slots.adopt import LABEL_GENERATION, LABEL_MODEL, Configured, Found, adopt
from hal0.slots.learning import enter, fold
from hal0.slots.logbook import Logbook
from hal0.slots.need import Need
from hal0.slots.record import Failure, Progress, Swap, SwapStep
from hal0.slots.state import NEVER, PORT_TRIES, TRANSITIONS, Decision, Effect, Facts, decide
from hal0.vocab import FailureClass, Phase, Role
from tests.unit.slots.lives import NOW, PERMANENT, TRANSIENT, container, life, loaded, ready, record, unloaded

S = SwapStep
OLD, NEW = container(1, "one"), container(2, "two", Role.NEXT)
STRAY = container(3, "one", Role.LEAVING)
READING = Failure(FailureClass.TRANSIENT, "slot.exited", "it ended", NOW, settled=False)
ROOM = Need(pool=RAM, bytes=1)
BESIDE: dict[str, Any] = {"next": NEW, "next_launched": True}


def swapping(step: SwapStep, **facts: Any) -> h.Life:
    """`one` serves while `two` comes."""
    desired = loaded("one" if step is S.UNDOING else "two")
    known = {"swap": Swap("one", "two", step), "current": OLD, "launched": True, "ready": True}
    return life(Phase.READY, desired, **(known | {"generation": 2 if "next" in facts else 1} | facts))


DECIDED: dict[str, tuple[SwapStep, dict[str, Any], Phase, Effect | None]] = {
    "its files are looked for": (S.PULLING, {}, Phase.READY, Effect.FETCH),
    "and it goes on": (S.PULLING, {"busy": Effect.FETCH}, Phase.READY, None),
    "memory is asked for": (S.WAITING, {}, Phase.READY, Effect.ADMIT),
    "with memory it is launched": (S.WAITING, {"next_admitted": ROOM}, Phase.READY, Effect.LAUNCH),
    "never a third one": (S.WAITING, {"next_admitted": ROOM, "leaving": (STRAY,)}, Phase.READY, None),
    "but what will not go is not waited for": (
        S.WAITING, {"next_admitted": ROOM, "leaving": (STRAY,), "stuck": frozenset({STRAY.name})},
        Phase.READY, Effect.LAUNCH,
    ),
    "starting goes on": (S.STARTING, {"next": NEW, "busy": Effect.LAUNCH}, Phase.READY, None),
    "warming goes on": (S.WARMING, BESIDE, Phase.READY, None),
    "they change places": (S.WARMING, {**BESIDE, "next_ready": True}, Phase.READY, Effect.TURN),
    "dead: why is read": (S.UNDOING, {"next": NEW, "next_fault": READING}, Phase.READY, Effect.BURY),
    "failed and alive: it is stopped": (S.UNDOING, {**BESIDE, "next_fault": TRANSIENT}, Phase.READY, Effect.RETIRE),
    "undoing goes on": (S.UNDOING, {"next": NEW, "next_fault": READING, "busy": Effect.BURY}, Phase.READY, None),
    "the old one died": (S.WARMING, {**BESIDE, "fault": READING, "launched": False}, Phase.ERROR, None),
    "the old one does not answer": (S.WARMING, {**BESIDE, "fault": TRANSIENT}, Phase.UNLOADING, None),
}  # fmt: skip


@pytest.mark.parametrize("row", DECIDED.values(), ids=DECIDED)
def test_decide(row: tuple[SwapStep, dict[str, Any], Phase, Effect | None]) -> None:
    step, facts, phase, effect = row
    at = swapping(step, **facts)
    assert decide(at.desired, at.phase, at.facts, NOW) == Decision(phase, effect)


def test_with_a_next_one_in_any_phase_decide_keeps_to_the_table_and_to_two_containers() -> None:
    values = itertools.product(
        (Phase.READY, Phase.UNLOADING, Phase.ERROR),
        (loaded("two"), loaded("one"), unloaded()),
        S,
        (None, OLD),
        (None, NEW),
        (None, TRANSIENT, READING),  # next_fault
        (None, TRANSIENT),  # fault
        (None, *Effect),
        (False, True),  # launched
        (False, True),  # next_ready
        (None, ROOM),
        ((), (STRAY,)),
    )
    for phase, desired, step, current, coming, why, fault, busy, launched, answers, room, leaving in values:
        facts = Facts(
            swap=Swap("one", "two", step), current=current, next=coming, next_launched=coming is not None,
            next_ready=answers, next_fault=why, next_admitted=room, fault=fault, busy=busy, launched=launched,
            leaving=leaving, retry_at=NOW,
        )  # fmt: skip
        got = decide(desired, phase, facts, NOW)
        assert got.phase is phase or got.phase in TRANSITIONS[phase], (phase, facts, got)
        assert got.phase is not phase or got.effect is None or busy is None, "one effect at a time"
        if got.effect is Effect.LAUNCH and got.phase is Phase.READY:
            assert not leaving, "there are never three"
        if got.phase is Phase.STARTING:
            assert current is None, "what serves is never started over"


def beside(step: SwapStep, what: h.Happening, **facts: Any) -> h.Life:
    return fold(swapping(step, **facts), h.Beside(what), NOW)


def test_each_step_follows_from_what_happened_and_none_changes_the_phase_or_the_one_that_serves() -> None:
    steps = {
        S.WAITING: beside(S.PULLING, h.Fetched(), busy=Effect.FETCH),
        S.STARTING: beside(S.WAITING, h.Reserved(NEW), busy=None, next_admitted=ROOM),
        S.WARMING: beside(S.STARTING, h.Launched(NEW, "secret"), next=NEW, busy=Effect.LAUNCH),
        S.UNDOING: beside(S.WARMING, h.Failed(TRANSIENT, 1.0), **BESIDE),
    }
    for step, after in steps.items():
        assert after.facts.swap is not None
        assert (after.phase, after.facts.swap.step, after.facts.current) == (Phase.READY, step, OLD)
        assert after.facts.busy is None
    assert steps[S.STARTING].facts.generation == 2
    assert steps[S.UNDOING].desired.model == "one"


def test_a_taken_port_waits_for_the_next_and_quarantines_what_stays() -> None:
    stuck = container(2, "two", Role.LEAVING)
    for left, leaving in ((None, ()), (stuck, (stuck,))):
        after = beside(S.STARTING, h.Clashed(left), next=NEW, busy=Effect.LAUNCH).facts
        assert after.swap is not None
        assert (after.swap.step, after.next, after.port_tries, after.leaving) == (S.WAITING, None, 1, leaving)


@pytest.mark.parametrize("last", ["buried", "retired", "engine trouble", "failed before it was made"])
def test_when_nothing_is_left_of_it_the_swap_is_over_and_why_is_told(last: str) -> None:
    undoing = {"next": NEW, "next_fault": READING, "busy": Effect.BURY}
    after = {
        "buried": lambda: beside(S.UNDOING, h.Buried(PERMANENT, 1.0), **undoing),
        "retired": lambda: beside(S.UNDOING, h.Retired(log_tail=("last words",)), **undoing),
        "engine trouble": lambda: beside(S.UNDOING, h.EngineTrouble("no answer"), **undoing),
        "failed before it was made": lambda: beside(S.PULLING, h.Failed(PERMANENT, 1.0), busy=Effect.FETCH),
    }[last]()
    facts = after.facts
    assert (after.phase, after.desired.model, facts.swap, facts.next, facts.busy) == (
        Phase.READY,
        "one",
        None,
        None,
        None,
    )
    assert facts.next_fault is not None
    assert facts.next_fault.settled
    assert (facts.failure, facts.fault, facts.attempts.count) == (None, None, 0), "the slot itself is well"
    assert [c.name for c in facts.leaving] == ([NEW.name] if last == "engine trouble" else [])


def test_a_second_witness_of_the_next_ones_death_adds_nothing() -> None:
    once = beside(S.WARMING, h.Died(READING), **BESIDE)
    assert fold(once, h.Beside(h.Died(READING)), NOW) == once
    assert (once.facts.next_launched, once.facts.next_fault) == (False, READING)


def test_what_is_said_of_a_next_one_without_a_swap_is_nothing() -> None:
    assert fold(ready(), h.Beside(h.BecameReady()), NOW) == ready()


def test_the_turn_makes_the_next_one_the_slots_own_and_the_old_one_leave() -> None:
    after = fold(swapping(S.WARMING, **BESIDE, next_ready=True, next_admitted=ROOM, failure=TRANSIENT), h.Turned(), NOW)
    facts = after.facts
    assert facts.current is not None
    assert (facts.current.name, facts.current.role, facts.next) == (NEW.name, Role.CURRENT, None)
    assert [(c.name, c.role) for c in facts.leaving] == [(OLD.name, Role.LEAVING)]
    assert (facts.swap, facts.failure, facts.admitted, facts.ready, facts.deadline) == (None, None, ROOM, True, NEVER)
    assert after.phase is Phase.READY


def test_without_room_the_old_one_makes_way_and_nothing_else_changes() -> None:
    after = fold(swapping(S.WAITING, busy=Effect.ADMIT), h.Crowded("no second port"), NOW)
    assert after.facts.swap == Swap("one", "two", S.FORWARD)
    assert decide(after.desired, after.phase, after.facts, NOW) == Decision(Phase.UNLOADING)


@pytest.mark.parametrize(
    ("facts", "goes_on"),
    [(BESIDE, True), ({"next": NEW}, False), ({**BESIDE, "next_fault": TRANSIENT}, False), ({}, False)],
    ids=["runs", "does not run yet", "failed", "is not there"],
)
def test_when_the_old_one_is_lost_a_next_one_that_runs_takes_its_place(facts: dict[str, Any], goes_on: bool) -> None:
    lost = enter(swapping(S.WARMING, **facts, fault=TRANSIENT), Phase.ERROR, NEVER)
    assert (lost.facts.next is not None) is goes_on
    gone = h.Life(desired=lost.desired, phase=Phase.ERROR, facts=fold(lost, h.Buried(TRANSIENT, 1.0), NOW).facts)
    up = enter(gone, Phase.STARTING, NEVER).facts
    assert (up.current is not None, up.next) == (goes_on, None)
    assert up.swap is not None
    assert not up.swap.overlaps


# -- the boot --


def found(generation: int, model: str, *, answers: bool, status: ContainerStatus = ContainerStatus.RUNNING) -> Found:
    labels = {LABEL_GENERATION: str(generation), LABEL_MODEL: model}
    name = f"hal0-0badcafe-primary-{generation}"
    return Found(ContainerInfo(id=f"id{generation}", name=name, status=status, labels=labels), answers=answers)


UP, SILENT = found(1, "one", answers=True), found(1, "one", answers=False)
COMES, ANSWERS = found(2, "two", answers=False), found(2, "two", answers=True)
DEAD, MADE = (
    found(2, "two", answers=False, status=status) for status in (ContainerStatus.EXITED, ContainerStatus.CREATED)
)
BOOTED: dict[str, tuple[SwapStep, tuple[Found, ...], tuple[Any, ...]]] = {
    # found: (phase, desired model, current, next, step)
    "old serves, new warms": (S.WARMING, (UP, COMES), (Phase.READY, "two", 1, 2, S.WARMING)),
    "old serves, new never began": (S.PULLING, (UP,), (Phase.READY, "two", 1, None, S.PULLING)),
    "old serves, new was only made": (S.STARTING, (UP, MADE), (Phase.READY, "two", 1, None, S.PULLING)),
    "old serves, new died": (S.WARMING, (UP, DEAD), (Phase.READY, "one", 1, 2, S.UNDOING)),
    "old serves, new was being undone": (S.UNDOING, (UP, COMES), (Phase.READY, "one", 1, None, None)),
    "new answers": (S.WARMING, (UP, ANSWERS), (Phase.READY, "two", 2, None, None)),
    "old is gone, new warms": (S.WARMING, (COMES,), (Phase.WARMING, "two", 2, None, S.FORWARD)),
    "old is silent, new answers": (S.WARMING, (SILENT, ANSWERS), (Phase.READY, "two", 2, None, None)),
    "old is gone, new never began": (S.PULLING, (), (Phase.OFFLINE, "two", None, None, S.FORWARD)),
}


@pytest.mark.parametrize("row", BOOTED.values(), ids=BOOTED)
def test_adopt(row: tuple[SwapStep, tuple[Found, ...], tuple[Any, ...]]) -> None:
    step, there, expected = row
    desired = loaded("one" if step is S.UNDOING else "two")
    containers = (OLD,) if step is S.PULLING else (OLD, NEW)
    past = record(Phase.READY, desired, swap=Swap("one", "two", step), containers=containers, generation=2)
    at = adopt(past, there, Configured(autoload=False, seed_model="one"), NOW)
    facts = at.facts
    generations = tuple(c.generation if c is not None else None for c in (facts.current, facts.next))
    assert (at.phase, at.desired.model, *generations, facts.swap.step if facts.swap else None) == expected
    known = {c.name for c in facts.containers}
    assert known == {one.info.name for one in there}, "nothing that is there is forgotten"


# -- time --

CONFIG = SlotConfig(readiness_timeout_s=40)
BOOK = Logbook(NOW - 100, load_started=NOW - 30, warm_started=NOW - 20)


def due(at: h.Life, config: SlotConfig = CONFIG) -> list[h.Happening]:
    return list(timers.come_due(at, BOOK, config, NOW, quiet=True))


@pytest.mark.parametrize(
    ("step", "limit_s"),
    [(S.PULLING, 120), (S.WAITING, NEVER), (S.STARTING, 30), (S.WARMING, 40), (S.UNDOING, 80), (S.FORWARD, NEVER)],
)
def test_every_step_that_is_on_its_way_has_a_deadline(step: SwapStep, limit_s: float) -> None:
    assert timers.step_deadline(step, NOW, CONFIG, 0, BOOK) == NOW + limit_s


@pytest.mark.parametrize("step", [S.PULLING, S.STARTING, S.WARMING, S.UNDOING])
def test_the_end_of_a_deadline_is_the_next_ones_failure_alone(step: SwapStep) -> None:
    (ended,) = due(swapping(step, deadline=NOW))
    assert isinstance(ended, h.Beside)
    assert isinstance(ended.what, h.Failed)
    assert ended.what.failure.code == "slot.deadline"
    assert due(swapping(step, deadline=NOW + 1)) == []


def test_ports_that_are_taken_again_and_again_make_the_old_one_leave() -> None:
    assert due(swapping(S.WAITING, port_tries=PORT_TRIES - 1, deadline=NEVER)) == []
    (crowded,) = due(swapping(S.WAITING, port_tries=PORT_TRIES, deadline=NEVER))
    assert isinstance(crowded, h.Crowded)
    fixed = CONFIG.model_copy(update={"port": 9000})
    assert [type(one) for one in due(swapping(S.WAITING, port_tries=1, deadline=NEVER), fixed)] == [h.Crowded]


def test_nobody_is_unloaded_for_idleness_amid_a_swap() -> None:
    leaves = CONFIG.model_copy(update={"unload_after_s": 10})
    book = Logbook(NOW - 100, ready_at=NOW - 100, last_used=NOW - 100)
    assert list(timers.come_due(swapping(S.WARMING, **BESIDE), book, leaves, NOW, quiet=True)) == []
    assert [type(one) for one in timers.come_due(ready(), book, leaves, NOW, quiet=True)] == [h.Wished]


def test_a_pull_that_moves_has_no_limit_beside_either() -> None:
    moved = beside(S.PULLING, h.Advanced(Progress("pulling", 0.5, "half"), NOW + 120), deadline=NOW, busy=Effect.FETCH)
    assert moved.facts.deadline == NOW + 120
