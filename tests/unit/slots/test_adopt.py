"""The boot table, row by row: what the disk remembers, what podman has, where the slot stands."""

from dataclasses import replace
from typing import Any

import pytest

from hal0.engine.base import ContainerInfo, ContainerStatus
from hal0.slots.adopt import LABEL_GENERATION, LABEL_MODEL, Configured, Found, adopt
from hal0.slots.happenings import Life
from hal0.slots.record import Attempts, Load, SlotRecord, Swap, SwapStep
from hal0.slots.state import NEVER, Decision, Effect, decide
from hal0.vocab import By, Phase, Role, Want
from tests.unit.slots.lives import (
    ENGINE,
    NOW,
    PERMANENT,
    TRANSIENT,
    container,
    loaded,
    record,
    unloaded,
)

RUNNING, EXITED, CREATED = ContainerStatus.RUNNING, ContainerStatus.EXITED, ContainerStatus.CREATED
STOPPING = ContainerStatus.STOPPING
QUIET = Configured(autoload=False, seed_model="seed")
EAGER = Configured(autoload=True, seed_model="seed")


def found(
    generation: int = 1, status: ContainerStatus = RUNNING, *, model: str = "one", answers: bool = False, **more: Any
) -> Found:
    labels = {LABEL_GENERATION: str(generation), LABEL_MODEL: model}
    name = f"hal0-0badcafe-primary-{generation}"
    info = ContainerInfo(id=f"id{generation}", name=name, status=status, labels=labels, host_port=20000, **more)
    return Found(info, answers=answers)


def place(past: SlotRecord | None, *there: Found, config: Configured = QUIET) -> Life:
    return adopt(past, there, config, NOW)


def next_step(life: Life) -> Decision:
    return decide(life.desired, life.phase, life.facts, NOW)


def named(life: Life) -> tuple[int | None, list[int]]:
    """Generations of the current container and of those that leave."""
    current = life.facts.current
    return current.generation if current else None, [c.generation for c in life.facts.leaving]


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.WARMING, Phase.READY, Phase.PULLING])
def test_starting_n_and_nothing_there(phase: Phase) -> None:
    life = place(record(phase, containers=(container(),)))
    assert next_step(life) == Decision(Phase.PULLING, Effect.FETCH)
    assert life.facts.generation == 1, "the next one is n+1"
    assert next_step(place(record(phase, unloaded()))) == Decision(Phase.OFFLINE)


def test_starting_n_and_created_n() -> None:
    life = place(record(Phase.STARTING, containers=(container(port=20000),)), found(1, CREATED))
    assert named(life) == (None, [1])
    assert life.facts.leaving[0].port is None, "it listens nowhere: its port may be leased"
    assert next_step(life) == Decision(Phase.PULLING, Effect.FETCH)


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.WARMING, Phase.READY])
@pytest.mark.parametrize(("answers", "then"), [(True, Phase.READY), (False, Phase.WARMING)])
def test_running_n_is_adopted(phase: Phase, answers: bool, then: Phase) -> None:
    life = place(record(phase, containers=(container(),)), found(answers=answers))
    assert life.phase is then
    assert life.facts.launched
    assert named(life) == (1, [])
    assert next_step(life) == Decision(then)


@pytest.mark.parametrize("phase", list(Phase))
def test_want_unloaded_and_running_is_finished(phase: Phase) -> None:
    """Also started by hand while offline: desired wins."""
    life = place(record(phase, unloaded(), containers=(container(),)), found(answers=True))
    assert life.phase is Phase.UNLOADING
    assert next_step(life) == Decision(Phase.UNLOADING, Effect.DRAIN)


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.WARMING, Phase.READY, Phase.ERROR])
def test_exited_n_is_read_and_removed(phase: Phase) -> None:
    life = place(record(phase, containers=(container(),), failure=PERMANENT), found(1, EXITED))
    assert life.phase is Phase.ERROR
    assert next_step(life) == Decision(Phase.ERROR, Effect.BURY)
    assert life.facts.fault is not None
    assert not life.facts.fault.settled


def test_exited_after_our_own_stop_is_no_failure() -> None:
    """A swap that was killed between stop and remove goes forward, not back."""
    past = record(Phase.UNLOADING, loaded("two"), containers=(container(),), swap=Swap("one", "two"))
    life = place(past, found(1, EXITED))
    assert life.facts.fault is None
    assert named(life) == (None, [1])
    assert life.desired.model == "two"
    assert life.facts.swap == Swap("one", "two")


