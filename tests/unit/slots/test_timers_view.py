"""What time alone brings, and what a slot says about itself."""

from typing import Any

import pytest

from hal0.config.slots import SlotConfig
from hal0.slots import timers, warmup
from hal0.slots.happenings import Failed, Life
from hal0.slots.logbook import Logbook, opened
from hal0.slots.record import Attempts, Load, Progress, Swap
from hal0.slots.routing import endpoint_of, snapshot_of
from hal0.slots.shown import ModelFacts, Shown
from hal0.slots.state import HEALTHY_RESETS_S, NEVER, PORT_TRIES, Effect, Facts
from hal0.slots.telling import message, notes
from hal0.slots.view import view_of
from hal0.vocab import Capability, Device, Phase, SlotName, SlotState
from tests.fakes.engine import FakeEngine
from tests.fakes.provider import FakeHealth
from tests.unit.slots.lives import NOW, PERMANENT, TRANSIENT, container, life, loaded, ready, record, unloaded

CONFIG = SlotConfig()
BOOK = Logbook(NOW - 10)
PROVIDER = FakeHealth(FakeEngine())


@pytest.mark.parametrize(
    ("phase", "limit_s"),
    [
        (Phase.PULLING, 120),
        (Phase.STARTING, 30),
        (Phase.WARMING, 180),
        (Phase.UNLOADING, 120 + 20 + 60),
        (Phase.ERROR, 20 + 60),
        (Phase.READY, NEVER),
        (Phase.OFFLINE, NEVER),
    ],
)
def test_deadlines(phase: Phase, limit_s: float) -> None:
    assert timers.deadline(phase, NOW, CONFIG, 0, BOOK) == NOW + limit_s


def test_a_big_model_and_a_slow_history_stretch_the_warm_up() -> None:
    assert warmup.warm_deadline_s(None, 60_000_000_000, ()) == 1000
    assert warmup.warm_deadline_s(None, 0, (Load("m", NOW, 10.0, 190.0),)) == 600
    assert warmup.warm_deadline_s(7.0, 60_000_000_000, ()) == 7


def come(at: Life, book: Logbook = BOOK, config: SlotConfig = CONFIG, *, quiet: bool = True) -> list[str]:
    return [
        type(happening).__name__ + (f" {happening.failure.code}" if isinstance(happening, Failed) else "")
        for happening in timers.come_due(at, book, config, NOW, quiet=quiet)
    ]


LONG_READY = Logbook(NOW - 700, ready_at=NOW - HEALTHY_RESETS_S, last_used=NOW - 100)
LEAVES = SlotConfig(unload_after_s=100)
DUE: dict[str, tuple[list[str], dict[str, Any]]] = {
    "nothing": ([], {"at": ready()}),
    "pulling stalls": (["Failed slot.deadline"], {"at": life(Phase.PULLING, deadline=NOW)}),
    "starting hangs": (["Failed slot.deadline"], {"at": life(Phase.STARTING, deadline=NOW - 1)}),
    "warming forever": (["Failed slot.deadline"], {"at": life(Phase.WARMING, deadline=NOW)}),
    "not yet": ([], {"at": life(Phase.WARMING, deadline=NOW + 1)}),
    "unloading must go on": ([], {"at": life(Phase.UNLOADING, deadline=NOW)}),
    "ports run out": (["Failed slot.no_free_port"], {"at": life(Phase.STARTING, port_tries=PORT_TRIES)}),
    "one more port": ([], {"at": life(Phase.STARTING, port_tries=PORT_TRIES - 1)}),
    "a fixed port": (
        ["Failed slot.port_taken"], {"at": life(Phase.STARTING, port_tries=1), "config": SlotConfig(port=8085)},
    ),
    "counted once": ([], {"at": life(Phase.STARTING, port_tries=PORT_TRIES, fault=TRANSIENT)}),
    "old clashes are history": ([], {"at": life(Phase.ERROR, port_tries=PORT_TRIES)}),
    "recovered": (["StayedHealthy"], {"at": ready(attempts=Attempts(3, NOW, NOW)), "book": LONG_READY}),
    "nothing to recover from": ([], {"at": ready(), "book": LONG_READY}),
    "unused": (["Wished"], {"at": ready(), "book": LONG_READY, "config": LEAVES}),
    "unused and busy": ([], {"at": ready(), "book": LONG_READY, "config": LEAVES, "quiet": False}),
    "unused and pinned": (
        [], {"at": ready(), "book": LONG_READY, "config": SlotConfig(unload_after_s=100, pinned=True)},
    ),
    "unused and not ready": ([], {"at": life(Phase.WARMING), "book": LONG_READY, "config": LEAVES}),
}  # fmt: skip


