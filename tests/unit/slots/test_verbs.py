"""Every verb in every phase: what it changes, what its job waits for, and how that job ends."""

from dataclasses import replace
from typing import Any

import pytest

from hal0.errors import Hal0Error
from hal0.slots import verbs
from hal0.slots.happenings import Life, Wished
from hal0.slots.learning import fold
from hal0.slots.record import Swap, SwapStep
from hal0.slots.state import NEVER
from hal0.slots.verbs import Asked, Goal
from hal0.vocab import By, Phase, Role, SwapMode, Want
from hal0.wire.jobs import JobKind, JobState
from tests.unit.slots.lives import NOW, PERMANENT, TRANSIENT, container, life, loaded, ready, unloaded

LOAD, UNLOAD, RESTART, SWAP = JobKind.LOAD, JobKind.UNLOAD, JobKind.RESTART, JobKind.SWAP

LIVES = {
    Phase.OFFLINE: life(Phase.OFFLINE, unloaded()),
    Phase.PULLING: life(Phase.PULLING),
    Phase.STARTING: life(Phase.STARTING, current=container(), generation=1),
    Phase.WARMING: life(Phase.WARMING, current=container(), generation=1, launched=True),
    Phase.READY: ready(),
    Phase.UNLOADING: life(Phase.UNLOADING, unloaded(), current=container(), generation=1, launched=True),
    Phase.ERROR: life(Phase.ERROR, fault=PERMANENT, retry_at=NEVER),
}
LOADING = (Phase.PULLING, Phase.STARTING, Phase.WARMING)

# (verb, model, phase) -> joins/done at once (None), or the wish: (want, model, swap from, restart)
EXPECTED: dict[tuple[JobKind, str | None, Phase], Any] = {
    **{(LOAD, None, p): None for p in (*LOADING, Phase.READY)},
    **{(LOAD, None, p): (Want.LOADED, "one", "-", False) for p in (Phase.OFFLINE, Phase.ERROR, Phase.UNLOADING)},
    **{(LOAD, "two", p): (Want.LOADED, "two", None, False) for p in LOADING},
    **{(LOAD, "two", p): (Want.LOADED, "two", "-", False) for p in (Phase.OFFLINE, Phase.ERROR, Phase.UNLOADING)},
    (LOAD, "two", Phase.READY): (Want.LOADED, "two", "one", False),
    **{(UNLOAD, None, p): (Want.UNLOADED, "one", "-", False) for p in (*LOADING, Phase.READY, Phase.ERROR)},
    **{(UNLOAD, None, p): None for p in (Phase.OFFLINE, Phase.UNLOADING)},
    **{(RESTART, None, p): (Want.LOADED, "one", "-", True) for p in Phase},
    **{(SWAP, "two", p): (Want.LOADED, "two", None, False) for p in (*LOADING, Phase.UNLOADING)},
    **{(SWAP, "two", p): (Want.LOADED, "two", "-", False) for p in (Phase.OFFLINE, Phase.ERROR)},
    (SWAP, "two", Phase.READY): (Want.LOADED, "two", "one", False),
    **{(SWAP, "one", p): None for p in (*LOADING, Phase.READY)},
    **{(SWAP, "one", p): (Want.LOADED, "one", "-", False) for p in (Phase.OFFLINE, Phase.ERROR)},
    (SWAP, "one", Phase.UNLOADING): (Want.LOADED, "one", None, False),
}


@pytest.mark.parametrize(("kind", "model", "phase"), EXPECTED)
def test_every_verb_in_every_phase(kind: JobKind, model: str | None, phase: Phase) -> None:
    wished, goal = verbs.wish(Asked(kind, model), LIVES[phase], NOW)
    expected = EXPECTED[kind, model, phase]
    if expected is None:
        assert wished is None
    else:
        want, target, swap_from, restart = expected
        assert wished is not None
        assert (wished.desired.want, wished.desired.model, wished.restart) == (want, target, restart)
        assert wished.desired.by is By.OPERATOR
        assert wished.swap == (None if swap_from == "-" else Swap(swap_from, target))
    assert goal.phase is (Phase.OFFLINE if kind is UNLOAD else Phase.READY)


def test_the_table_is_complete() -> None:
    for kind, model in ((LOAD, None), (LOAD, "two"), (UNLOAD, None), (RESTART, None), (SWAP, "one"), (SWAP, "two")):
        assert {phase for k, m, phase in EXPECTED if (k, m) == (kind, model)} == set(Phase)