def test_what_podman_believes_to_run_and_whose_process_is_gone_is_a_loss() -> None:
    lost = replace(found(1), lost=True)
    life = place(record(Phase.READY, containers=(container(),)), lost)
    assert life.facts.fault is not None
    assert next_step(life) == Decision(Phase.ERROR, Effect.BURY)
    beside = place(
        record(Phase.READY, containers=(container(2),)), replace(found(2), lost=True), found(1, answers=True)
    )
    assert (beside.phase, named(beside)) == (Phase.READY, (1, [2]))


@pytest.mark.parametrize(
    ("seen", "pid", "began", "lost"),
    [
        (7, 70, 7, False),
        (7, 70, None, True),
        (7, 70, 8, True),  # another process has its pid by now
        (7, 71, None, False),  # podman has started it again since
        (None, 70, None, False),  # hal0 has never seen it: in another PID namespace
    ],
)
def test_a_process_that_was_seen_and_is_another_one_by_now_is_gone(
    seen: int | None, pid: int, began: int | None, lost: bool
) -> None:
    assert container(pid=70, pid_start=seen).is_lost(pid, began) is lost


def test_stopping_that_answers_no_more_is_unloaded() -> None:
    life = place(record(Phase.UNLOADING, containers=(container(),)), found(1, STOPPING))
    assert life.phase is Phase.UNLOADING
    still_up = place(record(Phase.READY, containers=(container(),)), found(1, STOPPING, answers=True))
    assert still_up.phase is Phase.READY, "podman's `stopping` may stick although nobody stops it"


SWAP = {"swap": Swap("one", "two"), "containers": (container(2, "two"),), "generation": 2}


def test_a_swap_before_the_old_one_left_is_continued() -> None:
    life = place(record(Phase.UNLOADING, loaded("two"), **SWAP), found(1, answers=True))
    assert life.phase is Phase.UNLOADING
    assert life.facts.swap == Swap("one", "two")
    assert next_step(life) == Decision(Phase.UNLOADING, Effect.DRAIN)


def test_a_swap_whose_new_model_answers_is_done() -> None:
    life = place(record(Phase.WARMING, loaded("two"), **SWAP), found(2, model="two", answers=True))
    assert life.phase is Phase.READY
    assert life.facts.swap is None
    assert next_step(life) == Decision(Phase.READY)


def test_a_swap_whose_new_model_warms_may_still_go_back() -> None:
    life = place(record(Phase.WARMING, loaded("two"), **SWAP), found(2, model="two"))
    assert life.phase is Phase.WARMING
    assert life.facts.swap == Swap("one", "two")


def test_a_swap_with_both_running_keeps_the_one_that_answers() -> None:
    past = record(Phase.WARMING, loaded("two"), **SWAP)
    assert named(place(past, found(1, answers=True), found(2, model="two"))) == (1, [2])
    assert named(place(past, found(1), found(2, model="two", answers=True))) == (2, [1])
    assert named(place(past, found(1), found(2, model="two"))) == (2, [1])


def test_a_rollback_goes_on_as_a_rollback() -> None:
    """Also when the new model's failure was permanent: it is not the old one's."""
    past = record(Phase.ERROR, loaded("one"), swap=Swap("one", "two", SwapStep.ROLLBACK), failure=PERMANENT)
    life = place(past)
    assert life.desired.model == "one"
    assert next_step(life) == Decision(Phase.PULLING, Effect.FETCH)
    back = place(record(Phase.WARMING, loaded(), swap=Swap("one", "two", SwapStep.ROLLBACK)), found(answers=True))
    assert back.phase is Phase.READY
    assert back.facts.swap is None


def test_no_record_and_running_is_rebuilt_from_labels() -> None:
    life = place(None, found(3, model="two", answers=True, image_id="img", pid=7))
    assert life.phase is Phase.READY
    assert life.desired.want is Want.LOADED
    assert life.desired.model == "two"
    current = life.facts.current
    assert current is not None
    assert (current.generation, current.port, current.image_id, current.pid) == (3, 20000, "img", 7)