@pytest.mark.parametrize("row", DUE.values(), ids=DUE)
def test_what_comes_due(row: tuple[list[str], dict[str, Any]]) -> None:
    names, given = row
    assert come(**given) == names


@pytest.mark.parametrize(
    ("phase", "facts", "due"),
    [
        (Phase.OFFLINE, {}, NEVER),
        (Phase.WARMING, {"deadline": NOW + 9}, NOW + 9),
        (Phase.ERROR, {"retry_at": NOW + 5}, NOW + 5),
        (Phase.ERROR, {"retry_at": NOW + 5, "busy": Effect.BURY, "current": container()}, NEVER),
        (Phase.UNLOADING, {"again_at": NOW + 2, "current": container()}, NOW + 2),
        (Phase.READY, {"again_at": NOW + 3}, NOW + 3),
        (Phase.READY, {"again_at": NOW - 3}, NEVER),
    ],
)
def test_when_to_look_again(phase: Phase, facts: dict[str, Any], due: float) -> None:
    known = Facts(**facts)
    assert timers.wake_at(phase, known, BOOK, CONFIG, quiet=True, looked_at=NOW - 1) == due


def test_idle_marks_wake_only_once() -> None:
    book = Logbook(NOW, ready_at=NOW, last_used=NOW)
    config = SlotConfig(idle_timeout_s=600, unload_after_s=900)

    def wake(looked_at: float, *, quiet: bool = True) -> float:
        return timers.wake_at(Phase.READY, Facts(), book, config, quiet=quiet, looked_at=looked_at)

    assert [wake(NOW), wake(NOW + 600), wake(NOW + 900), wake(NOW, quiet=False)] == [NOW + 600, NOW + 900, NEVER, NEVER]


def shown(at: Life, **more: Any) -> Shown:
    fields: dict[str, Any] = {
        "name": SlotName("primary"), "config": SlotConfig(model="one"), "provider": PROVIDER, "device": Device.CPU,
        "life": at, "book": BOOK, "endpoint": None, "in_flight": 0, "queued": 0, "unsaved": False, "context_size": 4096,
        "now": NOW, "model": ModelFacts(capabilities=frozenset({Capability.CHAT, Capability.VISION})),
    }  # fmt: skip
    return Shown(**({"own": more.get("config", fields["config"])} | fields | more))


@pytest.mark.parametrize(
    ("at", "more", "text"),
    [
        (life(Phase.OFFLINE, unloaded(None)), {}, "pick a model"),
        (
            life(Phase.OFFLINE, unloaded()),
            {"model": ModelFacts(missing="one is not downloaded")},
            "one is not downloaded",
        ),
        (life(Phase.OFFLINE, unloaded()), {}, "offline"),
        (life(Phase.ERROR, fault=PERMANENT, retry_at=NEVER), {}, "corrupt"),
        (life(Phase.ERROR, fault=TRANSIENT, retry_at=0.5), {}, "it ended; next attempt at 1970-01-01T00:00:00.500Z"),
        (life(Phase.WARMING, progress=Progress("loading", 0.5, "half")), {}, "half"),
        (life(Phase.WARMING), {}, "loading the model"),
        (ready(), {}, "serving one"),
        (life(Phase.UNLOADING), {}, "unloading"),
    ],
)
def test_one_sentence(at: Life, more: dict[str, Any], text: str) -> None:
    assert message(shown(at, **more)) == text


