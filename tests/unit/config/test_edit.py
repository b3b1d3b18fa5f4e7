"""Edits keep what they do not touch, and lose to a newer file."""

import stat
from pathlib import Path

import pytest

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