def test_no_record_and_nothing_there_is_up_to_autoload() -> None:
    assert place(None).desired.want is Want.UNLOADED
    assert next_step(place(None, config=EAGER)) == Decision(Phase.PULLING, Effect.FETCH)
    assert next_step(place(None, config=Configured(autoload=True, seed_model=None))) == Decision(Phase.OFFLINE)


def test_two_running_without_a_swap_keep_the_records() -> None:
    past = record(Phase.READY, containers=(container(1),))
    assert named(place(past, found(1), found(2, answers=True))) == (1, [2])


def test_two_running_and_no_record_keep_the_newer_that_answers() -> None:
    assert named(place(None, found(1, answers=True), found(2))) == (1, [2])
    assert named(place(None, found(1, answers=True), found(2, answers=True))) == (2, [1])
    assert named(place(None, found(1), found(2))) == (2, [1])
    assert place(None, found(1), found(2)).facts.generation == 2


def test_a_dead_one_beside_a_running_one_just_leaves() -> None:
    assert named(place(record(Phase.READY, containers=(container(2),)), found(1, EXITED), found(2))) == (2, [1])


@pytest.mark.parametrize(
    ("desired", "autoload", "want"),
    [
        (unloaded(by=By.IDLE), True, Want.LOADED),
        (unloaded(by=By.EVICTED), True, Want.LOADED),
        (unloaded(by=By.OPERATOR), True, Want.UNLOADED),
        (unloaded(by=By.IDLE), False, Want.UNLOADED),
        (loaded(), False, Want.LOADED),
    ],
)
def test_autoload_overrides_what_was_unloaded_for_room(desired: Any, autoload: bool, want: Want) -> None:
    past = record(Phase.OFFLINE, desired, load_history=(Load("one", NOW, 1.0, 1.0),))
    life = place(past, config=Configured(autoload=autoload, seed_model="seed"))
    assert life.desired.want is want
    assert life.desired.model == "one", "the record's model, not the seed"


def test_an_error_goes_on_as_it_was() -> None:
    rests = place(record(Phase.ERROR, failure=PERMANENT, attempts=Attempts(1, NOW, None)))
    assert (rests.phase, rests.facts.retry_at) == (Phase.ERROR, NEVER)
    waits = place(record(Phase.ERROR, failure=TRANSIENT, attempts=Attempts(5, NOW, NOW + 60)))
    assert (waits.phase, waits.facts.retry_at, waits.facts.attempts.count) == (Phase.ERROR, NOW + 60, 5)


def test_an_error_whose_burial_was_cut_short_is_tried_again() -> None:
    """The container is gone, the attempt was never counted: without a time it would wait for ever."""
    life = place(record(Phase.ERROR, failure=TRANSIENT, containers=(container(),)))
    assert life.facts.fault is not None
    assert life.facts.fault.settled
    assert next_step(life) == Decision(Phase.PULLING, Effect.FETCH)


def test_an_error_of_the_engines_is_over_when_the_engine_answers() -> None:
    life = place(record(Phase.ERROR, failure=ENGINE, attempts=Attempts(9, NOW, NOW + 300)))
    assert next_step(life) == Decision(Phase.PULLING, Effect.FETCH)


def test_an_error_that_nobody_wants_any_more_is_offline() -> None:
    assert next_step(place(record(Phase.ERROR, unloaded(), failure=PERMANENT))) == Decision(Phase.OFFLINE)


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("status", [None, *ContainerStatus])
@pytest.mark.parametrize("answers", [False, True])
@pytest.mark.parametrize("swap", [None, Swap("one", "two"), Swap("one", "two", SwapStep.ROLLBACK)])
@pytest.mark.parametrize("desired", [loaded(), loaded("two"), unloaded()])
def test_no_combination_stands_still_where_it_is_not_wanted(
    phase: Phase, status: ContainerStatus | None, answers: bool, swap: Swap | None, desired: Any
) -> None:
    past = record(phase, desired, containers=(container(),), swap=swap)
    life = place(past, *([found(1, status, answers=answers)] if status else []))
    step = next_step(life)
    rests = step.phase is life.phase and step.effect is None
    if rests and life.desired.want is Want.LOADED:
        assert life.phase in (Phase.READY, Phase.WARMING)
        assert life.facts.current is not None
        assert life.facts.current.model == life.desired.model
    if rests and life.desired.want is Want.UNLOADED:
        assert life.phase is Phase.OFFLINE
    for leaving in life.facts.leaving:
        assert leaving.role is Role.LEAVING
