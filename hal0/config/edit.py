"""Change TOML files the way a careful person would: comments and order stay, a stale edit is refused."""

import hashlib
import stat
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import InlineTable

from hal0.config.faults import Fault, invalid
from hal0.config.load import Loaded, load
from hal0.errors import Hal0Error
from hal0.lib.atomic import write_atomic
from hal0.paths import Paths

# The revision of a file that does not exist; no SHA-256 looks like it.
ABSENT: Final = "absent"
# hal0.toml may hold keys of upstreams.
_NEW_FILE_MODE: Final = 0o600


class Remove(Enum):
    """`Edit.value` that takes the key away."""

    REMOVE = "remove"


REMOVE: Final = Remove.REMOVE


@dataclass(frozen=True, slots=True)
class Edit:
    """Set the value at a key path (`("slots", "primary", "priority")`), or remove it; missing tables are made."""

    path: tuple[str, ...]
    value: Any


def revision(file: Path) -> str:
    """SHA-256 of the file's bytes, in hex; ABSENT when there is none. Blocking."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return ABSENT


def edited(text: str, edits: Sequence[Edit]) -> str:
    """The TOML text after the edits. Pure. Raises config.invalid when a path leads through what is no table."""
    try:
        document = tomlkit.parse(text)
    except TOMLKitError as error:
        raise invalid([Fault("", None, "", f"is not valid TOML: {error}")]) from error
    for edit in edits:
        if edit.value is REMOVE:
            _remove(document, edit.path)
        else:
            table = _table(document, edit.path[:-1])
            _set(table, edit.path[-1], edit.value)
    return tomlkit.dumps(document)


def save(
    paths: Paths, file: Path, edits: Sequence[Edit], *, expected: str, environ: Mapping[str, str] | None = None
) -> Loaded:
    """Edit one file of the configuration, if it is still the revision `expected` and the whole stays valid.

    Returns the configuration that then holds. Raises config.conflict, config.invalid or state.write_failed, and
    leaves the file as it was. Blocking.
    """
    try:
        _expect(file, expected)
        old, mode = _read(file)
        text = edited(old, edits)
        loaded = load(paths, environ, texts={file: text})
        _expect(file, expected)  # validation took a moment
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, text.encode(), mode=mode)
    except OSError as error:
        raise Hal0Error("state.write_failed", f"cannot write {file}: {error.strerror}") from error
    return loaded


def _read(file: Path) -> tuple[str, int]:
    """Text and mode of the file; those of a new one where there is none."""
    try:
        return file.read_text(encoding="utf-8"), stat.S_IMODE(file.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return "", _NEW_FILE_MODE


def _expect(file: Path, expected: str) -> None:
    current = revision(file)
    if current != expected:
        raise Hal0Error(
            "config.conflict",
            f"cannot save {file}: it changed since it was read",
            details={"file": str(file), "expected": expected, "revision": current},
        )


def _table(document: MutableMapping[str, Any], path: tuple[str, ...]) -> MutableMapping[str, Any]:
    table = document
    for depth, key in enumerate(path, start=1):
        if key not in table:
            # `[slots.x]` needs no `[slots]` above it.
            table[key] = tomlkit.table(is_super_table=depth < len(path))
        inner = table[key]
        if not isinstance(inner, MutableMapping):
            raise invalid([Fault("", None, ".".join(path[:depth]), "is not a table")])
        table = inner
    return table


def _set(table: MutableMapping[str, Any], key: str, value: Any) -> None:
    old = table.get(key)
    item = tomlkit.item(value)
    if old is not None and hasattr(old, "trivia") and not isinstance(value, dict):
        item.trivia.indent, item.trivia.comment_ws = old.trivia.indent, old.trivia.comment_ws
        item.trivia.comment, item.trivia.trail = old.trivia.comment, old.trivia.trail
    table[key] = item


def _remove(document: MutableMapping[str, Any], path: tuple[str, ...]) -> None:
    table: Any = document
    for key in path[:-1]:
        if not isinstance(table, MutableMapping) or key not in table:
            return
        table = table[key]
    if isinstance(table, MutableMapping | InlineTable):
        table.pop(path[-1], None)
