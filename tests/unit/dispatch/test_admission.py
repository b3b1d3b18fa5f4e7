"""The hold contract as a table: slot and waiter in, verdict out."""

from dataclasses import replace
from typing import Any

import pytest

from hal0.dispatch.admission import Go, Refuse, Wait, Waiter, admission, remaining_load_s
from hal0.providers.base import Endpoint
from hal0.slots.handle import SlotFailure
from hal0.slots.record import Progress
from hal0.vocab import FailureClass, Phase, Want
from tests.fakes.slots import LOADING, READY, snapshot

NOW = 1000.0
UP = {**READY, "endpoint": Endpoint("127.0.0.1", 20000, "s")}
FULL = {**UP, "max_inflight": 2, "in_flight": 2, "queue_limit": 3}
LEAVING = {"phase": Phase.UNLOADING, "want": Want.UNLOADED}
BROKEN = {"phase": Phase.ERROR, "want": Want.LOADED}


def failure(kind: FailureClass, *, settled: bool = True) -> SlotFailure:
    return SlotFailure(kind, "slot.exited", "killed", NOW, settled=settled)


TRANSIENT, PERMANENT = failure(FailureClass.TRANSIENT), failure(FailureClass.PERMANENT)
CROWDED = replace(TRANSIENT, code="slot.memory_budget")


def verdict(slot: dict[str, Any], **waiter: Any) -> object:
    """The verdict's name; a refusal's code; with '+load' when a load is asked for."""
    slot = dict(slot)
    in_flight = slot.pop("in_flight", 0)
    made = admission(snapshot(**slot), in_flight, Waiter(**{"arrived": NOW, "hold_s": 60.0, **waiter}), NOW)
    match made:
        case Go():
            return "go"
        case Wait(load=load):
            return "wait+load" if load else "wait"
        case Refuse(error=error, load=load):
            return error.code + ("+load" if load else "")


@pytest.mark.parametrize(
    ("slot", "waiter", "expected"),
    [
        (UP, {}, "go"),
        ({**UP, "max_inflight": 2, "in_flight": 1}, {}, "go"),
        ({**UP, "max_inflight": 2, "in_flight": 1}, {"ahead": 1}, "wait"),
        (FULL, {}, "wait"),
        (FULL, {"ahead": 2}, "wait"),
        (FULL, {"ahead": 3}, "slot.queue_full"),
        (FULL, {"ahead": 3, "queued": True}, "wait"),
        (FULL, {"ahead": 1, "behind": 2}, "slot.queue_full"),  # its share would let it pass, and there is no place
        (FULL, {"patience_s": 5.0}, "wait"),
        (FULL, {"patience_s": 5.0, "arrived": NOW - 5}, "slot.queue_full"),
        (FULL, {"arrived": NOW - 500}, "wait"),  # the hold is for loads; a queue has no end of its own
        (LOADING, {}, "wait"),
        (LOADING, {"ahead": 999}, "wait"),
        (LOADING, {"ahead": 1000}, "slot.queue_full"),  # each brings a body along
        ({}, {"ahead": 1000}, "slot.queue_full"),
        (LOADING, {"hold_s": 0.0}, "slot.loading"),
        (LOADING, {"arrived": NOW - 60}, "slot.loading"),
        (LOADING, {"arrived": NOW - 60, "held_from": NOW - 1}, "wait"),  # before, it waited for room
        (LOADING, {"arrived": NOW - 60, "held_from": NOW - 1, "patience_s": 60.0}, "slot.loading"),
        ({**LOADING, "expected_load_s": 90.0, "load_started_at": NOW - 40}, {}, "wait"),
        ({**LOADING, "expected_load_s": 90.0, "load_started_at": NOW - 10}, {}, "slot.loading"),
        ({**LOADING, "max_inflight": 1, "queue_limit": 2}, {"ahead": 3}, "slot.queue_full"),
        ({**READY, "endpoint": None}, {}, "wait"),
        ({}, {}, "wait+load"),
        ({"expected_load_s": 90.0}, {}, "slot.loading+load"),
        ({"load_on_request": False}, {}, "slot.offline"),
        ({"load_on_request": False, "want": Want.LOADED}, {}, "wait+load"),
        ({"model": None, "serves": ()}, {}, "slot.no_model"),
        ({"model_missing": "X is not downloaded, 2.5 GB"}, {}, "model.not_downloaded"),
        ({}, {"joined": True}, "slot.load_cancelled"),
        ({}, {"turn_in_s": 59.0}, "wait+load"),
        ({}, {"turn_in_s": 61.0}, "slot.loading+load"),
        ({"expected_load_s": 30.0}, {"turn_in_s": 31.0}, "slot.loading+load"),
        (UP, {"turn_in_s": 10.0}, "wait+load"),  # loaded, and its turn is over
        (UP, {"turn_in_s": 10.0, "hold_s": 5.0}, "slot.loading+load"),
        (FULL, {"turn_in_s": 10.0, "ahead": 3}, "slot.queue_full"),
        (LEAVING, {}, "wait"),
        (LEAVING, {"joined": True}, "slot.load_cancelled"),
        ({**LEAVING, "want": Want.LOADED}, {"joined": True}, "wait"),
        ({**BROKEN, "failure": failure(FailureClass.PERMANENT, settled=False)}, {}, "wait"),
        ({**BROKEN, "failure": PERMANENT}, {}, "slot.load_failed"),
        ({**BROKEN, "failure": TRANSIENT, "next_attempt_at": NOW + 8}, {}, "slot.crash_looping"),
        ({**BROKEN, "failure": TRANSIENT, "next_attempt_at": NOW}, {}, "wait"),
        ({**BROKEN, "failure": CROWDED, "next_attempt_at": NOW + 8}, {}, "wait+load"),
        ({**BROKEN, "failure": TRANSIENT}, {}, "slot.load_failed"),
        ({**BROKEN, "failure": TRANSIENT, "want": Want.UNLOADED}, {}, "wait+load"),
    ],
)
def test_the_hold_contract(slot: dict[str, Any], waiter: dict[str, Any], expected: str) -> None:
    assert verdict(slot, **waiter) == expected


