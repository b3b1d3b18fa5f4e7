"""Edits keep what they do not touch, and lose to a newer file."""

import stat
import tomllib
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal0.config.edit import ABSENT, REMOVE, Edit, edited, revision, save
from hal0.config.template import write_first
from hal0.errors import Hal0Error
from hal0.paths import Paths, resolve

TEXT = """\
# mine
[slots.primary]   # the big one
priority = 50     # middle
model = "a"

[server]
port = 8080
"""


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    found = resolve({"HAL0_HOME": str(tmp_path)})
    found.config_dir.mkdir()
    found.config_file.write_text(TEXT)
    return found


def test_a_value_changes_and_nothing_else() -> None:
    after = edited(TEXT, [Edit(("slots", "primary", "priority"), 60)])
    assert after == TEXT.replace("priority = 50 ", "priority = 60 ")


def test_a_new_key_and_a_new_table_find_their_places() -> None:
    after = edited(TEXT, [Edit(("server", "grace_s"), 5), Edit(("slots", "two", "extra_args"), ["-t", "2"])])
    assert "port = 8080\ngrace_s = 5\n" in after
    assert '[slots.two]\nextra_args = ["-t", "2"]\n' in after
    assert "[slots]\n" not in after
    assert after.startswith(TEXT.partition("[server]")[0])


def test_a_key_or_a_table_goes() -> None:
    gone = edited(TEXT, [Edit(("slots", "primary", "model"), REMOVE), Edit(("server",), REMOVE)])
    assert gone == TEXT.partition("model")[0] + "\n"
    assert edited(TEXT, [Edit(("no", "such", "key"), REMOVE)]) == TEXT


def test_a_path_through_a_value_is_refused() -> None:
    with pytest.raises(Hal0Error, match=r"server\.port: is not a table"):
        edited(TEXT, [Edit(("server", "port", "x"), 1)])


def test_saving_returns_the_new_configuration_and_keeps_the_mode(paths: Paths) -> None:
    paths.config_file.chmod(0o640)
    file, before = paths.config_file, revision(paths.config_file)
    loaded = save(paths, file, [Edit(("server", "port"), 8090)], expected=before)
    assert loaded.root.server.port == 8090
    assert file.read_text() == TEXT.replace("8080", "8090")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert revision(file) != before


def test_a_file_that_changed_meanwhile_is_left_alone(paths: Paths) -> None:
    stale = revision(paths.config_file)
    paths.config_file.write_text(TEXT + "# edited by hand\n")
    with pytest.raises(Hal0Error) as caught:
        save(paths, paths.config_file, [Edit(("server", "port"), 1)], expected=stale)
    assert caught.value.code == "config.conflict"
    assert caught.value.details["revision"] == revision(paths.config_file)
    assert paths.config_file.read_text().endswith("# edited by hand\n")


def test_an_edit_that_would_be_invalid_is_not_written(paths: Paths) -> None:
    with pytest.raises(Hal0Error) as caught:
        save(paths, paths.config_file, [Edit(("server", "port"), "x")], expected=revision(paths.config_file))
    assert caught.value.code == "config.invalid"
    assert caught.value.details["faults"][0]["line"] == 7
    assert paths.config_file.read_text() == TEXT


def test_a_new_slot_file_is_private(paths: Paths) -> None:
    file = paths.slots_config_dir / "two.toml"
    loaded = save(paths, file, [Edit(("priority",), 3)], expected=ABSENT)
    assert loaded.root.slots["two"].priority == 3
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_directory_that_cannot_be_written_is_named(paths: Paths) -> None:
    paths.slots_config_dir.write_text("in the way")
    with pytest.raises(Hal0Error) as caught:
        save(paths, paths.slots_config_dir / "two.toml", [Edit(("priority",), 3)], expected=ABSENT)
    assert caught.value.code == "state.write_failed"


def test_the_first_file_is_written_once(tmp_path: Path) -> None:
    paths = resolve({"HAL0_HOME": str(tmp_path / "new")})
    assert write_first(paths)
    paths.config_file.write_text(TEXT)
    assert not write_first(paths)
    assert paths.config_file.read_text() == TEXT


USUAL = (
    "",
    TEXT,
    "[slots.primary.model]\ndefault = 'a'\n\n[slots.primary.env]\nA = '1'\n[server]\n",
    "[[list]]\na = 1\n[server] # last\n",
    "slots = { primary = { priority = 1 } }\n",
)
UNUSUAL = (
    "[slots]\nprimary.priority = 1\nprimary.model = 'a'\n[other]\n",
    "[slots.primary]\na = 1\n[server]\nx = 1\n[slots.two]\nb = 1\n[slots.primary.env]\nA = '1'\n",
)
edits = st.builds(
    Edit,
    st.lists(st.sampled_from(["slots", "primary", "two", "server", "model", "env", "a b"]), min_size=1, max_size=4).map(
        tuple
    ),
    st.sampled_from([1, "x", True, 2.5, ["a"], {"k": 1}, {}, REMOVE]),
)


def _applied(table: dict[str, Any], edit: Edit) -> dict[str, Any]:
    """The meaning of an edit, built anew at each level."""
    key, *rest = edit.path
    if rest:
        inner = table.get(key)
        if edit.value is REMOVE and inner is None:
            return table
        assert inner is None or isinstance(inner, dict)
        return {**table, key: _applied(inner or {}, Edit(tuple(rest), edit.value))}
    left = {name: value for name, value in table.items() if name != key}
    return left if edit.value is REMOVE else {**left, key: edit.value}


def _filled(value: Any) -> Any:
    """Tables that hold nothing may be written or not."""
    if not isinstance(value, dict):
        return value
    return {key: filled for key, inner in value.items() if (filled := _filled(inner)) != {}}


@given(st.sampled_from(USUAL + UNUSUAL), st.lists(edits, max_size=4))
def test_an_edit_means_what_it_says_or_is_refused(text: str, changes: list[Edit]) -> None:
    wanted = tomllib.loads(text)
    for edit in changes:
        try:
            after = edited(text, [edit])
        except Hal0Error:
            continue
        wanted = _applied(wanted, edit)
        assert _filled(tomllib.loads(after)) == _filled(wanted)
        text = after


@given(st.sampled_from(USUAL), edits)
def test_in_a_usual_layout_only_a_path_through_a_value_is_refused(text: str, edit: Edit) -> None:
    refusal = pytest.raises(Hal0Error, match="is not a table")
    with refusal if _through_a_value(tomllib.loads(text), edit.path) else nullcontext():
        edited(text, [edit])


def _through_a_value(table: Any, path: tuple[str, ...]) -> bool:
    for key in path[:-1]:
        table = table.get(key, {})
        if not isinstance(table, dict):
            return True
    return False
