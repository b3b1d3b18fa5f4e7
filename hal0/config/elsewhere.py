"""`[upstreams.<name>]` tables of hal0.toml: a new one, a changed one, one taken away."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from hal0.config.custom import Sources
from hal0.config.edit import REMOVE, Edit, edited, keep_private, read_text, revision
from hal0.config.faults import Fault, complaints, refused
from hal0.config.load import Loaded
from hal0.config.root import TABLE_NAME
from hal0.config.upstreams import UpstreamConfig
from hal0.errors import Hal0Error


def add(sources: Sources, name: str, fields: Mapping[str, Any]) -> Loaded:
    """Write a new table; the configuration that then holds. `fields` are those of UpstreamConfig, None means unset.

    Raises config.invalid naming the field and what is allowed, upstream.exists, and as `edit.write`. Blocking.
    """
    if not TABLE_NAME.match(name):
        allowed = "letters, digits and . _ -, at most 64, lower case"
        raise refused(f"add upstream {name}", [Fault("", None, "name", f"{name!r} is not a name", allowed)])
    if name in sources.load().root.upstreams:
        raise Hal0Error("upstream.exists", f"cannot add upstream {name}: there is one of this name")
    given = {key: value for key, value in fields.items() if value is not None}
    _check(f"add upstream {name}", given)
    return _saved(sources, [Edit(("upstreams", name, key), value) for key, value in given.items()])


def change(sources: Sources, name: str, fields: Mapping[str, Any]) -> Loaded:
    """Set these fields of a table, None takes one away. Raises as `add`, and upstream.not_found. Blocking."""
    known = sources.load().root.upstreams.get(name)
    if known is None:
        raise _unknown(name)
    unknown = [key for key in fields if key not in UpstreamConfig.model_fields]
    if unknown:
        known_keys = ", ".join(UpstreamConfig.model_fields)
        raise refused(f"change upstream {name}", [Fault("", None, unknown[0], "there is no such key", known_keys)])
    edits = [Edit(("upstreams", name, key), REMOVE if value is None else value) for key, value in fields.items()]
    return _saved(sources, edits)


def take_away(sources: Sources, name: str) -> Loaded:
    """Remove the table. Raises upstream.not_found, upstream.in_use, config.conflict, and as `edit.write`. Blocking."""
    root = sources.load().root
    if name not in root.upstreams:
        raise _unknown(name)
    users = [slot for slot in root.slots if root.effective(slot).upstream == name]
    if users:
        raise Hal0Error(
            "upstream.in_use",
            f"cannot delete upstream {name}: slot {users[0]} stands for one of its models",
            details={"slots": users},
        )
    return _saved(sources, [Edit(("upstreams", name), REMOVE)], without=name)


def _saved(sources: Sources, edits: list[Edit], *, without: str | None = None) -> Loaded:
    """`without`: an upstream that must be gone afterwards, wherever else it may have been set."""
    file = sources.paths.config_file
    expected = {file: revision(file)}
    text = edited(read_text(file), edits)
    if without is not None and without in sources.load({file: text}).root.upstreams:
        raise Hal0Error(
            "config.conflict",
            f"cannot delete upstream {without}: it is also set outside the files",
            hint=f"Take HAL0_UPSTREAMS__{without.upper()}__... out of the environment of hal0.",
        )
    if any(edit.path[-1] == "auth" and isinstance(edit.value, dict) and "secret" in edit.value for edit in edits):
        sources.load({file: text})  # refused before anything is touched
        keep_private(file)
    return sources.write({file: text}, expected)


def _check(what: str, fields: Mapping[str, Any]) -> None:
    """All faults at once, in the request's words."""
    try:
        UpstreamConfig.model_validate(dict(fields))
    except ValidationError as error:
        found = [Fault("", None, c.key, c.message, c.allowed) for c in complaints(error, UpstreamConfig)]
        raise refused(what, found) from error


def _unknown(name: str) -> Hal0Error:
    return Hal0Error("upstream.not_found", f"cannot find an upstream {name!r}", hint="hal0ctl upstream list")