@pytest.mark.parametrize("phase", list(Phase))
def test_every_phase_has_a_verdict(phase: Phase) -> None:
    assert isinstance(admission(snapshot(phase=phase), 0, Waiter(NOW, 60.0), NOW), Wait | Refuse)


@pytest.mark.parametrize(
    ("expected_s", "started", "left"),
    [(None, None, None), (30.0, None, 30.0), (30.0, NOW - 10, 20.0), (30.0, NOW - 99, 1.0)],
)
def test_what_is_left_of_a_load(expected_s: float | None, started: float | None, left: float | None) -> None:
    assert remaining_load_s(snapshot(expected_load_s=expected_s, load_started_at=started), NOW) == left


def test_retry_after_is_the_slots_own_figure() -> None:
    slot = snapshot(**LOADING, expected_load_s=45.0, load_started_at=NOW - 5)
    made = admission(slot, 0, Waiter(NOW, 10.0, ahead=4), NOW)
    assert isinstance(made, Refuse)
    assert made.error.retry_after_s == 40.0
    assert made.error.details["position"] == 5  # as in X-Hal0-Queue-Position: 1 is the next to go in


@pytest.mark.parametrize(
    ("waiter", "seconds"),
    [
        ({"ahead": 3, "service_s": 6.0}, 12.0),  # four go in before, two at a time
        ({"ahead": 1, "behind": 2, "service_s": 6.0}, 6.0),  # its share lets it pass two of them
        ({"ahead": 3}, 10.0),
        ({"queued": True, "patience_s": 5.0, "arrived": NOW - 5, "service_s": 0.5}, 0.25),
    ],
)
def test_a_full_slot_says_when_a_request_would_have_gone_in(waiter: dict[str, Any], seconds: float) -> None:
    slot = {name: value for name, value in FULL.items() if name != "in_flight"}
    made = admission(snapshot(**slot), 2, Waiter(**{"arrived": NOW, "hold_s": 60.0, **waiter}), NOW)
    assert isinstance(made, Refuse)
    assert made.error.code == "slot.queue_full"
    assert made.error.retry_after_s == seconds


def test_a_load_under_way_is_told_as_the_slot_tells_it() -> None:
    slot = snapshot(**LOADING, progress=Progress("loading", 0.4, "reading the model"))
    made = admission(slot, 0, Waiter(NOW, 0.0), NOW)
    assert isinstance(made, Refuse)
    assert made.error.message == "cannot answer yet: slot 'primary' is loading 'fake-chat' (reading the model)"
    assert made.error.body()["error"]["details"] == {
        "slot": "primary",
        "state": "warming",
        "progress": {"phase": "loading", "fraction": 0.4, "message": "reading the model", "source": None},
        "position": 1,
        "retry_after_s": 10.0,
    }


def test_a_turn_that_is_too_far_away_is_told_with_the_load_after_it() -> None:
    made = admission(snapshot(expected_load_s=7.0), 0, Waiter(NOW, 20.0, turn_in_s=30.0), NOW)
    assert isinstance(made, Refuse)
    assert made.error.retry_after_s == 37.0
    assert made.error.message == "cannot answer yet: slot 'primary' waits for its turn (other slots have the memory)"
    assert made.error.details["progress"]["phase"] == "waiting"
