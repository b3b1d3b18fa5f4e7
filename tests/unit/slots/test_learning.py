"""`fold` and `enter`: what each happening teaches."""

from dataclasses import replace

import pytest

from hal0.slots import happenings as h
from hal0.slots.learning import ENGINE_RETRY_S, enter, fold
from hal0.slots.record import Attempts, Progress, Swap, SwapStep
from hal0.slots.state import NEVER, Effect, decide
from hal0.vocab import Phase, Role
from tests.unit.slots.lives import ENGINE, NOW, PERMANENT, TRANSIENT, container, life, loaded, ready, unloaded


def test_a_wish_of_an_operator_forgets_failures_and_looks_at_the_files_again() -> None:
    before = life(Phase.ERROR, fault=PERMANENT, attempts=Attempts(3, NOW, None), retry_at=NEVER, fetched=True)
    after = fold(before, h.Wished(loaded()), NOW).facts
    assert (after.fault, after.attempts.count, after.retry_at, after.fetched) == (None, 0, 0.0, False)


def test_a_wish_of_a_request_remembers_them() -> None:
    before = life(Phase.ERROR, unloaded(), fault=PERMANENT, attempts=Attempts(3, NOW, None), retry_at=NEVER)
    after = fold(before, h.Wished(loaded(), again=False), NOW).facts
    assert (after.fault, after.attempts.count) == (PERMANENT, 3)


def test_another_model_while_pulling_starts_over() -> None:
    before = life(Phase.PULLING, busy=Effect.FETCH)
    assert fold(before, h.Wished(loaded("two")), NOW).facts.busy is None
    assert fold(before, h.Wished(loaded()), NOW).facts.busy is Effect.FETCH


def test_a_restart_needs_something_to_replace() -> None:
    assert fold(ready(), h.Wished(loaded(), restart=True), NOW).facts.restart
    assert not fold(life(Phase.PULLING), h.Wished(loaded(), restart=True), NOW).facts.restart


@pytest.mark.parametrize("phase", [Phase.PULLING, Phase.STARTING, Phase.WARMING])
def test_a_failed_change_of_model_goes_back_once(phase: Phase) -> None:
    before = life(phase, loaded("two"), swap=Swap("one", "two"))
    back = fold(before, h.Failed(PERMANENT, 1.0), NOW)
    assert back.desired.model == "one"
    assert back.facts.swap == Swap("one", "two", SwapStep.ROLLBACK)
    assert back.facts.retry_at == NOW
    assert back.facts.attempts.count == 0
    again = fold(back, h.Failed(PERMANENT, 1.0), NOW)
    assert again.desired.model == "one"
    assert again.facts.swap is None
    assert again.facts.retry_at == NEVER


def test_without_an_old_model_there_is_nothing_to_go_back_to() -> None:
    after = fold(life(Phase.WARMING, loaded("two"), swap=Swap(None, "two")), h.Failed(PERMANENT, 1.0), NOW)
    assert after.desired.model == "two"
    assert after.facts.swap is None


def test_a_failed_start_looks_at_its_files_again_and_a_crash_does_not() -> None:
    assert not fold(life(Phase.STARTING, fetched=True), h.Failed(TRANSIENT, 1.0), NOW).facts.fetched
    assert fold(ready(), h.Buried(TRANSIENT, 1.0), NOW).facts.fetched


def test_a_death_is_a_fault_where_the_slot_was_wanted() -> None:
    after = fold(ready(), h.Died(TRANSIENT), NOW).facts
    assert (after.launched, after.ready, after.fault) == (False, False, TRANSIENT)


def test_a_death_while_unloading_is_no_fault() -> None:
    before = life(Phase.UNLOADING, loaded("two"), current=container(), launched=True, busy=Effect.DRAIN)
    after = fold(before, h.Died(TRANSIENT), NOW).facts
    assert (after.launched, after.fault, after.busy) == (False, None, Effect.DRAIN)


@pytest.mark.parametrize("model", ["one", "two"])
def test_a_wish_during_a_burial_is_tried_whatever_the_burial_reads(model: str) -> None:
    """The dead container may even have had another model: what was wrong with that one says nothing of this."""
    dead = life(Phase.ERROR, fault=TRANSIENT, current=container(), busy=Effect.BURY, retry_at=NEVER)
    after = fold(fold(dead, h.Wished(loaded(model)), NOW), h.Buried(PERMANENT, 1.0), NOW)
    assert (after.facts.fault, after.facts.attempts.count) == (None, 0)
    assert after.facts.failure == PERMANENT, "shown until it is ready"
    assert decide(after.desired, after.phase, after.facts, NOW).phase is Phase.PULLING


def test_a_second_witness_of_a_death_adds_nothing() -> None:
    buried = life(Phase.ERROR, fault=PERMANENT, current=container())
    assert fold(buried, h.Died(TRANSIENT), NOW) == buried


