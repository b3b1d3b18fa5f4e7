"""What a slot holds of memory at each moment of its life."""

from dataclasses import replace
from typing import Any

import pytest

from hal0.config.defaults import ModelDefaults
from hal0.config.slots import SlotConfig
from hal0.hardware.cpu import Cpu
from hal0.hardware.memory import Memory
from hal0.hardware.pools import RAM
from hal0.hardware.snapshot import Machine
from hal0.slots.claims import holdings_of, may_leave, need_of
from hal0.slots.happenings import Life
from hal0.slots.ledger import Standing
from hal0.slots.need import Need, Weights
from hal0.slots.record import Swap, SwapStep
from hal0.slots.shown import ModelFacts
from hal0.slots.state import Effect
from hal0.vocab import Phase, Role
from tests.unit.slots.lives import container, life, ready, unloaded
from tests.unit.slots.test_timers_view import BOOK, shown

GIB = 2**30
MACHINE = Machine(cpu=Cpu(), memory=Memory(64 * GIB, 60 * GIB))
FACTS = ModelFacts(size_bytes=GIB, weights=Weights(size_bytes=GIB, cache_bytes_per_token=None))
ROOM = Need(pool=RAM, bytes=3)
ONE = container()
LEAVING = container(7, role=Role.LEAVING)
ASKING: dict[str, Any] = {"busy": Effect.ADMIT, "fetched": True}


def held(at: Life, **more: Any) -> list[tuple[Standing, int]]:
    promised = more.pop("promised", None)
    found = holdings_of(shown(at, **more), lambda _model: FACTS, MACHINE, promised)
    return [(holding.standing, holding.need.bytes) for holding in found]


ESTIMATED = need_of(shown(ready()), "one", FACTS, MACHINE).bytes
OVERLAP = ready(swap=Swap("one", "two", SwapStep.WAITING))
MOMENTS = {
    "nothing while it is offline": (life(Phase.OFFLINE, unloaded()), {}, []),
    "nothing while files are fetched": (life(Phase.PULLING, busy=Effect.FETCH), {"promised": ROOM}, []),
    "what was promised while it asks": (life(Phase.STARTING, **ASKING), {"promised": ROOM}, [(Standing.RESERVED, 3)]),
    "nothing before anything was": (life(Phase.STARTING, **ASKING), {}, []),
    "a promise to a load that asks no more is none": (life(Phase.STARTING), {"promised": ROOM}, []),
    "admitted": (life(Phase.STARTING, admitted=ROOM), {"promised": ROOM}, [(Standing.LOADING, 3)]),
    "launched": (life(Phase.STARTING, admitted=ROOM, current=ONE), {}, [(Standing.LOADING, 3)]),
    "warming": (life(Phase.WARMING, admitted=ROOM, current=ONE), {}, [(Standing.LOADING, 3)]),
    "ready": (ready(admitted=ROOM), {}, [(Standing.LOADED, 3)]),
    "adopted: by estimate": (ready(), {}, [(Standing.LOADED, ESTIMATED)]),
    "from the wish to leave on": (
        life(Phase.READY, unloaded(), current=ONE, launched=True, admitted=ROOM), {}, [(Standing.LEAVING, 3)],
    ),
    "unloading": (life(Phase.UNLOADING, unloaded(), current=ONE, admitted=ROOM), {}, [(Standing.LEAVING, 3)]),
    "unloading for longer than that may take": (
        life(Phase.UNLOADING, unloaded(), current=ONE, admitted=ROOM),
        {"book": BOOK, "now": BOOK.since + 1000},
        [(Standing.STUCK, 3)],
    ),
    "dead, not yet buried": (life(Phase.ERROR, current=ONE, admitted=ROOM), {}, [(Standing.LEAVING, 3)]),
    "a promise of the load before is none beside it": (OVERLAP, {"promised": ROOM}, [(Standing.LOADED, ESTIMATED)]),
    "what was promised beside it while it asks": (
        replace(OVERLAP, facts=replace(OVERLAP.facts, busy=Effect.ADMIT)),
        {"promised": ROOM},
        [(Standing.LOADED, ESTIMATED), (Standing.RESERVED, 3)],
    ),
    "error without a container": (life(Phase.ERROR, admitted=ROOM), {}, []),
    "what leaves, beside the current one": (
        ready(admitted=ROOM, leaving=(LEAVING,)), {}, [(Standing.LOADED, 3), (Standing.LEAVING, ESTIMATED)],
    ),
    "what podman does not remove": (
        life(Phase.OFFLINE, unloaded(), leaving=(LEAVING,), stuck=frozenset({LEAVING.name})),
        {},
        [(Standing.STUCK, ESTIMATED)],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("at", "more", "expected"), MOMENTS.values(), ids=MOMENTS)
def test_what_it_holds(at: Life, more: dict[str, Any], expected: list[tuple[Standing, int]]) -> None:
    assert held(at, **more) == expected


def test_what_its_container_takes_beyond_its_promise_is_known() -> None:
    [holding] = holdings_of(shown(ready(admitted=ROOM, memory_bytes=9)), lambda _model: FACTS, MACHINE)
    assert (holding.used_bytes, holding.used_host_bytes) == (9, None)


def test_another_model_is_weighed_by_its_own_defaults_and_not_by_the_live_ones() -> None:
    own = SlotConfig(model="one", parallel=1)
    facts = replace(FACTS, weights=Weights(size_bytes=GIB, cache_bytes_per_token=1000), context_length=8192)
    now = shown(ready(), own=own, config=own.model_copy(update={"context_size": 512}))

    def context(model: str, defaults: ModelDefaults | None) -> str:
        need = need_of(now, model, replace(facts, defaults=defaults), MACHINE)
        return next(term.name for term in need.terms if term.name.startswith("context"))

    assert context("one", None) == "context of 512 tokens"
    assert context("two", None) == "context of 8192 tokens"
    assert context("two", ModelDefaults(context_size=1024)) == "context of 1024 tokens"


def test_the_limit_of_its_container_bounds_its_need() -> None:
    config = SlotConfig(model="one", memory_limit=GIB)
    need = need_of(shown(ready(), config=config), "one", FACTS, MACHINE)
    assert need.bytes == GIB < ESTIMATED
    assert sum(term.bytes for term in need.terms) == GIB
    assert need.terms[-1].name == "over the slot's memory_limit"


@pytest.mark.parametrize(
    ("at", "more", "may"),
    [
        (ready(), {}, True),
        (ready(), {"in_flight": 1}, False),
        (ready(), {"unsaved": True}, False),
        (ready(), {"config": SlotConfig(model="one", pinned=True)}, False),
        (life(Phase.WARMING, current=ONE), {}, False),
        (life(Phase.READY, unloaded(), current=ONE, launched=True), {}, False),
    ],
)
def test_who_may_be_asked_to_leave(at: Life, more: dict[str, Any], may: bool) -> None:
    assert may_leave(shown(at, **more)) is may
