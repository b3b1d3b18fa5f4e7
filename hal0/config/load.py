"""Read the configuration: defaults < hal0.toml < slots.d < environment < command line; all faults at once."""

import contextlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pydantic import ValidationError

from hal0.config.faults import Complaint, Fault, Loc, complaints, invalid, known_keys
from hal0.config.lines import KeyPath, key_lines
from hal0.config.root import RootConfig, clashes
from hal0.config.slots import plain_spelling
from hal0.paths import Paths

ENVIRONMENT: Final = "environment"
COMMAND_LINE: Final = "command line"

_PREFIX: Final = "HAL0_"
_SYNTAX_LINE: Final = re.compile(r" \(at (?:line (?P<line>\d+), column \d+|end of document)\)$")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value was said: a file's path, `environment` or `command line`, and the line in a file."""

    source: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid configuration, and for every key that somebody set, who did. Keys not in `origins` are defaults."""

    root: RootConfig
    origins: Mapping[KeyPath, Origin]


@dataclass(slots=True)
class _Layers:
    """The merged tree so far, with the origin of each leaf."""

    tree: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, Origin] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def put(self, path: KeyPath, value: Any, origin: Origin) -> None:
        table = self.tree
        for part in path[:-1]:
            if not isinstance(table.get(part), dict):
                table[part] = {}
            table = table[part]
        if value == {} and isinstance(table.get(path[-1]), dict):
            return  # an empty table adds nothing to what a lower layer says
        table[path[-1]] = value
        self.origins[path] = origin


def load(
    paths: Paths,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    texts: Mapping[Path, str | None] | None = None,
) -> Loaded:
    """The configuration in force. Blocking (a few small files); call it off the event loop.

    `overrides` are the command line's, by dotted key (`{"server.port": 8090}`). `texts` stand in for files that are
    about to be written, None for one that is about to go. Raises config.invalid with every fault of every source in
    `details.faults`.
    """
    layers = _Layers()
    for file in config_files(paths, texts or {}):
        _read_file(file, paths, texts or {}, layers)
    _read_environment(environ or {}, layers)
    for key, value in (overrides or {}).items():
        layers.put(tuple(key.split(".")), value, Origin(COMMAND_LINE))
    root = _validate(layers)
    if layers.faults or root is None:
        raise invalid(layers.faults)
    return Loaded(root, MappingProxyType(layers.origins))


def config_files(paths: Paths, texts: Mapping[Path, str | None] = MappingProxyType({})) -> list[Path]:
    """The files that make up the configuration, in the order in which they count."""
    slots = {path for path in texts if path.parent == paths.slots_config_dir}
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        slots |= {path for path in paths.slots_config_dir.iterdir() if path.suffix == ".toml" and path.name[0] != "."}
    gone = {path for path, text in texts.items() if text is None}
    return [paths.config_file, *sorted(slots - gone)]


def _read_file(file: Path, paths: Paths, texts: Mapping[Path, str | None], layers: _Layers) -> None:
    try:
        given = texts.get(file)
        text = file.read_text(encoding="utf-8") if given is None else given
    except FileNotFoundError:
        return
    except OSError as error:
        layers.faults.append(Fault(str(file), None, "", f"cannot be read: {error.strerror}"))
        return
    except UnicodeDecodeError:
        layers.faults.append(Fault(str(file), None, "", "is not UTF-8 text"))
        return
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        layers.faults.append(_syntax_fault(file, text, str(error)))
        return
    lines = key_lines(text)
    prefix: KeyPath = ()
    if file.parent == paths.slots_config_dir:
        prefix = ("slots", file.stem)
        table = {"slots": {file.stem: table}}
    _add_table(_plain_slots(table), Origin(str(file)), {(*prefix, *path): line for path, line in lines.items()}, layers)


def _syntax_fault(file: Path, text: str, message: str) -> Fault:
    match = _SYNTAX_LINE.search(message)
    line = int(match["line"]) if match and match["line"] else text.count("\n") + 1
    return Fault(str(file), line, "", f"is not valid TOML: {_SYNTAX_LINE.sub('', message)}")


def _plain_slots(table: Mapping[str, Any]) -> dict[str, Any]:
    slots = table.get("slots")
    if not isinstance(slots, dict):
        return dict(table)
    plain = {name: plain_spelling(slot) if isinstance(slot, dict) else slot for name, slot in slots.items()}
    return {**table, "slots": plain}


def _add_table(table: Mapping[str, Any], origin: Origin, lines: Mapping[KeyPath, int], layers: _Layers) -> None:
    for path, value in _leaves(table):
        layers.put(path, value, Origin(origin.source, _line(path, lines)))


def _leaves(table: Mapping[str, Any], path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Everything that one layer replaces as a whole; an empty table counts, since `[slots.x]` makes a slot."""
    for key, value in table.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key), value


