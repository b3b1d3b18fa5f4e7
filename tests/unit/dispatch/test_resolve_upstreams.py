"""The rules about upstreams as a table, and what holds for every request whatever is listed where."""

from dataclasses import replace

import pytest

from hal0.config.upstreams import UpstreamKind
from hal0.dispatch.catalog import ModelList, find, models
from hal0.dispatch.resolve import Ask, Decision, Outcome, Passage, Refusal, resolve, wants_lists
from hal0.dispatch.surface import PathRow
from hal0.dispatch.table import Table, build
from hal0.upstreams.snapshot import Hop
from hal0.vocab import Capability, ProviderName, Rule, SlotName
from hal0.wire.openai import ModelsView, ModelView
from tests.fakes.slots import FakeBinding, FakeEntry
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
    vain: tuple[str, ...] = (),
) -> Outcome:
    ask = Ask(row, model, model and model.lower(), fetched, slots, vain)
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


def test_a_list_that_cannot_have_the_model_is_not_waited_for() -> None:
    cold = (upstream("routes", cold=True, prefix="or/"), upstream("few", cold=True, prefix="few/", only=frozenset("a")))
    table = build(FLEET, [], (*FAR, *cold))
    for model, asked in (("new", ()), ("or/new", ("routes",)), ("few/a", ("few",)), ("few/b", ()), ("a", ())):
        assert table.cold_for(model) == asked
        assert wants_lists(model, outcome(model, table=table), table) is bool(asked)
    facts = {model: outcome(model, table=table).tried[4].fact for model in ("new", "or/new")}
    assert facts == {
        "new": "skipped: every list that may have it is known, or could not be had",
        "or/new": "nobody knows what 'routes' would list",
    }


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
    silent = outcome("newer", table=table, fetched=("asleep",), vain=("mute",))
    fact = {tried.rule: tried.fact for tried in silent.tried}[Rule.PREFETCH]
    assert fact == "asked for their models now: 'asleep' without 'newer'; no list came from 'mute'"


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


BOUND = {
    "house-model": FakeBinding(slot="cold"),
    "big": FakeBinding(slot="second"),
    "frozen": FakeBinding(upstream="groq", model="Llama-3:70b"),
    "cheap": FakeBinding(upstream="box", model="vectors-2"),
    "down": FakeBinding(upstream="down"),
    "lost": FakeBinding(slot="nowhere"),
    "small-2": FakeBinding(upstream="nowhere"),
    "far-slot": FakeBinding(slot="coder"),
}
DOWN = replace(upstream("down", "down"), up=False)
BINDINGS = build(SLOTS, [FakeEntry("down")], (*FAR, DOWN, upstream("also", "down")), FRONTS, BOUND)


@pytest.mark.parametrize(
    ("model", "target", "rule"),
    [
        ("house-model", "cold", Rule.REGISTRY),  # whatever it has as its model; it is loaded
        ("House-Model", "cold", Rule.REGISTRY),
        ("frozen", ("groq", "Llama-3:70b"), Rule.REGISTRY),  # although a slot would load it
        ("big", "primary", Rule.PREEMPTION),  # what is loaded comes first
        ("far-slot", ("groq", "Llama-3:70b"), Rule.REGISTRY),
        ("down", ("down", "down"), Rule.PASSTHROUGH),  # an upstream that is off falls through
        ("lost", "primary", Rule.CAPABILITY),
        ("small-2", "primary", Rule.CAPABILITY),
    ],
)
def test_a_binding_says_who_answers(model: str, target: str | tuple[str, str], rule: Rule) -> None:
    found = outcome(model, table=BINDINGS)
    assert not isinstance(found, Refusal)
    assert found.rule is rule
    assert (found.slot if isinstance(found, Decision) else found.hops[0][:2]) == target
    if isinstance(found, Decision) and found.slot == "cold":
        assert found.model == "frozen"


def test_a_binding_that_leads_nowhere_says_why() -> None:
    facts = {
        model: {tried.rule: tried.fact for tried in outcome(model, table=BINDINGS).tried}[Rule.REGISTRY]
        for model in ("down", "lost", "small-2")
    }
    assert facts["down"].startswith(
        "'down' is bound to the upstream 'down', which cannot be reached; 'down' is on disk"
    )
    assert facts["lost"] == "'lost' is bound to the slot 'nowhere', which is not there; 'lost' is not on disk"
    assert facts["small-2"].startswith("'small-2' is bound to the upstream 'nowhere', which is not there")


def test_a_binding_obeys_what_a_model_can_do() -> None:
    assert isinstance(outcome("cheap", ROWS[Capability.EMBED], table=BINDINGS), Passage)
    refusal = outcome("cheap", table=BINDINGS)
    assert isinstance(refusal, Refusal)
    assert refusal.error.code == "dispatch.capability_mismatch"


def test_slots_are_listed_by_name_with_the_model_that_they_have_now() -> None:
    views = {view.id: view for view in listed(FRONTED)}
    (own,) = [it for it in SLOTS if it.name == "primary"]
    assert (views["primary"].slot, views["primary"].model) == ("primary", own.model)
    assert (views["coder"].upstream, views["coder"].model, views["coder"].slot) == ("groq", "Llama-3:70b", "coder")
    assert "quiet" not in views  # what it stands for is not there
    assert not {"coder", "quiet"} & {view.id for view in listed(FRONTED, here=True)}


def test_what_is_bound_is_listed() -> None:
    views = {view.id: view for view in listed(BINDINGS)}
    assert (views["house-model"].slot, views["house-model"].status) == ("cold", "offline")
    assert (views["cheap"].upstream, views["cheap"].capabilities) == ("box", ("embed",))
    assert not {"lost", "small-2"} & views.keys()
    assert "cheap" not in {view.id for view in listed(BINDINGS, here=True)}
    assert find(BINDINGS, "cheap") == views["cheap"]


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
        assert find(TABLE, view.id) == view
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


def test_a_binding_may_name_a_model_as_it_is_listed_here() -> None:
    far = upstream("far", "fake", prefix="far/")
    table = build(FLEET, upstreams=(far,), bindings={"mine": FakeBinding(upstream="far", model="far/fake")})
    found = resolve(Ask(ROWS[Capability.CHAT], "mine", "mine"), table, lambda _slot: 0, strict=False)
    assert isinstance(found, Passage)
    assert [hop.model for hop in found.hops] == ["fake"]
