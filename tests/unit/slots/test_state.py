"""`decide`, `shown` and the restart curve as tables."""

import itertools

import pytest

from hal0.hardware.pools import RAM
from hal0.slots.need import Need
from hal0.slots.record import Attempts
from hal0.slots.state import (
    NEVER,
    RETRY_CAP_S,
    TRANSITIONS,
    Decision,
    Effect,
    Facts,
    decide,
    next_attempt,
    shown,
)
from hal0.vocab import Phase, SlotState
from tests.unit.slots.lives import NOW, PERMANENT, TRANSIENT, container, loaded, unloaded

ONE = container()
L, F, D, R, B = Effect.LAUNCH, Effect.FETCH, Effect.DRAIN, Effect.RETIRE, Effect.BURY
A = Effect.ADMIT
ROOM = Need(pool=RAM, bytes=1)

TABLE = {
    "offline rests": (Phase.OFFLINE, unloaded(), {}, Phase.OFFLINE, None),
    "offline without a model is no error": (Phase.OFFLINE, loaded(None), {}, Phase.OFFLINE, None),
    "a wish begins with looking for the files": (Phase.OFFLINE, loaded(), {}, Phase.PULLING, F),
    "pulling goes on": (Phase.PULLING, loaded(), {"busy": F}, Phase.PULLING, None),
    "pulling begins anew for another model": (Phase.PULLING, loaded("two"), {}, Phase.PULLING, F),
    "pulled": (Phase.PULLING, loaded(), {"fetched": True}, Phase.STARTING, A),
    "pulling fails": (Phase.PULLING, loaded(), {"fault": PERMANENT}, Phase.ERROR, None),
    "unloaded while pulling": (Phase.PULLING, unloaded(), {"busy": F}, Phase.OFFLINE, None),
    "restart while pulling goes on": (Phase.PULLING, loaded(), {"busy": F, "restart": True}, Phase.PULLING, None),
    "starting goes on": (Phase.STARTING, loaded(), {"busy": L, "current": ONE}, Phase.STARTING, None),
    "started": (Phase.STARTING, loaded(), {"current": ONE, "launched": True}, Phase.WARMING, None),
    "waiting for memory": (Phase.STARTING, loaded(), {"fetched": True, "busy": A}, Phase.STARTING, None),
    "memory is asked for again": (Phase.STARTING, loaded(), {"fetched": True}, Phase.STARTING, A),
    "with memory it is launched": (Phase.STARTING, loaded(), {"fetched": True, "admitted": ROOM}, Phase.STARTING, L),
    "unloaded while waiting for memory": (
        Phase.STARTING, unloaded(), {"fetched": True, "busy": A}, Phase.UNLOADING, None,
    ),
    "another model while waiting for memory": (
        Phase.STARTING, loaded("two"), {"fetched": False, "busy": A}, Phase.UNLOADING, None,
    ),
    "no memory": (Phase.STARTING, loaded(), {"fault": PERMANENT}, Phase.ERROR, None),
    "a clash takes the next port": (
        Phase.STARTING, loaded(), {"port_tries": 1, "fetched": True, "admitted": ROOM}, Phase.STARTING, L,
    ),
    "a launch that ended without a word": (Phase.STARTING, loaded(), {"current": ONE}, Phase.UNLOADING, None),
    "a failed start is cleared up first": (
        Phase.STARTING, loaded(), {"current": ONE, "fault": TRANSIENT}, Phase.UNLOADING, None,
    ),
    "a start that made nothing": (Phase.STARTING, loaded(), {"fault": TRANSIENT}, Phase.ERROR, None),
    "unloaded while starting": (Phase.STARTING, unloaded(), {"busy": L, "current": ONE}, Phase.UNLOADING, None),
    "another model while starting": (Phase.STARTING, loaded("two"), {"busy": L, "current": ONE}, Phase.UNLOADING, None),
    "restart while starting": (
        Phase.STARTING, loaded(), {"busy": L, "current": ONE, "restart": True}, Phase.UNLOADING, None,
    ),
    "warming goes on": (Phase.WARMING, loaded(), {"current": ONE, "launched": True}, Phase.WARMING, None),
    "warm": (Phase.WARMING, loaded(), {"current": ONE, "launched": True, "ready": True}, Phase.READY, None),
    "dead while warming": (Phase.WARMING, loaded(), {"current": ONE, "fault": TRANSIENT}, Phase.ERROR, None),
    "broken while warming": (
        Phase.WARMING, loaded(), {"current": ONE, "launched": True, "fault": PERMANENT}, Phase.UNLOADING, None,
    ),
    "ready rests": (Phase.READY, loaded(), {"current": ONE, "launched": True, "ready": True}, Phase.READY, None),
    "dead while ready": (Phase.READY, loaded(), {"current": ONE, "fault": TRANSIENT}, Phase.ERROR, None),
    "unresponsive while ready": (
        Phase.READY, loaded(), {"current": ONE, "launched": True, "fault": TRANSIENT}, Phase.UNLOADING, None,
    ),
    "unload": (Phase.READY, unloaded(), {"current": ONE, "launched": True}, Phase.UNLOADING, None),
    "swap": (Phase.READY, loaded("two"), {"current": ONE, "launched": True}, Phase.UNLOADING, None),
    "unloading drains first": (Phase.UNLOADING, unloaded(), {"current": ONE, "launched": True}, Phase.UNLOADING, D),
    "then stops": (
        Phase.UNLOADING, unloaded(), {"current": ONE, "launched": True, "drained": True}, Phase.UNLOADING, R,
    ),
    "what died meanwhile needs no drain": (Phase.UNLOADING, unloaded(), {"current": ONE}, Phase.UNLOADING, R),
    "an engine that did not do it is asked again": (
        Phase.UNLOADING, unloaded(), {"current": ONE, "again_at": NOW - 1}, Phase.UNLOADING, R,
    ),
    "but not at once": (Phase.UNLOADING, unloaded(), {"current": ONE, "again_at": NOW + 1}, Phase.UNLOADING, None),
    "unloaded": (Phase.UNLOADING, unloaded(), {}, Phase.OFFLINE, None),
    "a swap goes on without offline": (Phase.UNLOADING, loaded("two"), {}, Phase.PULLING, F),
    "a restart knows its files": (Phase.UNLOADING, loaded(), {"fetched": True}, Phase.STARTING, A),
    "cleared up after a fault": (Phase.UNLOADING, loaded(), {"fault": TRANSIENT}, Phase.ERROR, None),
    "the dead are buried": (Phase.ERROR, loaded(), {"current": ONE, "fault": TRANSIENT}, Phase.ERROR, B),
    "once the engine answers": (
        Phase.ERROR, loaded(), {"current": ONE, "fault": TRANSIENT, "again_at": NOW + 1}, Phase.ERROR, None,
    ),
    "burying": (Phase.ERROR, loaded(), {"current": ONE, "fault": TRANSIENT, "busy": B}, Phase.ERROR, None),
    "error waits": (Phase.ERROR, loaded(), {"fault": TRANSIENT, "retry_at": NOW + 1}, Phase.ERROR, None),
    "for ever": (Phase.ERROR, loaded(), {"fault": PERMANENT, "retry_at": NEVER}, Phase.ERROR, None),
    "the next attempt": (
        Phase.ERROR, loaded(), {"fault": TRANSIENT, "retry_at": NOW, "fetched": True}, Phase.STARTING, A,
    ),
    "looks at its files when they may be the cause": (
        Phase.ERROR, loaded(), {"fault": TRANSIENT, "retry_at": NOW}, Phase.PULLING, F,
    ),
    "unloaded in error": (Phase.ERROR, unloaded(), {"fault": PERMANENT, "retry_at": NEVER}, Phase.OFFLINE, None),
    "started by hand in error": (Phase.ERROR, loaded(), {"current": ONE, "launched": True}, Phase.UNLOADING, None),
}  # fmt: skip


@pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)
def test_decide(row: tuple[object, ...]) -> None:
    phase, desired, facts, then, effect = row
    assert decide(desired, phase, Facts(**facts), NOW) == Decision(then, effect)  # type: ignore[arg-type]


def test_whatever_is_known_decide_keeps_to_the_table_and_to_one_container() -> None:
    """All combinations of what matters, also those that never meet."""
    values = itertools.product(
        Phase,
        (loaded(), loaded("two"), loaded(None), unloaded()),
        (None, ONE),
        (None, TRANSIENT),
        (None, *Effect),
        (False, True),  # launched
        (False, True),  # ready
        (False, True),  # drained
        (False, True),  # fetched
        (False, True),  # restart
        (NOW - 1, NOW + 1, NEVER),
        (NOW - 1, NOW + 1),
    )
    for phase, desired, current, fault, busy, launched, ready, drained, fetched, restart, retry_at, again_at in values:
        if current is not None and phase in (Phase.OFFLINE, Phase.PULLING):
            continue  # by the table's own construction: both are entered without a container
        facts = Facts(
            current=current, fault=fault, busy=busy, launched=launched, ready=ready, drained=drained,
            fetched=fetched, restart=restart, retry_at=retry_at, again_at=again_at,
        )  # fmt: skip
        got = decide(desired, phase, facts, NOW)
        assert got.phase is phase or got.phase in TRANSITIONS[phase], (phase, facts, got)
        assert got.phase is not phase or got.effect is None or busy is None, "one effect at a time"
        if got.effect is Effect.LAUNCH:
            assert current is None
            assert desired.model is not None
        if got.effect in (Effect.DRAIN, Effect.RETIRE, Effect.BURY):
            assert current is not None
        if got.phase in (Phase.OFFLINE, Phase.PULLING) or (got.phase is Phase.STARTING and phase is not got.phase):
            assert current is None, "these are entered without a container"


