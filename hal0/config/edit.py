"""Change TOML files the way a careful person would: comments and order stay, a stale edit is refused."""

import contextlib
import copy
import hashlib
import stat
import tomllib
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

import tomlkit
from tomlkit.container import Container, OutOfOrderTableProxy
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import InlineTable, Item, Table

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
    """The TOML text after the edits. Pure.

    Raises config.invalid when a path leads through what is no table, and when the layout of the text (tables out of
    order, dotted keys) is one in which the edit cannot be made without touching more: then nothing is guessed.
    """
    try:
        document, wanted = tomlkit.parse(text), tomllib.loads(text)
    except (TOMLKitError, tomllib.TOMLDecodeError) as error:
        raise invalid([Fault("", None, "", f"is not valid TOML: {error}")]) from error
    for edit in edits:
        _apply(wanted, edit)
        try:
            _apply(document, edit)
            faithful = _without_empty(tomllib.loads(tomlkit.dumps(document))) == _without_empty(wanted)
        except (TOMLKitError, tomllib.TOMLDecodeError):
            faithful = False
        if not faithful:
            raise invalid([Fault("", None, ".".join(edit.path), "cannot be changed in this layout; edit the file")])
    return tomlkit.dumps(document)


def save(
    paths: Paths,
    file: Path,
    edits: Sequence[Edit],
    *,
    expected: str,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Loaded:
    """Edit one file of the configuration, if it is still the revision `expected` and the whole stays valid.

    Returns the configuration that then holds. Raises config.conflict, config.invalid or state.write_failed, and
    leaves the file as it was. Blocking.
    """
    with _writing(file):
        _expect(file, expected)
        before = read_text(file)
    text = edited(before, edits)
    return write(paths, {file: text}, expected={file: expected}, environ=environ, overrides=overrides)


def write(
    paths: Paths,
    texts: Mapping[Path, str | None],
    *,
    expected: Mapping[Path, str],
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Loaded:
    """Put these texts into their files (None: remove the file), in their order; as `save` does.

    What is checked is the whole after the last of them.
    """
    loaded = load(paths, environ, overrides, texts=texts)
    for file in texts:
        with _writing(file):
            _expect(file, expected[file])
    for file, text in texts.items():
        with _writing(file):
            if text is None:
                file.unlink(missing_ok=True)
            else:
                file.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(file, text.encode(), mode=_mode(file))
    return loaded


def read_text(file: Path) -> str:
    """The file's text, empty where there is none. Blocking."""
    try:
        return file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return ""


def keep_private(file: Path) -> None:
    """Nobody else may read a file that is about to hold a key. Raises state.write_failed. Blocking."""
    with _writing(file), contextlib.suppress(FileNotFoundError):
        file.chmod(_NEW_FILE_MODE)


@contextlib.contextmanager
def _writing(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Hal0Error("state.write_failed", f"cannot write {file}: {error.strerror}") from error


def _mode(file: Path) -> int:
    try:
        return stat.S_IMODE(file.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return _NEW_FILE_MODE


def _expect(file: Path, expected: str) -> None:
    current = revision(file)
    if current != expected:
        raise Hal0Error(
            "config.conflict",
            f"cannot save {file}: it changed since it was read",
            details={"file": str(file), "expected": expected, "revision": current},
        )


def _apply(document: MutableMapping[str, Any], edit: Edit) -> None:
    """One edit, of a tomlkit document or of plain dicts."""
    table = document
    for depth, key in enumerate(edit.path[:-1], start=1):
        if key not in table:
            if edit.value is REMOVE:
                return
            table[key] = _new_table(table, last=depth == len(edit.path) - 1)
        inner = table[key]
        if not isinstance(inner, MutableMapping):
            raise invalid([Fault("", None, ".".join(edit.path[:depth]), "is not a table")])
        table = inner
    if edit.value is REMOVE:
        table.pop(edit.path[-1], None)
    else:
        table[edit.path[-1]] = _item(table, edit.path[-1], edit.value)


def _new_table(parent: MutableMapping[str, Any], *, last: bool) -> MutableMapping[str, Any]:
    """`[slots.x]` needs no `[slots]` above it; inside `{ }` only `{ }` may stand."""
    match parent:
        case InlineTable():
            return tomlkit.inline_table()
        case Container() | Table() | OutOfOrderTableProxy():
            return tomlkit.table(is_super_table=not last)
        case _:
            return {}


def _item(parent: MutableMapping[str, Any], key: str, value: Any) -> Any:
    """The value as tomlkit's, with the comment that stands behind the old one."""
    if isinstance(parent, InlineTable) and isinstance(value, dict):
        table = tomlkit.inline_table()
        for inner_key, inner in value.items():
            table[inner_key] = _item(table, inner_key, inner)
        return table
    if type(parent) is dict:
        return copy.deepcopy(value)
    item, old = tomlkit.item(value), parent.get(key)
    if isinstance(old, Item) and not isinstance(value, dict):
        item.trivia.indent, item.trivia.comment_ws = old.trivia.indent, old.trivia.comment_ws
        item.trivia.comment, item.trivia.trail = old.trivia.comment, old.trivia.trail
    return item


def _without_empty(value: Any) -> Any:
    """Tables that hold nothing may be written or not."""
    if not isinstance(value, dict):
        return value
    kept = {key: _without_empty(inner) for key, inner in value.items()}
    return {key: inner for key, inner in kept.items() if inner != {}}
