"""The rules as a table: asked model and path in, slot and rule out."""

from pathlib import Path
from typing import Any

import pytest

from hal0.dispatch.resolve import Ask, Decision, Outcome, Refusal, resolve
from hal0.dispatch.surface import PathRow
from hal0.dispatch.table import TableSource, build
from hal0.models.binding import Binding
from hal0.models.registry import Registry
from hal0.providers.base import Endpoint
from hal0.slots.handle import Serves, SlotSnapshot
from hal0.upstreams.snapshot import Hop
from hal0.vocab import Capability, Phase, Rule, SlotName, Want
from tests.fakes.slots import LOADING, READY, FakeEntry, FakeProvider, FakeRegistry, FakeSlots, snapshot
from tests.fakes.upstreams import FakeUpstreams, upstream

UP = {**READY, "endpoint": Endpoint("127.0.0.1", 20000, "s")}
ROWS = {capability: PathRow(f"/{capability}", capability, "") for capability in Capability}


def slot(name: str, model: str | None, capability: Capability = Capability.CHAT, **changes: object) -> SlotSnapshot:
    serves = () if model is None else (Serves(model, capability),)
    return snapshot(name, model=model, serves=serves, **changes)


FLEET = (
    slot("primary", "big", **UP),
    slot("second", "small", aliases=("helper",), **UP),
    slot("twin", "small", priority=90, **UP),
    slot("cold", "frozen"),
    slot("embed", "vectors", Capability.EMBED, **UP),
    slot("tts", "voice", Capability.TTS),
    slot("img", None),
)
TABLE = build(FLEET, [FakeEntry("shelf")])


def ask(model: str | None, capability: Capability = Capability.CHAT) -> Ask:
    return Ask(ROWS[capability], model, model and model.lower())


def outcome(model: str | None, capability: Capability = Capability.CHAT, *, strict: bool = False) -> Outcome:
    return resolve(ask(model, capability), TABLE, lambda _slot: 0, strict=strict)


@pytest.mark.parametrize(
    ("model", "capability", "target", "rule"),
    [
        ("primary", Capability.CHAT, "primary", Rule.ADDRESS),
        ("hal0/second", Capability.CHAT, "second", Rule.ADDRESS),
        ("helper", Capability.COMPLETION, "second", Rule.ADDRESS),
        ("chat", Capability.CHAT, "primary", Rule.ADDRESS),
        ("agent", Capability.CHAT, "primary", Rule.ADDRESS),
        ("img", Capability.IMAGE, "img", Rule.ADDRESS),  # without a model: the gate says so
        ("big", Capability.CHAT, "primary", Rule.PREEMPTION),
        ("BIG", Capability.CHAT, "primary", Rule.PREEMPTION),
        ("small", Capability.CHAT, "twin", Rule.PREEMPTION),
        ("vectors", Capability.EMBED, "embed", Rule.PREEMPTION),
        ("frozen", Capability.CHAT, "cold", Rule.REGISTRY),
        ("shelf", Capability.CHAT, "primary", Rule.CAPABILITY),
        ("gpt-4", Capability.CHAT, "primary", Rule.CAPABILITY),
        ("gpt-4", Capability.VISION, "primary", Rule.CAPABILITY),
        (None, Capability.EMBED, "embed", Rule.CAPABILITY),
        ("tts-1", Capability.TTS, "tts", Rule.CAPABILITY),
    ],
)
def test_each_request_finds_its_slot(model: str | None, capability: Capability, target: str, rule: Rule) -> None:
    decision = outcome(model, capability)
    assert isinstance(decision, Decision)
    assert (decision.slot, decision.rule) == (target, rule)
    assert [tried.rule for tried in decision.tried] == list(Rule)[: list(Rule).index(rule) + 1]
    assert [tried.hit for tried in decision.tried] == [False] * (len(decision.tried) - 1) + [True]
    assert all(tried.fact for tried in decision.tried)


NPU = slot(
    "npu",
    "llama3.2:1b",
    provider=FakeProvider(tags=frozenset({"qwen3:4b", "llama3.2:1b", "whisper-v3:turbo", "big"})),
    **UP,
)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    ("model", "target", "rule"),
    [
        ("qwen3:4b", "npu", Rule.CAPABILITY),
        ("llama3.2:1b", "npu", Rule.PREEMPTION),
        ("big", "primary", Rule.PREEMPTION),  # what is loaded under a name has it
        ("Qwen3:4b", "primary", Rule.CAPABILITY),  # FLM's list is taken as it is spelled
    ],
)
def test_a_tag_of_flms_own_list_means_the_npu(model: str, target: str, rule: Rule, strict: bool) -> None:
    found = resolve(Ask(ROWS[Capability.CHAT], model, model), build((*FLEET, NPU)), lambda _slot: 0, strict=strict)
    if strict and model == "Qwen3:4b":
        assert isinstance(found, Refusal)
        assert found.error.details["did_you_mean"][0] == "qwen3:4b"
        return
    assert isinstance(found, Decision)
    assert (found.slot, found.rule) == (target, rule)


