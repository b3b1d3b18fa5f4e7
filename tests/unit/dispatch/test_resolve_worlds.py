"""In whatever world: every request gets exactly one decision or one typed error, and always the same."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hal0.config.upstreams import UpstreamKind
from hal0.dispatch.resolve import Ask, Decision, Outcome, Passage, Refusal, resolve, wants_lists
from hal0.dispatch.surface import SURFACE, answers
from hal0.dispatch.table import Table, build
from hal0.errors import TABLE as ERRORS
from hal0.providers.base import Endpoint
from hal0.slots.handle import Serves, SlotSnapshot
from hal0.upstreams.snapshot import Hop, UpstreamSnapshot
from hal0.vocab import Capability, Phase, Rule, Want
from tests.fakes.slots import FakeBinding, FakeEntry, FakeProvider, snapshot
from tests.fakes.upstreams import upstream

# Few names for many things: what is interesting is when they meet.
NAMES = ("primary", "embed", "embed-rerank", "tts", "stt", "img", "npu", "x", "y")
MODELS = ("m", "m2", "x", "primary", "chat", "m:q4")
FAR = ("far", "box", "claude")
slot_names, models, far_names = st.sampled_from(NAMES), st.sampled_from(MODELS), st.sampled_from(FAR)
capabilities = st.sampled_from(list(Capability))


@st.composite
def slots(draw: st.DrawFn) -> SlotSnapshot:
    phase = draw(st.sampled_from(list(Phase)))
    routable = phase is Phase.READY and draw(st.booleans())
    return snapshot(
        draw(slot_names),
        phase=phase,
        want=draw(st.sampled_from(list(Want))),
        endpoint=Endpoint("127.0.0.1", 20000, "s") if routable else None,
        serves=tuple(draw(st.lists(st.builds(Serves, models, capabilities), max_size=3))),
        aliases=tuple(draw(st.lists(models, max_size=2))),
        priority=draw(st.integers(0, 2)),
        provider=FakeProvider(tags=draw(st.frozensets(models, max_size=2))),
    )


@st.composite
def upstreams(draw: st.DrawFn) -> UpstreamSnapshot:
    made = upstream(
        draw(far_names),
        *draw(st.lists(models, max_size=3)),
        kind=draw(st.sampled_from(list(UpstreamKind))),
        prefix=draw(st.sampled_from(["", "far/"])),
        cold=draw(st.booleans()),
        able=draw(st.frozensets(capabilities, max_size=2)),
    )
    return replace(made, up=draw(st.booleans()), priority=draw(st.integers(0, 2)))


def _named(values: Any) -> Any:
    return st.lists(values, max_size=5, unique_by=lambda it: it.name)


bindings = st.builds(FakeBinding, slot=slot_names) | st.builds(
    FakeBinding, upstream=far_names, model=st.none() | models
)


@dataclass(frozen=True)
class World:
    slots: list[SlotSnapshot]
    upstreams: list[UpstreamSnapshot]
    fronts: Mapping[str, Hop]
    bindings: Mapping[str, FakeBinding]
    on_disk: list[str]
    busy: Mapping[str, int]

    def table(self) -> Table:
        entries = [FakeEntry(model) for model in self.on_disk]
        return build(self.slots, entries, self.upstreams, self.fronts, self.bindings)

    def resolve(self, ask: Ask, *, strict: bool) -> Outcome:
        return resolve(ask, self.table(), lambda slot: self.busy.get(slot, 0), strict=strict)


worlds = st.builds(
    World,
    slots=_named(slots()),
    upstreams=_named(upstreams()),
    fronts=st.dictionaries(slot_names, st.builds(Hop, far_names, models), max_size=2),
    bindings=st.dictionaries(models, bindings, max_size=3),
    on_disk=st.lists(models, max_size=2, unique=True),
    busy=st.dictionaries(slot_names, st.integers(0, 3)),
)
words = (
    st.none() | models | slot_names | st.sampled_from(["hal0/x", "agent", "far/m", "M", "far/"]) | st.text(min_size=1)
)
asks = st.builds(
    lambda row, asked, fetched, limit: Ask(row, asked, asked and asked.lower(), tuple(fetched), limit),
    st.sampled_from(SURFACE),
    words,
    st.sets(far_names),
    st.none() | st.frozensets(slot_names),
)


@given(worlds, asks, st.booleans())
def test_every_request_has_exactly_one_outcome_and_always_the_same(world: World, ask: Ask, strict: bool) -> None:
    outcome, table = world.resolve(ask, strict=strict), world.table()
    again = World(
        world.slots[::-1], world.upstreams, world.fronts, world.bindings, world.on_disk[::-1], world.busy
    ).resolve(ask, strict=strict)
    assert [tried.rule for tried in outcome.tried] == list(Rule)[: len(outcome.tried)]
    assert all(tried.fact for tried in outcome.tried)
    assert [tried.hit for tried in outcome.tried[:-1]] == [False] * (len(outcome.tried) - 1)
    match outcome:
        case Refusal(error=error):
            assert isinstance(again, Refusal)
            assert again.error.code == error.code
            assert error.code in ERRORS
            assert 400 <= error.status < 500
        case Decision():
            assert isinstance(again, Decision)
            assert (again.slot, again.rule, again.model) == (outcome.slot, outcome.rule, outcome.model)
            _is_sound(outcome, ask, table)
        case Passage():
            assert again == outcome
            assert outcome.hops
            assert not ask.path.only_here
            assert ask.slots is None or outcome.slot in ask.slots
            assert {hop.upstream for hop in outcome.hops} <= {*outcome.candidates, *(_fronted(outcome, table))}
    assert outcome.tried[-1].hit or isinstance(outcome, Refusal)


def _is_sound(decision: Decision, ask: Ask, table: Table) -> None:
    slot = table.slots[decision.slot]
    assert decision.slot in decision.candidates
    assert decision.slot not in table.fronts
    assert ask.slots is None or decision.slot in ask.slots
    assert not slot.serves or Serves(decision.model or "", _able(slot, ask, decision)) in slot.serves


def _able(slot: SlotSnapshot, ask: Ask, decision: Decision) -> Capability:
    """The capability for which the slot serves the model it was chosen with."""
    return next(
        it.capability
        for it in slot.serves
        if it.model == decision.model and answers(it.capability, ask.path.capability)
    )


def _fronted(passage: Passage, table: Table) -> set[str]:
    return set() if passage.slot is None else {table.fronts[passage.slot].upstream}


@given(worlds, asks)
def test_strictness_only_takes_guesses_away(world: World, ask: Ask) -> None:
    strict, lax = world.resolve(ask, strict=True), world.resolve(ask, strict=False)
    if not isinstance(strict, Refusal):
        assert lax == strict
    elif lax.tried[-1].rule is not Rule.CAPABILITY:
        assert isinstance(lax, Refusal)
        assert lax.error.code == strict.error.code


@given(worlds, asks)
def test_lists_are_asked_for_only_where_they_could_decide(world: World, ask: Ask) -> None:
    """What a rule before them has decided, no list can change."""
    outcome, table = world.resolve(ask, strict=False), world.table()
    known = replace(
        world,
        upstreams=[
            it if it.models is not None else replace(upstream(it.name, ask.asked or "m"), kind=it.kind)
            for it in world.upstreams
        ],
    )
    if not wants_lists(ask.asked, outcome, table) and outcome.tried[-1].rule in (Rule.ADDRESS, Rule.PREEMPTION):
        after = known.resolve(ask, strict=False)
        assert type(after) is type(outcome)
        assert after.tried == outcome.tried