def _line(path: KeyPath, lines: Mapping[KeyPath, int]) -> int | None:
    """The line of the key, in whichever spelling, or of the nearest table around it."""
    if path[:1] == ("slots",) and len(path) > 2:
        for spelling in ((*path, "default"), path, (*path[:2], "defaults", *path[2:])):
            if spelling in lines:
                return lines[spelling]
    for depth in range(len(path), 0, -1):
        if path[:depth] in lines:
            return lines[path[:depth]]
    return None


def _read_environment(environ: Mapping[str, str], layers: _Layers) -> None:
    mistyped = {
        f"{_PREFIX}{section}_{key}".upper(): f"{_PREFIX}{section}__{key}".upper()
        for section in RootConfig.model_fields
        for key in known_keys((section,), RootConfig)
    }
    for name, text in sorted(environ.items()):
        if right := mistyped.get(name):
            layers.faults.append(Fault(ENVIRONMENT, None, name, "one underscore is not enough", right))
        elif name.startswith(_PREFIX) and "__" in name and not name.startswith("HAL0_TEST"):
            layers.put(tuple(name.removeprefix(_PREFIX).lower().split("__")), _value(text), Origin(ENVIRONMENT))


def _value(text: str) -> Any:
    """A variable's text as TOML reads it (`8080`, `true`, `["a", "b"]`), else the text itself."""
    try:
        table = tomllib.loads(f"value = {text}\n")
    except tomllib.TOMLDecodeError:
        return text
    return table["value"] if len(table) == 1 else text


def _validate(layers: _Layers) -> RootConfig | None:
    """Validate; take out what is wrong and look again, so that one fault never hides another."""
    seen: list[Complaint] = []
    root, tree = None, layers.tree
    while root is None:
        try:
            root = RootConfig.model_validate(tree)
        except ValidationError as error:
            found = complaints(error, RootConfig)
            fresh = [complaint for complaint in found if not _explained(complaint, seen)]
            seen += fresh
            # Nothing new to say: something needs what was taken out, so it goes as well.
            smaller = _without_all(tree, [c.loc for c in fresh] or [c.loc[:-1] for c in found])
            if smaller == tree:
                break
            tree = smaller
    if root is not None:
        seen += [Complaint(clash.loc, clash.message, clash.allowed) for clash in clashes(root)]
    layers.faults += [_located(complaint, layers.origins) for complaint in seen]
    return root


def _explained(complaint: Complaint, seen: list[Complaint]) -> bool:
    """Whether it only repeats, or follows from the removal of, a value already complained about."""
    return any(complaint.loc == other.loc[: len(complaint.loc)] for other in seen)


def _without_all(tree: dict[str, Any], locs: list[Loc]) -> dict[str, Any]:
    for loc in locs:
        tree = _without(tree, loc) if loc else tree
    return tree


def _without(tree: dict[str, Any], loc: Loc) -> dict[str, Any]:
    """A copy without the value at `loc`; inside a list, without the whole list."""
    key = str(loc[0])
    if key not in tree:
        return tree
    inner = tree[key]
    if len(loc) > 1 and isinstance(inner, dict):
        return {**tree, key: _without(inner, loc[1:])}
    return {k: v for k, v in tree.items() if k != key}


def _located(complaint: Complaint, origins: Mapping[KeyPath, Origin]) -> Fault:
    path = tuple(str(part) for part in complaint.loc)
    origin = next(
        (origins[path[:depth]] for depth in range(len(path), 0, -1) if path[:depth] in origins),
        None,
    ) or next((o for known, o in origins.items() if known[: len(path)] == path), Origin("defaults"))
    key = complaint.key
    if origin.source == ENVIRONMENT:
        key = _PREFIX + "__".join(path).upper()
    return Fault(origin.source, origin.line, key, complaint.message, complaint.allowed)