@pytest.mark.parametrize(
    ("model", "capability", "strict", "code"),
    [
        ("big", Capability.EMBED, False, "dispatch.capability_mismatch"),
        ("embed", Capability.CHAT, False, "dispatch.capability_mismatch"),
        (None, Capability.RERANK, False, "dispatch.capability_mismatch"),  # embed takes it, and cannot
        (None, Capability.STT, False, "request.missing_model"),  # no stt slot here
        ("whisper", Capability.STT, False, "dispatch.no_route"),
        ("bigg", Capability.CHAT, True, "dispatch.no_route"),
        (None, Capability.CHAT, True, "request.missing_model"),
    ],
)
def test_what_finds_none_is_one_typed_error(model: str | None, capability: Capability, strict: bool, code: str) -> None:
    refusal = outcome(model, capability, strict=strict)
    assert isinstance(refusal, Refusal)
    assert refusal.error.code == code


def test_a_near_miss_is_named() -> None:
    refusal = outcome("bigg", strict=True)
    assert isinstance(refusal, Refusal)
    assert "did you mean 'big'" in refusal.error.message


@pytest.mark.parametrize("asked", ["Qwen3-8B", "QWEN3-8B", "Qwen/Qwen3-8B", "qwen3-8b"])
def test_a_near_miss_is_found_however_its_makers_write_it(asked: str) -> None:
    table = build((slot("primary", "qwen3-8b-q4_k_m"),))
    refusal = resolve(ask(asked), table, lambda _slot: 0, strict=True)
    assert isinstance(refusal, Refusal)
    assert refusal.error.details["did_you_mean"] == ["qwen3-8b-q4_k_m"]


def test_a_model_that_no_slot_has_is_told_how_it_gets_one_and_not_to_be_itself() -> None:
    refusal = outcome("Shelf", strict=True)
    assert isinstance(refusal, Refusal)
    assert refusal.error.message.endswith("serves 'Shelf': it is on disk, but no slot has it as its model")
    assert refusal.error.hint == "hal0ctl slot swap SLOT shelf"
    assert refusal.error.details["did_you_mean"] == []


@pytest.mark.parametrize(
    "worse", [{"phase": Phase.ERROR}, {"phase": Phase.ERROR, "want": Want.LOADED}, {"load_on_request": False}]
)
def test_of_slots_that_are_down_one_that_can_be_loaded_is_taken(worse: dict[str, Any]) -> None:
    table = build((slot("a", "big", priority=90, **worse), slot("b", "big")))
    found = resolve(ask("big"), table, lambda _slot: 0, strict=False)
    assert isinstance(found, Decision)
    assert (found.slot, found.rule) == ("b", Rule.REGISTRY)


def test_rules_without_anything_to_look_at_say_so() -> None:
    facts = {tried.rule: tried.fact for tried in outcome("gpt-4").tried}
    assert facts[Rule.PASSTHROUGH] == "skipped: no upstreams are configured"
    assert facts[Rule.REGISTRY] == "'gpt-4' is not on disk"
    assert {tried.rule: tried.fact for tried in outcome("shelf").tried}[Rule.REGISTRY].startswith("'shelf' is on disk")


def test_of_several_slots_the_one_with_less_to_do_answers() -> None:
    busy = {SlotName("twin"): 3, SlotName("second"): 1}
    decision = resolve(ask("small"), TABLE, lambda name: busy.get(name, 0), strict=False)
    assert isinstance(decision, Decision)
    assert decision.slot == "second"
    assert set(decision.candidates) == {"second", "twin"}


def test_a_routable_slot_comes_before_a_loading_one() -> None:
    table = build([slot("primary", "m", **LOADING), slot("other", "m", priority=1, **UP)])
    decision = resolve(ask("m"), table, lambda _slot: 0, strict=False)
    assert isinstance(decision, Decision)
    assert decision.slot == "other"


def test_a_name_beats_an_alias_and_an_alias_beats_a_word() -> None:
    table = build([slot("primary", "a"), slot("x", "b", aliases=("primary", "chat"))])
    assert table.addresses["primary"] == "primary"
    assert table.addresses["chat"] == "x"
    assert table.addresses["agent"] == "primary"


def test_the_table_is_built_again_only_after_a_change() -> None:
    slots = FakeSlots(slot("primary", "a"))
    upstreams = FakeUpstreams()
    source = TableSource(slots, FakeRegistry(), upstreams)
    before = source.current()
    assert source.current() is before
    slots["primary"].count(1)
    assert source.current() is before
    slots["primary"].become(**UP)
    assert source.current() is not before
    before = source.current()
    upstreams.become(upstream("far", "m"))
    assert source.current() is not before
    assert source.current().listed == {"m": (Hop("far", "m"),)}


def test_words_for_the_chat_slot_need_a_chat_slot() -> None:
    table = build([slot("x", "m", aliases=("primary",))])
    assert table.addresses["primary"] == "x"
    assert "chat" not in table.addresses


def test_what_an_operator_binds_counts_from_the_next_request_on(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    registry = Registry(tmp_path / "store", (), tmp_path / "registry.toml")
    source = TableSource(FakeSlots(*FLEET), registry, FakeUpstreams())

    def asked(model: str) -> tuple[str, Rule]:
        found = resolve(
            Ask(ROWS[Capability.CHAT], model, registry.fold(model)), source.current(), lambda _slot: 0, strict=False
        )
        assert isinstance(found, Decision)
        return found.slot, found.rule

    assert asked("House:Q4") == ("primary", Rule.CAPABILITY)
    registry.bind("house-q4", Binding(slot="cold"))
    assert asked("House:Q4") == ("cold", Rule.REGISTRY)
    registry.bind("house-q4", None)
    assert asked("House:Q4") == ("primary", Rule.CAPABILITY)
