"""Names as users may write them."""

import pytest

from hal0.vocab import (
    BUILTIN_SLOTS,
    MODEL_ID,
    PRIMARY_PORT,
    REQUEST_ID,
    RESERVED_SLOTS,
    SLOT_NAME,
    SLOT_PORTS,
    Phase,
    SlotState,
)


@pytest.mark.parametrize("name", ["a", "my-slot", "a_b-9", "x" * 32, *RESERVED_SLOTS])
def test_slot_names(name: str) -> None:
    assert SLOT_NAME.match(name)


@pytest.mark.parametrize("name", ["", "9a", "-a", "_a", "A", "a.b", "a/b", "a b", "x" * 33, "a\n", "ä"])
def test_what_is_no_slot_name(name: str) -> None:
    assert not SLOT_NAME.match(name)


@pytest.mark.parametrize("model", ["q", "qwen3-4b-q4_k_m", "4x7b", "a.b_c-d", "m" * 128])
def test_model_ids(model: str) -> None:
    assert MODEL_ID.match(model)


@pytest.mark.parametrize("model", ["", ".a", "-a", "A", "a/b", "../x", "a:b", "a\n", "m" * 129])
def test_what_is_no_model_id(model: str) -> None:
    assert not MODEL_ID.match(model)


@pytest.mark.parametrize(
    ("value", "ok"), [("abc-1.2_X", True), ("x" * 64, True), ("x" * 65, False), ("a b", False), ("a\r\n", False)]
)
def test_request_ids(value: str, ok: bool) -> None:
    assert bool(REQUEST_ID.match(value)) is ok


def test_five_builtins_and_nineteen_ports_with_the_first_for_primary() -> None:
    assert BUILTIN_SLOTS == ("primary", "embed", "stt", "tts", "img")
    assert (SLOT_PORTS[0], SLOT_PORTS[-1], len(SLOT_PORTS)) == (8081, 8099, 19)
    assert SLOT_PORTS[0] == PRIMARY_PORT


def test_nine_states_are_the_phases_and_two_ways_of_being_ready() -> None:
    assert {state.value for state in SlotState} == {phase.value for phase in Phase} | {"serving", "idle"}
    assert len(SlotState) == 9
