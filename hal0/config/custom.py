"""Slots beyond the built-in ones as files: `slots.d/<name>.toml` is written for a new one, and taken away again."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hal0.config.edit import ABSENT, REMOVE, Edit, edited, read_text, revision, write
from hal0.config.faults import Fault, complaints, refused
from hal0.config.load import Loaded, load
from hal0.config.slots import SlotConfig, plain_spelling
from hal0.errors import Hal0Error
from hal0.paths import Paths
from hal0.vocab import BUILTIN_SLOTS, RESERVED_SLOTS, SLOT_NAME


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the configuration comes from: its files, the environment, and the command line's values."""

    paths: Paths
    environ: Mapping[str, str]
    overrides: Mapping[str, Any]

    def load(self, texts: Mapping[Path, str | None] | None = None) -> Loaded:
        """Blocking; `texts` as for `config.load.load`."""
        return load(self.paths, self.environ, self.overrides, texts=texts)

    def write(self, texts: Mapping[Path, str | None], expected: Mapping[Path, str]) -> Loaded:
        """Blocking; as `config.edit.write`."""
        return write(self.paths, texts, expected=expected, environ=self.environ, overrides=self.overrides)


@dataclass(frozen=True, slots=True)
class Draft:
    """A slot that could be made: its file and what would stand in it."""

    file: Path
    text: str


def draft(sources: Sources, name: str, fields: Mapping[str, Any]) -> Draft:
    """The new slot's file. `fields` are those of SlotConfig; None means unset. Blocking.

    Raises config.invalid naming the field and what is allowed, slot.reserved, or slot.exists.
    """
    made = _draft(sources, name, fields)
    sources.load({made.file: made.text})
    return made


def add(sources: Sources, name: str, fields: Mapping[str, Any]) -> Loaded:
    """Write the new slot's file; the configuration that then holds. Raises as `draft` and `edit.write`. Blocking."""
    made = _draft(sources, name, fields)
    return sources.write({made.file: made.text}, {made.file: ABSENT})


def take_away(sources: Sources, name: str) -> Loaded:
    """Remove the slot from hal0.toml and slots.d, wherever it stands. Raises as `edit.write`. Blocking."""
    main, own = sources.paths.config_file, sources.paths.slots_config_dir / f"{name}.toml"
    expected = {main: revision(main), own: revision(own)}
    before = read_text(main)
    after = edited(before, [Edit(("slots", name), REMOVE)])
    texts: dict[Path, str | None] = {main: after} if after != before else {}
    if expected[own] != ABSENT:
        texts[own] = None
    if name in sources.load(texts).root.slots:
        raise Hal0Error(
            "config.conflict",
            f"cannot delete slot {name}: it is also set outside the files",
            hint=f"Take HAL0_SLOTS__{name.upper()}__... out of the environment of hal0.",
        )
    return sources.write(texts, expected)


def deletable(name: str) -> None:
    """Raises slot.reserved for a built-in slot."""
    if name in BUILTIN_SLOTS:
        raise Hal0Error(
            "slot.reserved",
            f"cannot delete slot {name}: it is built in",
            hint=f"hal0ctl slot unload {name} frees what it uses.",
        )


def _draft(sources: Sources, name: str, fields: Mapping[str, Any]) -> Draft:
    _check_name(name)
    file = sources.paths.slots_config_dir / f"{name}.toml"
    if revision(file) != ABSENT or name in sources.load().root.slots:
        raise Hal0Error("slot.exists", f"cannot create slot {name}: there is one of this name")
    given = plain_spelling({key: value for key, value in fields.items() if value is not None})
    check_fields(name, given)
    return Draft(file, edited("", [Edit((key,), value) for key, value in given.items()]))


def _check_name(name: str) -> None:
    if not SLOT_NAME.match(name):
        allowed = "a letter, then letters, digits, _ or -; at most 32, lower case"
        raise refused(f"create slot {name}", [Fault("", None, "name", f"{name!r} is not a slot name", allowed)])
    if name in RESERVED_SLOTS:
        raise Hal0Error("slot.reserved", f"cannot create slot {name}: this name is hal0's own")


def check_fields(name: str, fields: Mapping[str, Any]) -> None:
    """Raises config.invalid with all faults at once, in the request's words: no file has them yet."""
    try:
        SlotConfig.model_validate(dict(fields))
    except ValidationError as error:
        found = [Fault("", None, c.key, c.message, c.allowed) for c in complaints(error, SlotConfig)]
        raise refused(f"configure slot {name}", found) from error
