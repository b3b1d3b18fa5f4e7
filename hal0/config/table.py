"""A slot's table changed as one, and put back as it was when what it was changed for has failed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hal0.config.custom import Sources, check_fields
from hal0.config.edit import ABSENT, Edit, edited, read_text, revision
from hal0.config.load import Loaded
from hal0.config.slots import SlotConfig
from hal0.errors import Hal0Error


@dataclass(frozen=True, slots=True)
class Kept:
    """One file before a change (None: there was none), and the revision that the change has left."""

    file: Path
    before: str | None
    after: str


def put(sources: Sources, name: str, fields: Mapping[str, Any]) -> tuple[Loaded, Kept]:
    """Set these fields of a slot; a slot that is not configured gets a file of its own, a reserved name too.

    Raises config.invalid, config.conflict (a field is also set outside the files) or state.write_failed. Blocking.
    """
    check_fields(name, fields)
    main, own = sources.paths.config_file, sources.paths.slots_config_dir / f"{name}.toml"
    in_main = revision(own) == ABSENT and name in sources.load().root.slots
    file, above = (main, ("slots", name)) if in_main else (own, ())
    expected = revision(file)
    before = None if expected == ABSENT else read_text(file)
    text = edited(before or "", [Edit((*above, field), value) for field, value in fields.items()])
    _in_force(sources.load({file: text}).root.slots[name], name, fields)
    loaded = sources.write({file: text}, {file: expected})
    return loaded, Kept(file, before, revision(file))


def put_back(sources: Sources, kept: Kept) -> Loaded:
    """The file as it was. Raises config.conflict when somebody has changed it since. Blocking."""
    return sources.write({kept.file: kept.before}, {kept.file: kept.after})


def _in_force(slot: SlotConfig, name: str, fields: Mapping[str, Any]) -> None:
    wanted = SlotConfig.model_validate({"provider": slot.provider, "upstream": slot.upstream, **fields})
    for field in fields:
        if getattr(slot, field) != getattr(wanted, field):
            raise Hal0Error(
                "config.conflict",
                f"cannot set {field} of slot {name}: it is also set outside the files",
                hint=f"Take HAL0_SLOTS__{name.upper()}__{field.upper()} out of the environment of hal0.",
            )