BACK = SwapStep.ROLLBACK
ON_THE_WAY = (*LOADING, Phase.UNLOADING)

# Amid a change from `one` to `two`, old out and new in: as AMID below. In error the new one has died and is buried.
FORWARD: dict[tuple[JobKind, str | None, Phase], Any] = {
    **{(LOAD, model, p): None for model in (None, "two") for p in ON_THE_WAY},
    **{(LOAD, model, Phase.ERROR): (Want.LOADED, "two", False, Swap("one", "two")) for model in (None, "two")},
    **{(SWAP, "two", p): None for p in ON_THE_WAY},
    (SWAP, "two", Phase.ERROR): (Want.LOADED, "two", False, Swap("one", "two")),
    **{
        (kind, "one", p): (Want.LOADED, "one", False, None) for kind in (LOAD, SWAP) for p in (*ON_THE_WAY, Phase.ERROR)
    },
    **{
        (kind, "bad", p): (Want.LOADED, "bad", False, Swap("one", "bad"))
        for kind in (LOAD, SWAP)
        for p in (*ON_THE_WAY, Phase.ERROR)
    },
    **{(UNLOAD, None, p): (Want.UNLOADED, "one", False, None) for p in (*ON_THE_WAY, Phase.ERROR)},
    **{(RESTART, None, p): (Want.LOADED, "two", True, Swap("one", "two")) for p in (*ON_THE_WAY, Phase.ERROR)},
}
# On the way back to `one`; while unloading, what is left of `two` is cleared up after its fault.
ROLLBACK: dict[tuple[JobKind, str | None, Phase], Any] = {
    **{(kind, "one", p): None for kind in (LOAD, SWAP) for p in LOADING},
    **{(kind, "one", Phase.UNLOADING): (Want.LOADED, "one", False, None) for kind in (LOAD, SWAP)},
    **{(kind, "two", p): (Want.LOADED, "two", False, Swap("one", "two")) for kind in (LOAD, SWAP) for p in ON_THE_WAY},
    **{(UNLOAD, None, p): (Want.UNLOADED, "one", False, None) for p in ON_THE_WAY},
    **{(RESTART, None, p): (Want.LOADED, "one", True, Swap("one", "two", BACK)) for p in ON_THE_WAY},
}


@pytest.mark.parametrize(
    ("step", "key"), [*((SwapStep.FORWARD, key) for key in FORWARD), *((BACK, key) for key in ROLLBACK)]
)
def test_every_verb_amid_a_swap(step: SwapStep, key: tuple[JobKind, str | None, Phase]) -> None:
    kind, model, phase = key
    forward = step is SwapStep.FORWARD
    fault = TRANSIENT if phase is Phase.ERROR or (phase is Phase.UNLOADING and not forward) else None
    before = life(phase, loaded("two" if forward else "one"), swap=Swap("one", "two", step), fault=fault)
    wished, _ = verbs.wish(Asked(kind, model), before, NOW)
    expected = (FORWARD if forward else ROLLBACK)[key]
    found = wished and (wished.desired.want, wished.desired.model, wished.restart, wished.swap)
    assert found == expected


def test_a_swap_of_what_is_being_restarted_knows_what_served() -> None:
    restarting = life(Phase.UNLOADING, current=container(), launched=True, restart=True)
    wished, _ = verbs.wish(Asked(SWAP, "two"), restarting, NOW)
    assert wished is not None
    assert wished.swap == Swap("one", "two")


@pytest.mark.parametrize("by", list(By))
def test_what_left_by_itself_and_is_unloaded_by_hand_stays_away(by: By) -> None:
    """Else the next boot would load again what its operator has unloaded, or the GPU what made way for images."""
    gone = life(Phase.OFFLINE, unloaded(by=by))
    wished, goal = verbs.wish(Asked(UNLOAD), gone, NOW)
    after = gone if wished is None else fold(gone, wished, NOW)
    assert after.desired.want is Want.UNLOADED
    assert after.desired.by not in (By.IDLE, By.EVICTED, By.ARBITER)
    assert verbs.outcome(goal, after, NOW) == (JobState.DONE, None), "done at once"


