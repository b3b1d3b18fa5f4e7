"""On which line of a TOML text each key stands: for fault messages, since parsers keep values only."""

import re
import tomllib
from typing import Any, Final

KeyPath = tuple[str, ...]

_STRING: Final = r'"""(?:\\.|[^\\])*?"""|\'\'\'.*?\'\'\'|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\''
_TOKEN: Final = re.compile(rf"(?P<string>{_STRING})|(?P<comment>\#[^\n]*)|(?P<newline>\n)|(?P<other>.)", re.DOTALL)
_OPEN: Final = "[{"
_CLOSE: Final = "]}"


def key_lines(text: str) -> dict[KeyPath, int]:
    """Line (from 1) of every table header and every key outside inline tables; of valid TOML."""
    lines: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for line, statement in _statements(text):
        if statement.startswith("["):
            table = _key_path(statement.strip("[]"))
            lines.setdefault(table, line)
        else:
            path = (*table, *_key_path(statement))
            for depth in range(len(table) + 1, len(path) + 1):
                lines.setdefault(path[:depth], line)
    return lines


def _statements(text: str) -> list[tuple[int, str]]:
    """(first line, text up to `=` or the whole header) of each statement, values skipped."""
    statements: list[tuple[int, str]] = []
    line, start, depth = 1, 1, 0
    head: str | None = ""  # None: inside the value
    for token in _TOKEN.finditer(text):
        piece, kind = token.group(), token.lastgroup
        if kind == "newline" and depth == 0:
            if head and head.strip():
                statements.append((start, head.strip()))
            head = ""
        elif kind == "other" and piece == "=" and head is not None and depth == 0:
            statements.append((start, head.strip()))
            head = None
        elif kind in {"string", "other"}:
            if kind == "other":
                depth += (piece in _OPEN) - (piece in _CLOSE)
            if head is not None:
                start = line if not head.strip() else start
                head += piece
        line += piece.count("\n")
    if head and head.strip():
        statements.append((start, head.strip()))
    return statements


def _key_path(dotted: str) -> KeyPath:
    """`a."b.c"` as the parser itself reads it."""
    path: list[str] = []
    table: Any = tomllib.loads(f"{dotted} = 0")
    while isinstance(table, dict):
        [(key, table)] = table.items()
        path.append(key)
    return tuple(path)