def test_a_request_goes_only_to_the_model_that_the_slot_stands_for() -> None:
    assert endpoint_of(ready(), PROVIDER, {}) is not None
    assert endpoint_of(life(Phase.READY, loaded("two"), current=container(), launched=True), PROVIDER, {}) is None
    assert endpoint_of(ready(launched=False), PROVIDER, {}) is None
    assert endpoint_of(life(Phase.WARMING, current=container(), launched=True), PROVIDER, {}) is None


def test_snapshot_and_view_tell_the_same_story() -> None:
    endpoint = endpoint_of(ready(), PROVIDER, {1: "secret"})
    it = shown(ready(), endpoint=endpoint, in_flight=2)
    snapshot, view = snapshot_of(it), view_of(it)
    assert snapshot.routable
    assert snapshot.phase is Phase.READY
    assert view.state is SlotState.SERVING
    assert [s.capability for s in snapshot.serves] == [Capability.CHAT], "what model and provider both can"
    assert view.url == "http://127.0.0.1:8080"
    assert "secret" not in view.model_dump_json()


def test_a_failure_is_shown_with_its_next_attempt() -> None:
    resting = life(Phase.ERROR, fault=TRANSIENT, retry_at=NOW + 8, attempts=Attempts(5, NOW, NOW + 8))
    failure = view_of(shown(resting)).failure
    assert failure is not None
    assert (failure.attempt, failure.next_attempt_at) == (5, NOW + 8)
    assert snapshot_of(shown(resting)).next_attempt_at == NOW + 8
    permanent = snapshot_of(shown(life(Phase.ERROR, fault=PERMANENT, retry_at=NEVER)))
    assert permanent.next_attempt_at is None
    swap = view_of(shown(life(Phase.WARMING, loaded("two"), swap=Swap("one", "two")))).swap
    assert swap is not None
    assert (swap.from_model, swap.to_model) == ("one", "two")


def test_another_live_model_than_the_seed_is_said() -> None:
    assert notes(shown(ready("two"), config=SlotConfig(model="one")))
    assert notes(shown(ready())) == []


def test_a_load_is_told_in_parts_as_far_as_somebody_told_them_apart() -> None:
    book = Logbook(NOW).entered(Phase.STARTING, NOW, "one").created(NOW + 1)
    book = book.entered(Phase.WARMING, NOW + 3, "one").answered(NOW + 7)
    told = view_of(shown(ready(), book=book.entered(Phase.READY, NOW + 15, "one"))).last_load
    assert told is not None
    assert (told.create_s, told.start_s, told.load_s, told.ready_s, told.total_s) == (1.0, 2.0, 4.0, 8.0, 15.0)
    # What was adopted half-way has no beginning, and a mark of the load before is not this one's.
    book = book.entered(Phase.STARTING, NOW + 20, "one").entered(Phase.WARMING, NOW + 23, "one")
    again = view_of(shown(ready(), book=book.entered(Phase.READY, NOW + 30, "one"))).last_load
    assert again is not None
    assert (again.create_s, again.start_s, again.load_s, again.ready_s, again.total_s) == (None, None, None, None, 10.0)
    assert view_of(shown(ready())).last_load is None


def test_the_logbook_learns_how_long_loads_take() -> None:
    book = Logbook(NOW)
    for phase, at in ((Phase.STARTING, NOW), (Phase.WARMING, NOW + 1), (Phase.READY, NOW + 4)):
        book = book.entered(phase, at, "one")
    assert book.history == (Load("one", NOW + 4, 1.0, 3.0),)
    assert (book.ready_at, book.warmed, book.load_started) == (NOW + 4, True, None)
    assert warmup.expected_s(book.history, "one") == 4
    assert warmup.expected_s(book.history, "two") is None
    again = opened(record(Phase.READY, load_history=book.history, last_used=NOW), Phase.READY, NOW + 50)
    assert (again.since, again.ready_at, again.history) == (NOW - 100, NOW + 50, book.history)
    assert opened(None, Phase.OFFLINE, NOW) == Logbook(NOW)
