"""Reads the history: newest first, a page at a time, from a connection of its own that cannot write.

A question takes its time in a thread and is given up at its deadline; it never holds up what is being written.
"""

import asyncio
import math
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from hal0.errors import Hal0Error
from hal0.lib import jsonio
from hal0.observe.schema import ACTIVITY_COLUMNS, COLUMNS, REQUESTS

_DEADLINE_S: Final = 5.0
_LOOK_EVERY: Final = 10_000  # steps of sqlite's machine between two looks at the clock: about a millisecond
_FLAGS: Final = frozenset({"stream"})

LAST_ASKED: Final = f"SELECT model, max(at) FROM {REQUESTS} WHERE model IS NOT NULL GROUP BY model"  # noqa: S608

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    """`next` continues it, None at the end."""

    items: list[Row]
    next: int | None


@dataclass(frozen=True, slots=True)
class Filters:
    """What a page is restricted to; all of it must hold. `equal` are columns and their values.

    `statuses` are the first and the last status; `kind` is a whole kind or the part before its dot.
    """

    equal: Mapping[str, str]
    statuses: tuple[int, int] | None = None
    kind: str | None = None
    since: float | None = None
    until: float | None = None


def requests_page(filters: Filters, limit: int, before: int | None) -> tuple[str, list[Any]]:
    """The statement and its values for `limit` rows and one more, which says whether there are others."""
    where, values = _where(filters, "seq", before)
    if filters.statuses is not None:
        where.append("status BETWEEN ? AND ?")
        values += filters.statuses
    columns = ", ".join((*COLUMNS, "reason", "seq"))
    sql = f"SELECT {columns} FROM {REQUESTS} WHERE {' AND '.join(where)} ORDER BY seq DESC LIMIT ?"  # noqa: S608
    return sql, [*values, limit + 1]


def activity_page(filters: Filters, limit: int, before: int | None) -> tuple[str, list[Any]]:
    where, values = _where(filters, "id", before)
    if filters.kind is not None:
        where.append("(kind = ? OR substr(kind, 1, length(?) + 1) = ? || '.')")
        values += [filters.kind] * 3
    columns = ", ".join(ACTIVITY_COLUMNS)
    sql = f"SELECT {columns} FROM activity WHERE {' AND '.join(where)} ORDER BY id DESC LIMIT ?"  # noqa: S608
    return sql, [*values, limit + 1]


def _where(filters: Filters, order: str, before: int | None) -> tuple[list[str], list[Any]]:
    where, values = ["1"], list[Any]()
    for column, value in filters.equal.items():
        assert column in COLUMNS or column in ACTIVITY_COLUMNS
        where.append(f"{column} = ?")
        values.append(value)
    for words, bound in (("at >= ?", filters.since), ("at < ?", filters.until), (f"{order} < ?", before)):
        if bound is not None:
            where.append(words)
            values.append(bound)
    return where, values


def matches(row: Row, filters: Filters) -> bool:
    """Whether a request that is only in memory belongs to the page."""
    first, last = filters.statuses or (0, 1000)
    since, until = filters.since or 0.0, filters.until or math.inf
    equal = all(row[column] == value for column, value in filters.equal.items())
    return equal and first <= row["status"] <= last and since <= row["at"] < until


class Reader:
    """`file` need not be there: then there is nothing in it."""

    def __init__(self, file: Path) -> None:
        self._file = file

    async def requests(self, filters: Filters, limit: int, before: int | None = None) -> Page:
        """Raises history.unreadable."""
        rows = await asyncio.to_thread(self._rows, *requests_page(filters, limit, before))
        return _page([_request(row) for row in rows], limit, "seq")

    async def activity(self, filters: Filters, limit: int, before: int | None = None) -> Page:
        """Raises history.unreadable."""
        rows = await asyncio.to_thread(self._rows, *activity_page(filters, limit, before))
        return _page([dict(zip(ACTIVITY_COLUMNS, row, strict=True)) for row in rows], limit, "id")

    async def last_asked(self) -> dict[str, float]:
        """When each model was last answered with, as far back as is remembered. Raises history.unreadable."""
        return dict(await asyncio.to_thread(self._rows, LAST_ASKED, ()))

    def _rows(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        if not self._file.exists():
            return []
        until = time.monotonic() + _DEADLINE_S
        try:
            with closing(sqlite3.connect(f"file:{quote(str(self._file))}?mode=ro", uri=True)) as connection:
                connection.set_progress_handler(lambda: time.monotonic() > until, _LOOK_EVERY)
                return connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            if time.monotonic() > until:
                message = f"cannot answer from the history: it took longer than {_DEADLINE_S:.0f} s"
                raise Hal0Error("history.unreadable", message, hint="Ask for a shorter time.") from error
            raise Hal0Error("history.unreadable", f"cannot read {self._file}: {error}") from error


def _request(row: tuple[Any, ...]) -> Row:
    *values, reason, seq = row
    found = dict(zip(COLUMNS, values, strict=True))
    found |= {name: bool(found[name]) for name in _FLAGS}
    tried, candidates = jsonio.loads(reason)
    return {**found, "tried": tried, "candidates": candidates, "seq": seq}


def _page(items: list[Row], limit: int, order: str) -> Page:
    more = len(items) > limit
    return Page(items[:limit], items[limit - 1][order] if more else None)
