"""The circuit of an upstream: a table of lives, and what holds for every life."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal0.upstreams.circuit import Circuit, Current


def failed(times: int, circuit: Circuit | None = None, at: float = 0.0) -> Circuit:
    circuit = circuit or Circuit()
    for _ in range(times):
        circuit = circuit.failed(at)
    return circuit


@pytest.mark.parametrize("failures", range(5))
def test_fewer_than_five_failures_change_nothing(failures: int) -> None:
    assert failed(failures).current(0.0) is Current.CLOSED
    assert failed(failures).passes(0.0)


def test_a_success_between_failures_starts_the_count_anew() -> None:
    assert failed(4, failed(4).succeeded()).current(0.0) is Current.CLOSED


def test_the_fifth_opens_it_for_ten_seconds() -> None:
    circuit = failed(5)
    assert not circuit.passes(9.99)
    assert circuit.current(10.0) is Current.HALF_OPEN
    assert circuit.passes(10.0)


def test_half_open_lets_one_through() -> None:
    circuit = failed(5).begun(10.0)
    assert not circuit.passes(10.0)
    assert circuit.abandoned().passes(10.0)
    assert circuit.answered().passes(10.0)
    assert circuit.answered().succeeded() == Circuit()


def test_each_failed_trial_doubles_the_pause_up_to_five_minutes() -> None:
    circuit, now, pauses = failed(5), 0.0, []
    for _ in range(8):
        assert circuit.until is not None
        pauses.append(circuit.until - now)
        now = circuit.until
        circuit = circuit.begun(now).failed(now)
    assert pauses == [10, 20, 40, 80, 160, 300, 300, 300]


def test_requests_that_were_under_way_together_do_not_double_it() -> None:
    assert failed(40).until == failed(5).until
    assert failed(40).failures == 40


STEPS = st.lists(
    st.tuples(st.sampled_from(["failed", "broken", "succeeded", "abandoned"]), st.floats(0, 400)), max_size=40
)


@given(STEPS)
def test_whatever_happens_it_has_a_way_out(steps: list[tuple[str, float]]) -> None:
    circuit, now = Circuit(), 0.0
    for what, later in steps:
        now += later
        if not circuit.passes(now):
            continue
        circuit = circuit.begun(now)
        match what:
            case "failed":
                circuit = circuit.failed(now)
            case "broken":
                circuit = circuit.answered().failed(now)
            case "succeeded":
                circuit = circuit.answered().succeeded()
            case _:
                circuit = circuit.abandoned()
        assert circuit.passes(now + 300.0)
        assert circuit.passes(now) or circuit.until is not None
    if circuit.failures < 5:
        assert circuit.passes(now)