def test_what_will_not_go_is_leaving() -> None:
    stuck = container(role=Role.LEAVING)
    for happening in (h.Retired(stuck), h.Buried(TRANSIENT, 1.0, stuck)):
        after = fold(ready(), happening, NOW).facts
        assert after.current is None
        assert after.leaving == (stuck,)
        assert fold(life(Phase.READY, leaving=(stuck,)), h.Left(stuck.name), NOW).facts.leaving == ()


def test_a_log_read_while_stopping_explains_the_fault() -> None:
    before = life(Phase.UNLOADING, current=container(), fault=TRANSIENT, busy=Effect.RETIRE)
    fault = fold(before, h.Retired(log_tail=("last words",)), NOW).facts.fault
    assert fault is not None
    assert fault.log_tail == ("last words",)


def test_engine_trouble_waits_and_says_so() -> None:
    after = fold(life(Phase.UNLOADING, busy=Effect.RETIRE), h.EngineTrouble("nobody answers"), NOW).facts
    assert (after.busy, after.again_at) == (None, NOW + ENGINE_RETRY_S)
    assert after.progress == Progress("waiting", None, "nobody answers; trying again")


def test_the_engines_return_ends_what_waited_for_it() -> None:
    waits = life(Phase.ERROR, fault=ENGINE, retry_at=NOW + 200, attempts=Attempts(9, NOW, NOW + 200), again_at=NOW + 2)
    after = fold(waits, h.EngineBack(), NOW).facts
    assert (after.retry_at, after.attempts.next_at, after.again_at) == (NOW, NOW, 0.0)
    crashed = life(Phase.ERROR, fault=TRANSIENT, retry_at=NOW + 200)
    assert fold(crashed, h.EngineBack(), NOW).facts.retry_at == NOW + 200


def test_a_stray_leaves_and_its_generation_is_never_used_again() -> None:
    stray = container(7, role=Role.LEAVING)
    after = fold(ready(), h.Strayed(stray), NOW).facts
    assert after.leaving == (stray,)
    assert after.generation == 7
    mine = ready(current=container(7))
    assert fold(mine, h.Strayed(stray), NOW) == mine, "it was seen before it was known"


def test_another_container_in_the_name_of_one_that_was_to_leave_leaves_in_its_place() -> None:
    old, other = (replace(container(7, role=Role.LEAVING), id=name) for name in ("old", "other"))
    waits = ready(leaving=(old,), stuck=frozenset({old.name}))
    assert fold(waits, h.Strayed(other), NOW).facts.leaving == (other,)
    assert fold(waits, h.Strayed(old), NOW) == waits


def test_a_pull_that_moves_has_no_limit() -> None:
    moved = fold(life(Phase.PULLING, deadline=NOW), h.Advanced(Progress("pulling", 0.5, "half"), NOW + 120), NOW)
    assert moved.facts.deadline == NOW + 120
    assert fold(moved, h.Advanced(Progress("pulling", 0.6, "more")), NOW).facts.deadline == NOW + 120


def test_a_clash_gives_the_name_up() -> None:
    after = fold(life(Phase.STARTING, current=container(), busy=Effect.LAUNCH), h.Clashed(), NOW).facts
    assert (after.current, after.busy, after.port_tries) == (None, None, 1)


@pytest.mark.parametrize(
    ("phase", "kept"),
    [
        (Phase.PULLING, False),
        (Phase.STARTING, False),
        (Phase.READY, False),
        (Phase.OFFLINE, False),
        (Phase.UNLOADING, True),
        (Phase.ERROR, True),
    ],
)
def test_a_fault_is_remembered_where_it_says_why(phase: Phase, kept: bool) -> None:
    entered = enter(life(Phase.WARMING, fault=TRANSIENT, busy=Effect.LAUNCH), phase, NOW + 9)
    assert (entered.facts.fault is not None) is kept
    assert (entered.phase, entered.facts.busy, entered.facts.deadline) == (phase, None, NOW + 9)


def test_ready_and_offline_end_a_story() -> None:
    swapping = life(Phase.WARMING, swap=Swap("one", "two"), failure=TRANSIENT, attempts=Attempts(2, NOW, NOW))
    at_ready = enter(swapping, Phase.READY, NEVER).facts
    assert (at_ready.swap, at_ready.failure, at_ready.attempts.count) == (None, None, 2)
    assert fold(ready(attempts=Attempts(2, NOW, NOW)), h.StayedHealthy(), NOW).facts.attempts == Attempts()
    at_offline = enter(swapping, Phase.OFFLINE, NEVER).facts
    assert (at_offline.swap, at_offline.attempts, at_offline.fetched) == (None, Attempts(), False)
