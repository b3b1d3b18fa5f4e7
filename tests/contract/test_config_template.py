"""The first hal0.toml documents every key and changes nothing."""

import re
import tomllib
from pathlib import Path

import pytest

from hal0.config.load import load
from hal0.config.root import RootConfig
from hal0.config.slots import SlotConfig
from hal0.config.template import Seeds, template, write_first
from hal0.paths import resolve
from hal0.vocab import BUILTIN_SLOTS, SlotName

# A commented key, as opposed to a sentence.
COMMENTED = re.compile(r"^# (\[|[a-z_]+ = )")


def test_loading_the_written_file_gives_the_defaults(tmp_path: Path) -> None:
    paths = resolve({"HAL0_HOME": str(tmp_path)})
    assert write_first(paths)
    assert load(paths).root == RootConfig()


def test_seed_models_are_the_only_difference(tmp_path: Path) -> None:
    paths = resolve({"HAL0_HOME": str(tmp_path)})
    write_first(
        paths, lambda: {SlotName("primary"): {"model": "m", "context_size": 8192}, SlotName("embed"): {"model": "e"}}
    )
    root = load(paths).root
    primary, embed = (
        SlotConfig(model=it.model, context_size=it.context_size) for it in (root.slots["primary"], root.slots["embed"])
    )
    assert (primary, embed) == (SlotConfig(model="m", context_size=8192), SlotConfig(model="e"))
    assert [slot.model for slot in root.slots.values()] == ["m", "e", None, None, None]


def test_a_machine_is_looked_at_only_for_its_first_file(tmp_path: Path) -> None:
    paths = resolve({"HAL0_HOME": str(tmp_path)})
    write_first(paths)

    def never() -> Seeds:
        raise AssertionError

    assert not write_first(paths, never)


def test_a_file_that_cannot_be_read_now_is_not_replaced(tmp_path: Path) -> None:
    paths = resolve({"HAL0_HOME": str(tmp_path)})
    paths.config_dir.mkdir(parents=True)
    paths.config_file.symlink_to(tmp_path / "share" / "hal0.toml")
    assert not write_first(paths)
    assert paths.config_file.is_symlink()
    paths.config_file.unlink()
    paths.config_file.mkdir()
    assert not write_first(paths)


def test_all_built_in_slots_are_full_tables() -> None:
    slots = tomllib.loads(template())["slots"]
    assert tuple(slots) == BUILTIN_SLOTS
    for table in slots.values():
        assert table["provider"]
        assert table["idle_timeout_s"] == 600


@pytest.mark.parametrize("section", RootConfig.model_fields)
def test_every_section_and_key_is_there(section: str) -> None:
    assert f"[{section}" in template()
    default = RootConfig.model_fields[section].default
    keys = type(default).model_fields if hasattr(default, "model_fields_set") else {}
    body = template().partition(f"\n[{section}]\n")[2].partition("\n\n")[0]
    assert all(f"# {key} = " in body for key in keys)


def test_every_key_of_a_slot_is_explained() -> None:
    body = template().partition("[slots.primary]\n")[2].partition("\n\n")[0]
    for key, field in SlotConfig.model_fields.items():
        assert field.description
        assert re.search(rf"^(# )?{key} = ", body, re.MULTILINE), key


def test_every_commented_key_is_valid_once_it_is_uncommented(tmp_path: Path) -> None:
    paths = resolve({"HAL0_HOME": str(tmp_path)})
    write_first(paths)
    lines = paths.config_file.read_text().splitlines()
    text = "\n".join(line.removeprefix("# ") if COMMENTED.match(line) else line for line in lines)
    # A slot that runs a model here and fronts a server elsewhere cannot be: the first one, which explains every key.
    paths.config_file.write_text(text.replace('\nupstream = "openrouter"', "", 1))
    root = load(paths).root
    assert root.profiles["small"].context_size == 4096
    assert root.upstreams["openrouter"].prefix == "openrouter/"
    assert root.slots["smart"].upstream == "openrouter"
    assert root.slots["primary"].memory_limit == 8 * 1024**3


def test_every_field_of_every_table_has_a_description() -> None:
    for section, info in RootConfig.model_fields.items():
        assert info.description, section
        for key, field in getattr(type(info.default), "model_fields", {}).items():
            assert field.description, f"{section}.{key}"
