"""What a changed configuration asks for."""

from typing import Any

import pytest

from hal0.config.diff import LATER, RELOADS, Change, Effect, diff
from hal0.config.root import RootConfig
from hal0.config.slots import SlotConfig


def root(**sections: Any) -> RootConfig:
    return RootConfig.model_validate(sections)


def brief(changes: list[Change]) -> set[tuple[str, str, str | None]]:
    return {(change.key, change.effect.value, change.slot) for change in changes}


def test_nothing_changed_nothing_to_do() -> None:
    assert diff(root(), root()) == []


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ({}, {"server": {"port": 1}}, {("server.port", "restart", None)}),
        ({}, {"server": {"grace_s": 1}}, {("server.grace_s", "live", None)}),
        ({}, {"slots": {"primary": {"priority": 1}}}, {("slots.primary.priority", "live", "primary")}),
        ({}, {"slots": {"primary": {"context_size": 512}}}, {("slots.primary.context_size", "reload", "primary")}),
        ({}, {"slots": {"primary": {"model": "m"}}}, {("slots.primary.model", "nothing", "primary")}),
        ({}, {"slots": {"two": {}}}, {("slots.two", "live", "two")}),
        ({"slots": {"two": {}}}, {}, {("slots.two", "live", "two")}),
        ({}, {"profiles": {"p": {"parallel": 2}}}, {("profiles.p", "live", None)}),
        ({}, {"upstreams": {"u": {"base_url": "http://u"}}}, {("upstreams.u", "live", None)}),
        ({}, {"images": {"kokoro": "x"}}, {("images.kokoro", "reload", "tts")}),
        ({}, {"images": {"flm": "x"}}, {("images.flm", "nothing", None)}),
    ],
)
def test_each_kind_of_change(
    old: dict[str, Any], new: dict[str, Any], wanted: set[tuple[str, str, str | None]]
) -> None:
    assert brief(diff(root(**old), root(**new))) == wanted


def test_a_changed_profile_reloads_the_slots_that_use_it() -> None:
    slots = {"primary": {"profile": "p"}, "embed": {"profile": "p", "context_size": 512}}
    old = root(slots=slots, profiles={"p": {"context_size": 1024}})
    new = root(slots=slots, profiles={"p": {"context_size": 2048}})
    assert brief(diff(old, new)) == {
        ("slots.primary.context_size", "reload", "primary"),
        ("profiles.p", "live", None),
    }


def test_an_image_reloads_only_slots_that_may_use_it() -> None:
    slots = {"primary": {"device": "cpu"}, "embed": {"device": "cpu", "image": "own"}, "x": {}, "y": {"device": "cuda"}}
    changes = diff(root(slots=slots), root(slots=slots, images={"cpu": "new"}))
    assert {change.slot for change in changes} == {"primary", "x"}
    assert {change.effect for change in changes} == {Effect.RELOAD}


def test_the_tables_name_real_fields() -> None:
    assert set(SlotConfig.model_fields) >= RELOADS | LATER
    assert not RELOADS & LATER