def overlapping(step: SwapStep = SwapStep.WARMING, wanted: str = "two") -> Life:
    coming = container(2, "two", Role.NEXT)
    return replace(ready(swap=Swap("one", "two", step), next=coming, generation=2), desired=loaded(wanted))


# While `two` comes beside `one`, and while it is undone again: as EXPECTED; the last is the new swap, None: none.
AMID: dict[tuple[JobKind, str | None, SwapStep], Any] = {
    (LOAD, None, SwapStep.WARMING): None,
    (LOAD, "two", SwapStep.WARMING): None,
    (LOAD, "one", SwapStep.WARMING): (Want.LOADED, "one", False, None),
    (LOAD, "bad", SwapStep.WARMING): (Want.LOADED, "bad", False, Swap("one", "bad", SwapStep.PULLING)),
    (UNLOAD, None, SwapStep.WARMING): (Want.UNLOADED, "one", False, None),
    (RESTART, None, SwapStep.WARMING): (Want.LOADED, "two", True, Swap("one", "two", SwapStep.PULLING)),
    (SWAP, "two", SwapStep.WARMING): None,
    (SWAP, "one", SwapStep.WARMING): (Want.LOADED, "one", False, None),
    (SWAP, "bad", SwapStep.WARMING): (Want.LOADED, "bad", False, Swap("one", "bad", SwapStep.PULLING)),
    (LOAD, None, SwapStep.UNDOING): None,
    (LOAD, "one", SwapStep.UNDOING): None,
    (LOAD, "two", SwapStep.UNDOING): (Want.LOADED, "two", False, Swap("one", "two", SwapStep.PULLING)),
    (UNLOAD, None, SwapStep.UNDOING): (Want.UNLOADED, "one", False, None),
    (RESTART, None, SwapStep.UNDOING): (Want.LOADED, "one", True, None),
    (SWAP, "two", SwapStep.UNDOING): (Want.LOADED, "two", False, Swap("one", "two", SwapStep.PULLING)),
    (SWAP, "one", SwapStep.UNDOING): None,
}


@pytest.mark.parametrize(("kind", "model", "step"), AMID)
def test_every_verb_amid_an_overlap(kind: JobKind, model: str | None, step: SwapStep) -> None:
    before = overlapping(step, "one" if step is SwapStep.UNDOING else "two")
    wished, _ = verbs.wish(Asked(kind, model, mode=SwapMode.OVERLAP), before, NOW)
    expected = AMID[kind, model, step]
    if expected is None:
        assert wished is None
        return
    assert wished is not None
    assert (wished.desired.want, wished.desired.model, wished.restart, wished.swap) == expected
    after = fold(before, wished, NOW).facts
    assert (after.next, [c.name for c in after.leaving]) == (None, ["hal0-0badcafe-primary-2"]), "what came leaves"


@pytest.mark.parametrize("phase", list(Phase))
def test_only_what_serves_is_swapped_by_overlap(phase: Phase) -> None:
    wished, _ = verbs.wish(Asked(SWAP, "two", mode=SwapMode.OVERLAP), LIVES[phase], NOW)
    assert wished is not None
    assert (wished.swap is not None and wished.swap.overlaps) == (phase is Phase.READY)


@pytest.mark.parametrize("phase", list(Phase))
def test_reset_is_for_errors_alone(phase: Phase) -> None:
    if phase is Phase.ERROR:
        after = fold(LIVES[phase], verbs.reset(LIVES[phase], NOW), NOW)
        assert after.facts.fault is None
        assert after.desired.want is Want.LOADED
        amid = life(phase, loaded("two"), fault=TRANSIENT, swap=Swap("one", "two"))
        assert verbs.reset(amid, NOW).swap == Swap("one", "two"), "the way back stays"
    else:
        with pytest.raises(Hal0Error, match="not in error") as caught:
            verbs.reset(LIVES[phase], NOW)
        assert caught.value.code == "slot.illegal_transition"


@pytest.mark.parametrize("kind", [LOAD, RESTART, SWAP])
def test_without_a_model_nothing_can_be_loaded(kind: JobKind) -> None:
    with pytest.raises(Hal0Error, match="no model") as caught:
        verbs.wish(Asked(kind), life(Phase.OFFLINE, unloaded(None)), NOW)
    assert caught.value.code == "slot.no_model"