def test_every_phase_can_be_left_and_reached() -> None:
    assert TRANSITIONS.keys() == set(Phase)
    assert set().union(*TRANSITIONS.values()) == set(Phase)


@pytest.mark.parametrize(
    ("phase", "in_flight", "quiet_s", "idle_timeout_s", "state"),
    [
        (Phase.READY, 0, 0, 600, SlotState.READY),
        (Phase.READY, 1, 9999, 600, SlotState.SERVING),
        (Phase.READY, 0, 600, 600, SlotState.IDLE),
        (Phase.READY, 0, 599.9, 600, SlotState.READY),
        (Phase.READY, 0, 9999, 0, SlotState.READY),
        (Phase.UNLOADING, 3, 0, 600, SlotState.UNLOADING),
        (Phase.OFFLINE, 0, 9999, 600, SlotState.OFFLINE),
    ],
)
def test_shown(phase: Phase, in_flight: int, quiet_s: float, idle_timeout_s: float, state: SlotState) -> None:
    assert shown(phase, in_flight=in_flight, quiet_s=quiet_s, idle_timeout_s=idle_timeout_s) is state


def test_the_restart_curve() -> None:
    series, waits = Attempts(), []
    for _ in range(14):
        series = next_attempt(series, TRANSIENT, NOW, 1.0)
        assert series.next_at is not None
        waits.append(series.next_at - NOW)
    assert waits == [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, *[RETRY_CAP_S] * 4]
    assert series.window_start == NOW
    assert series.count == 14


def test_jitter_stretches_the_wait_and_permanent_never_ends() -> None:
    third = next_attempt(Attempts(2, NOW - 5), TRANSIENT, NOW, 1.2)
    assert third == Attempts(3, NOW - 5, NOW + 2.4)
    assert next_attempt(Attempts(), PERMANENT, NOW, 1.0).next_at is None
    assert next_attempt(Attempts(100_000), TRANSIENT, NOW, 0.8).next_at == NOW + 240
