"""What `hal0ctl` writes: tables, JSON lines, YAML and names on stdout; notes and errors on stderr."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from hal0.cli import units
from hal0.client import ClientError
from hal0.lib.clock import iso

Json = dict[str, Any]
Row = Mapping[str, Any]

FORMATS: Final = ("table", "wide", "json", "jsonl", "yaml", "name")
MACHINE_FORMATS: Final = ("json", "jsonl", "yaml")
GAP: Final = "  "
MIN_COLUMN: Final = 8  # narrower than this a name says nothing any more

# The API's times are seconds; people who read JSON with their eyes or with jq want ISO 8601.
_TIMES: Final = frozenset(
    {
        "at",
        "since",
        "started_at",
        "ended_at",
        "ready_at",
        "last_used",
        "next_attempt_at",
        "updated_at",
        "created_at",
        "expires_at",
        "rotated_at",
        "old_until",
    }
)

_COLOURS: Final = {
    "pulling": "36",
    "starting": "36",
    "warming": "33",
    "ready": "32",
    "serving": "1;32",
    "idle": "34",
    "unloading": "35",
    "offline": "2",
    "error": "31",
}


class Column(NamedTuple):
    """`wide` columns show with `-o wide` or by name; `state` cells are coloured by their word."""

    header: str
    cell: Callable[[Row], str]
    right: bool = False
    wide: bool = False
    state: bool = False


def choose(columns: Sequence[Column], names: str | None, *, wide: bool) -> list[Column]:
    """The columns to show. Raises KeyError with the first unknown name."""
    if not names:
        return [c for c in columns if wide or not c.wide]
    by_name = {c.header.lower(): c for c in columns}
    return [by_name[name.strip().lower()] for name in names.split(",") if name.strip()]


def table(
    rows: Sequence[Row],
    columns: Sequence[Column],
    *,
    width: int | None = None,
    headers: bool = True,
    colour: bool = False,
) -> str:
    """Two-space columns without box drawing; `width` None leaves everything whole.

    Where even the narrowest columns are too wide, those that say nothing of any row are left out, from the right.
    """
    cells = [[units.plain(c.cell(row)).replace("\n", " ") for c in columns] for row in rows]
    heads = [[c.header for c in columns]] if headers else []
    widths = [max((len(line[i]) for line in heads + cells), default=0) for i in range(len(columns))]
    if width is not None:
        silent = [i for i in range(len(columns)) if cells and all(line[i] == "-" for line in cells)]
        while silent and sum(min(w, MIN_COLUMN) + len(GAP) for w in widths) - len(GAP) > width:
            at = silent.pop()
            columns = [*columns[:at], *columns[at + 1 :]]
            for line in heads + cells:
                del line[at]
            del widths[at]
        _shrink(widths, width - len(GAP) * (len(columns) - 1))
    lines = [_line(line, columns, widths, colour=False) for line in heads]
    lines += [_line(line, columns, widths, colour=colour) for line in cells]
    return "".join(line + "\n" for line in lines)


def _shrink(widths: list[int], room: int) -> None:
    """Takes from the widest column first, so that short ones stay whole."""
    while widths and sum(widths) > room:
        widest = widths.index(max(widths))
        if widths[widest] <= MIN_COLUMN:
            return
        widths[widest] -= 1


def _line(cells: Sequence[str], columns: Sequence[Column], widths: Sequence[int], *, colour: bool) -> str:
    parts = []
    for i, (cell, column, width) in enumerate(zip(cells, columns, widths, strict=True)):
        text = cell if len(cell) <= width else cell[: width - 1] + "…"
        last = i == len(columns) - 1
        padded = text.rjust(width) if column.right else text if last else text.ljust(width)
        parts.append(paint(cell, padded) if colour and column.state else padded)
    return GAP.join(parts).rstrip()


def paint(state: str, text: str) -> str:
    """The state's colour around `text`; words that are no state stay plain."""
    code = _COLOURS.get(state)
    return f"\x1b[{code}m{text}\x1b[0m" if code else text


def readable_times(value: Any) -> Any:
    """The same JSON with every point in time as ISO 8601 in UTC."""
    if isinstance(value, list):
        return [readable_times(v) for v in value]
    if not isinstance(value, dict):
        return value
    return {
        k: iso(v) if k in _TIMES and isinstance(v, int | float) and not isinstance(v, bool) else readable_times(v)
        for k, v in value.items()
    }


def yaml(value: Any, indent: int = 0) -> str:
    """JSON-ready values as YAML's block style; every string is quoted as JSON does, which YAML reads too."""
    pad = "  " * indent
    if isinstance(value, dict) and value:
        return "".join(f"{pad}{key}:{_yaml_member(v, indent + 1)}" for key, v in value.items())
    if isinstance(value, list) and value:
        return "".join(f"{pad}-{_yaml_member(v, indent + 1)}" for v in value)
    return f"{pad}{json.dumps(value, ensure_ascii=False)}\n"


def _yaml_member(value: Any, indent: int) -> str:
    nested = isinstance(value, dict | list) and bool(value)
    return "\n" + yaml(value, indent) if nested else " " + yaml(value).lstrip()


def machine(value: Any, fmt: str) -> str:
    """`value` as json, jsonl (a list gives one line per item) or yaml."""
    shown = readable_times(value)
    match fmt:
        case "jsonl":
            items = shown if isinstance(shown, list) else [shown]
            return "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)
        case "yaml":
            return yaml(shown)
        case _:
            return json.dumps(shown, ensure_ascii=False, indent=2) + "\n"


def terminal_width() -> int | None:
    """Columns of the terminal that stdout is; None when it is piped."""
    if not sys.stdout.isatty():
        return None
    import shutil  # brings three compressors along: not for a pipe

    return shutil.get_terminal_size().columns


def error_text(error: ClientError) -> str:
    """An error as people read it, for stderr."""
    lines = [f"error: {error.message.removesuffix('.')}.   [{error.code}]"]
    guess = error.details.get("did_you_mean")
    if guess and not (error.hint or "").startswith("Did you mean"):
        names = guess if isinstance(guess, list) else [guess]
        lines.append(f"  Did you mean {' or '.join(repr(str(n)) for n in names)}?")
    if error.hint:
        lines.append(f"  hint: {error.hint}")
    if error.request_id:
        lines.append(f"  request: {error.request_id}")
    return units.plain("\n".join(lines))


def error_json(
    code: str, message: str, *, hint: str | None = None, details: Json | None = None, request_id: str | None = None
) -> str:
    """The same error as one JSON object, for stderr with a machine format."""
    member = {"code": code, "message": message, "details": details or {}, "hint": hint, "request_id": request_id}
    return json.dumps({"error": member}, ensure_ascii=False)
