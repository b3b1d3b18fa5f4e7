"""The rules about upstreams as a table, and what holds for every request whatever is listed where."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal0.config.upstreams import UpstreamKind
from hal0.dispatch.catalog import ModelList, find, models
from hal0.dispatch.resolve import Ask, Decision, Outcome, Passage, Refusal, resolve, wants_lists
from hal0.dispatch.surface import SURFACE, PathRow, answers
from hal0.dispatch.table import Table, build
from hal0.upstreams.snapshot import Hop
from hal0.vocab import Capability, ProviderName, Rule, SlotName
from hal0.wire.openai import ModelsView, ModelView
from tests.fakes.slots import FakeEntry
from tests.fakes.upstreams import upstream
from tests.unit.dispatch.test_resolve import FLEET, ROWS, slot

MESSAGES = PathRow("/messages", Capability.CHAT, "")
FAR = (
    upstream("openrouter", "openai/gpt-4o", "big", prefix="or/"),
    upstream("groq", "Llama-3:70b", "big", "primary"),
    upstream("second", "Llama-3:70b"),
    upstream("claude", "claude-x", kind=UpstreamKind.ANTHROPIC),
    upstream("box", "vectors-2", kind=UpstreamKind.HAL0, able=frozenset({Capability.EMBED})),
)
COLD = (*FAR, upstream("asleep", cold=True))
FRONTS = {"coder": Hop("groq", "Llama-3:70b"), "quiet": Hop("gone", "m")}
SLOTS = (
    *FLEET,
    slot("coder", "m2", provider_name=ProviderName.UPSTREAM),
    slot("quiet", None, provider_name=ProviderName.UPSTREAM),
)
TABLE = build(FLEET, [FakeEntry("shelf")], FAR)
COLD_TABLE = build(FLEET, [], COLD)
FRONTED = build(SLOTS, [], FAR, FRONTS)


def outcome(
    model: str | None,
    row: PathRow = ROWS[Capability.CHAT],
    *,
    table: Table = TABLE,
    fetched: tuple[str, ...] = (),
    strict: bool = False,
    slots: frozenset[SlotName] | None = None,
) -> Outcome:
    ask = Ask(row, model, model and model.lower(), fetched, slots)
    return resolve(ask, table, lambda _slot: 0, strict=strict)


@pytest.mark.parametrize(
    ("model", "hops"),
    [
        ("or/openai/gpt-4o", [("openrouter", "openai/gpt-4o")]),
        ("Llama-3:70b", [("groq", "Llama-3:70b"), ("second", "Llama-3:70b")]),
        ("or/big", [("openrouter", "big")]),
    ],
)
def test_a_listed_model_passes_through(model: str, hops: list[tuple[str, str]]) -> None:
    found = outcome(model)
    assert isinstance(found, Passage)
    assert found.rule is Rule.PASSTHROUGH
    assert [hop[:2] for hop in found.hops] == hops
    assert found.tried[-1].fact.startswith(f"{model!r} is listed by 'openrouter'" if "or/" in model else f"{model!r}")


@pytest.mark.parametrize(
    ("model", "target", "rule"),
    [
        ("primary", "primary", Rule.ADDRESS),  # whatever an upstream calls its models
        ("big", "primary", Rule.PREEMPTION),
        ("llama-3:70b", "primary", Rule.CAPABILITY),  # their names are taken as they are spelled
        ("gpt-4o", "primary", Rule.CAPABILITY),
        (None, "primary", Rule.CAPABILITY),
    ],
)
def test_what_is_here_is_answered_here(model: str | None, target: str, rule: Rule) -> None:
    found = outcome(model)
    assert isinstance(found, Decision)
    assert (found.slot, found.rule) == (target, rule)


@pytest.mark.parametrize(
    ("model", "row", "code"),
    [
        ("claude-x", ROWS[Capability.CHAT], "dispatch.capability_mismatch"),
        ("vectors-2", ROWS[Capability.CHAT], "dispatch.capability_mismatch"),
        ("vectors-2", ROWS[Capability.EMBED], None),
        ("claude-x", MESSAGES, None),
    ],
)
def test_an_upstream_is_asked_only_what_it_speaks(model: str, row: PathRow, code: str | None) -> None:
    found = outcome(model, row)
    assert (found.error.code if isinstance(found, Refusal) else None) == code


def test_of_several_those_that_speak_the_path_remain() -> None:
    table = build(FLEET, [], (upstream("claude", "m", kind=UpstreamKind.ANTHROPIC), upstream("other", "m")))
    found = outcome("m", table=table)
    assert isinstance(found, Passage)
    assert [hop.upstream for hop in found.hops] == ["other"]
    assert found.candidates == ("claude", "other")


def test_an_unknown_list_is_worth_asking_for_only_where_it_could_decide() -> None:
    assert wants_lists("new", outcome("new", table=COLD_TABLE), COLD_TABLE)
    assert wants_lists("new", outcome("new", table=COLD_TABLE, strict=True), COLD_TABLE)
    for model in ("primary", "big", "or/openai/gpt-4o", "frozen"):
        assert not wants_lists(model, outcome(model, table=COLD_TABLE), COLD_TABLE)
    assert not wants_lists(None, outcome(None, table=COLD_TABLE), COLD_TABLE)
    assert not wants_lists("new", outcome("new"), TABLE)


def test_what_was_fetched_for_a_request_is_rule_four() -> None:
    before = {tried.rule: tried.fact for tried in outcome("new", table=COLD_TABLE).tried}
    assert before[Rule.PREFETCH] == "nobody knows what 'asleep' would list"
    table = build(FLEET, [], (*FAR, upstream("asleep", "new")))
    found = outcome("new", table=table, fetched=("asleep",))
    assert isinstance(found, Passage)
    assert found.rule is Rule.PREFETCH
    assert found.tried[-1].fact == "asked for their models now: 'new' is listed by 'asleep'"
    assert outcome("new", table=table).rule is Rule.PASSTHROUGH  # type: ignore[union-attr]  # the next one
    missed = outcome("newer", table=table, fetched=("asleep",))
    assert {tried.rule: tried.fact for tried in missed.tried}[Rule.PREFETCH].endswith("'asleep' without 'newer'")


def test_a_slot_may_stand_for_a_model_elsewhere() -> None:
    found = outcome("coder", table=FRONTED)
    assert isinstance(found, Passage)
    assert (found.slot, found.hops, found.rule) == ("coder", (Hop("groq", "Llama-3:70b"),), Rule.ADDRESS)
    gone = outcome("quiet", table=FRONTED)
    assert isinstance(gone, Passage)  # that its upstream is gone is said when the request is sent
    assert gone.hops[0].upstream == "gone"
    assert outcome("m2", table=FRONTED).rule is Rule.CAPABILITY  # type: ignore[union-attr]  # it serves nothing itself


def test_a_near_miss_of_an_upstreams_model_is_named() -> None:
    refusal = outcome("or/openai/gpt-4", strict=True)
    assert isinstance(refusal, Refusal)
    assert "did you mean 'or/openai/gpt-4o'" in refusal.error.message


MODELS = st.none() | st.sampled_from(
    ["primary", "big", "or/big", "Llama-3:70b", "claude-x", "vectors-2", "coder", "quiet", "shelf", "new", "", "or/"]
)


@given(
    MODELS | st.text(max_size=8),
    st.sampled_from([*ROWS.values(), *SURFACE]),
    st.booleans(),
    st.sampled_from([TABLE, COLD_TABLE, FRONTED]),
    st.sets(st.sampled_from(["openrouter", "groq", "asleep", "nobody"])),
    st.none() | st.frozensets(st.sampled_from([SlotName("primary"), SlotName("embed"), SlotName("coder")])),
)
def test_every_request_has_exactly_one_outcome_and_always_the_same(
    model: str | None,
    row: PathRow,
    strict: bool,
    table: Table,
    fetched: set[str],
    slots: frozenset[SlotName] | None,
) -> None:
    first, second = (
        outcome(model or None, row, table=table, strict=strict, fetched=tuple(fetched), slots=slots) for _ in range(2)
    )
    assert first.tried == second.tried
    assert all(tried.fact for tried in first.tried)
    hits = sum(tried.hit for tried in first.tried)
    match first:
        case Decision():
            assert first == second
            assert first.slot in table.slots
            assert first.slot not in table.fronts
            assert slots is None or first.slot in slots
            serves = table.slots[first.slot].serves
            assert not serves or any(answers(it.capability, row.capability) for it in serves)
            assert hits == 1
        case Passage():
            assert first == second
            assert first.hops
            assert not row.only_here
            assert slots is None or first.slot in slots
            named = {hop.upstream for hop in first.hops} if first.slot is None else {first.slot}
            assert named <= set(first.candidates)
            assert hits == 1
        case Refusal():
            assert isinstance(second, Refusal)
            assert first.error.code == second.error.code


def listed(table: Table, *, here: bool = False, rendered: ModelList | None = None) -> list[ModelView]:
    return ModelsView.model_validate_json((rendered or ModelList()).json_bytes(table, here=here)).data


def test_the_model_list_ends_with_what_is_elsewhere() -> None:
    ids = [view.id for view in listed(TABLE)]
    assert len(ids) == len(set(ids))
    assert ids.index("shelf") < ids.index("or/openai/gpt-4o")
    assert [view.owned_by for view in listed(TABLE) if view.id == "big"] == ["hal0"]
    assert listed(TABLE, here=True) == models(TABLE) == [view for view in listed(TABLE) if view.upstream is None]


def test_a_single_one_is_found_as_it_is_listed() -> None:
    for view in listed(TABLE):
        assert find(TABLE, view.id) == view or view.id == "primary"  # what a slot's name means is another matter
    found = find(TABLE, "or/openai/gpt-4o")
    assert found is not None
    assert (found.owned_by, found.upstream, found.status) == ("openrouter", "openrouter", "available")
    assert find(TABLE, "nobody") is None


def test_the_list_is_rendered_once_and_never_old() -> None:
    rendered = ModelList()
    whole = rendered.json_bytes(TABLE, here=False)
    assert rendered.json_bytes(TABLE, here=False) is whole
    again = build(FLEET, [FakeEntry("shelf")], FAR)
    assert rendered.json_bytes(again, here=False) == whole
    other = build(FLEET, [], (upstream("openrouter", "new", prefix="or/"), *FAR[1:]))
    ids = {view.id for view in listed(other, rendered=rendered)}
    assert "or/new" in ids
    assert "or/openai/gpt-4o" not in ids