def test_a_load_joins_a_swap_that_still_unloads() -> None:
    """It would otherwise lose the way back to the old model."""
    swapping = life(Phase.UNLOADING, loaded("two"), current=container(), swap=Swap("one", "two"))
    assert verbs.wish(Asked(LOAD, "two"), swapping, NOW)[0] is None
    cleared_up = life(Phase.UNLOADING, loaded("two"), current=container(), fault=TRANSIENT)
    assert verbs.wish(Asked(LOAD, "two"), cleared_up, NOW)[0] is not None, "a load forgets failures"


def test_a_second_swap_still_knows_the_model_that_served() -> None:
    swapping = life(Phase.WARMING, loaded("two"), current=container(2, "two"), swap=Swap("one", "two"))
    wished, _ = verbs.wish(Asked(SWAP, "three"), swapping, NOW)
    assert wished is not None
    assert wished.swap == Swap("one", "three")


def test_an_unload_during_a_swap_keeps_the_model_that_served() -> None:
    swapping = life(Phase.WARMING, loaded("two"), current=container(2, "two"), swap=Swap("one", "two"))
    wished, _ = verbs.wish(Asked(UNLOAD), swapping, NOW)
    assert wished is not None
    assert wished.desired.model == "one"


def test_cancel_goes_back_to_what_served_or_to_nothing() -> None:
    swapping = life(Phase.WARMING, loaded("two"), swap=Swap("one", "two"))
    assert verbs.cancel(swapping, NOW).desired == loaded("one")
    assert verbs.cancel(life(Phase.WARMING), NOW).desired == unloaded("one")
    restarting = life(Phase.UNLOADING, current=container(1, "one"), launched=True, restart=True)
    assert verbs.cancel(restarting, NOW).desired == loaded("one")


@pytest.mark.parametrize(
    ("goal", "desired", "ends"),
    [
        (Goal(Phase.OFFLINE, None), unloaded(), None),
        (Goal(Phase.OFFLINE, None), loaded(), JobState.SUPERSEDED),
        (Goal(Phase.READY, "one"), loaded("one"), None),
        (Goal(Phase.READY, "one"), loaded("two"), JobState.SUPERSEDED),
        (Goal(Phase.READY, "one"), unloaded(), JobState.CANCELLED),
    ],
)
def test_a_later_wish_ends_jobs_that_go_elsewhere(goal: Goal, desired: Any, ends: JobState | None) -> None:
    assert verbs.superseded_by(goal, desired) is ends


OUTCOMES: dict[str, tuple[Goal, Life, Any]] = {
    "ready": (Goal(Phase.READY, "one"), ready(), (JobState.DONE, None)),
    "not the new container yet": (Goal(Phase.READY, "one", 2), ready(), None),
    "still the old model": (Goal(Phase.READY, "two"), ready(swap=Swap("one", "two")), None),
    "about to be replaced": (Goal(Phase.READY, "one"), ready(restart=True), None),
    "the old model is back": (
        Goal(Phase.READY, "two", rolled_back=PERMANENT), ready(), (JobState.FAILED, PERMANENT),
    ),
    "unloaded": (Goal(Phase.OFFLINE, None), LIVES[Phase.OFFLINE], (JobState.DONE, None)),
    "unloading": (Goal(Phase.OFFLINE, None), LIVES[Phase.UNLOADING], None),
    "failed": (Goal(Phase.READY, "one"), LIVES[Phase.ERROR], (JobState.FAILED, PERMANENT)),
    "tried again at once": (
        Goal(Phase.READY, "one"), life(Phase.ERROR, fault=TRANSIENT, retry_at=NOW), None,
    ),
    "waits for its next try": (
        Goal(Phase.READY, "one"), life(Phase.ERROR, fault=TRANSIENT, retry_at=NOW + 1), (JobState.FAILED, TRANSIENT),
    ),
    "still reading why": (
        Goal(Phase.READY, "one"), life(Phase.ERROR, fault=TRANSIENT, retry_at=NEVER, current=container()), None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", OUTCOMES.values(), ids=OUTCOMES)
def test_how_jobs_end(row: tuple[Goal, Life, Any]) -> None:
    goal, at, ended = row
    assert verbs.outcome(goal, at, NOW) == ended


def test_a_wish_is_carried_into_the_facts() -> None:
    wished, _ = verbs.wish(Asked(SWAP, "two"), ready(), NOW)
    assert isinstance(wished, Wished)
    assert fold(ready(), wished, NOW).facts.swap == Swap("one", "two")
