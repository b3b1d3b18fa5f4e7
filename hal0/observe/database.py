"""The history's file: opened, migrated, written, trimmed, set aside. Blocking, for one thread at a time."""

import contextlib
import math
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, NamedTuple

from hal0.lib.atomic import private_dir
from hal0.lib.jsonio import dumps
from hal0.observe.activity import Activity
from hal0.observe.decisions import DecisionRecord
from hal0.observe.schema import (
    ACTIVITY_COLUMNS,
    DELETE_OLD,
    DELETE_SURPLUS,
    DELETE_TENTH,
    DELETE_UNUSED_WAYS,
    FIND_WAY,
    INSERT_ACTIVITY,
    INSERT_WAY,
    MIGRATIONS,
    OWN_COLUMNS,
    ROWS_AT_ONCE,
    WAY_COLUMNS,
    insert_requests,
)

# A reader holds nobody up in WAL mode; somebody with the sqlite shell might.
_BUSY_S: Final = 2.0
# What the log may keep of the disk after a burst; sqlite moves it into the file every 4 MB.
_WAL_LIMIT_BYTES: Final = 8 << 20
_WAYS_KNOWN: Final = 512  # clients ask for the same few models again and again
_own_row: Final[Callable[[DecisionRecord], tuple[Any, ...]]] = attrgetter(*OWN_COLUMNS)
_way_row: Final[Callable[[DecisionRecord], tuple[Any, ...]]] = attrgetter(*WAY_COLUMNS)
# What sqlite writes NULL for. For None itself, as for all that is no plain number or text, Python looks for an adapter
# first, and fails with an exception inside: many times the price of a number, in every third column of every row.
_NULL: Final = math.nan
_activity_row: Final[Callable[[Activity], tuple[Any, ...]]] = attrgetter(*ACTIVITY_COLUMNS)
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_FILES: Final = ("", "-wal", "-shm")
_PAGES: Final = ("page_count", "freelist_count", "page_size")


class NewerHistory(Exception):
    """The file was written by a newer hal0; the text says so."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What is kept: seconds back, rows of each table, bytes of the file."""

    age_s: float
    rows: int
    size_bytes: int


class _Way(NamedTuple):
    """A row of `ways`, and values it was made of: while they are held, their identities are theirs alone."""

    row: int
    tried: object
    candidates: object


class Database:
    """Raises sqlite3.Error and OSError for whatever the disk does; `is_damage` tells the one that mends itself."""

    def __init__(self, file: Path, migrations: Sequence[str] = MIGRATIONS) -> None:
        self.file = file
        self._migrations = migrations
        self._connection: sqlite3.Connection | None = None
        self._ways: dict[tuple[Any, ...], _Way] = {}

    @property
    def opened(self) -> bool:
        return self._connection is not None

    def open(self) -> None:
        """Raises NewerHistory, too. A new file is private from its first byte on; a wider mode is narrowed."""
        private_dir(self.file.parent)
        os.close(os.open(self.file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        for name in _FILES:
            with contextlib.suppress(FileNotFoundError):
                Path(f"{self.file}{name}").chmod(0o600)
        connection = sqlite3.connect(self.file, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # counts for a file without tables
            connection.execute("PRAGMA journal_mode = WAL")
            # A crash of hal0 loses nothing; a power cut may lose the last seconds, and never the file.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT_BYTES}")
            self._migrate(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def check(self) -> None:
        """Read the whole file. Raises sqlite3.DatabaseError, for which `is_damage` holds, when it is not sound."""
        (verdict,) = self._open.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            error = sqlite3.DatabaseError(verdict)
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error

    def write(self, requests: Sequence[DecisionRecord], activity: Sequence[Activity]) -> None:
        """All of it is written, or nothing."""
        with self._transaction() as connection:
            rows = [(*_own_row(record), self._way(connection, record)) for record in requests]
            at = 0
            for count in ROWS_AT_ONCE:
                while len(rows) - at >= count:
                    values = chain.from_iterable(rows[at : at + count])
                    connection.execute(insert_requests(count), [_NULL if value is None else value for value in values])
                    at += count
            connection.executemany(INSERT_ACTIVITY, [_activity_row(entry) for entry in activity])

    def trim(self, limits: Limits, now: float) -> None:
        """Forget what is too old, too many or too large, the oldest first, and give the room back to the disk."""
        with self._transaction() as connection:
            for statement in DELETE_OLD:
                connection.execute(statement, (now - limits.age_s,))
            for statement in DELETE_SURPLUS:
                connection.execute(statement, (limits.rows,))
            self._forget_ways(connection)
        while self._used_bytes() > limits.size_bytes and self._delete_a_tenth():
            pass
        self._open.executescript("PRAGMA incremental_vacuum")  # every page is a step, and `execute` takes only one

    def size_bytes(self) -> int:
        """What it takes of the disk."""
        found = 0
        for name in _FILES:
            with contextlib.suppress(FileNotFoundError):
                found += Path(f"{self.file}{name}").stat().st_size
        return found

    def set_aside(self) -> Path:
        """Move the file and its log away, over those of the time before; where to."""
        self.close()
        aside = self.file.with_name(f"{self.file.name}.damaged")
        for name in _FILES:
            with contextlib.suppress(FileNotFoundError):
                Path(f"{self.file}{name}").replace(f"{aside}{name}")
        return aside

    def close(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            self._ways.clear()
            with contextlib.suppress(sqlite3.Error):  # what was committed is there
                connection.close()

    @property
    def _open(self) -> sqlite3.Connection:
        assert self._connection is not None
        return self._connection

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._open
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            self._ways.clear()  # those of this transaction are gone
            if connection.in_transaction:  # some failures have rolled back already
                connection.execute("ROLLBACK")
            raise

    def _way(self, connection: sqlite3.Connection, record: DecisionRecord) -> int:
        """The row of the way that the record went. Decisions are remembered, so the same reasons come again."""
        tried, candidates, columns = record.tried, record.candidates, _way_row(record)
        key = (id(tried), id(candidates), columns)
        known = self._ways.get(key)
        if known is not None:
            return known.row
        values = (dumps([tried, candidates]).decode(), *columns)
        found = connection.execute(FIND_WAY, values).fetchone()
        row = int(found[0] if found else connection.execute(INSERT_WAY, values).lastrowid or 0)
        if len(self._ways) >= _WAYS_KNOWN:
            self._ways.clear()
        self._ways[key] = _Way(row, tried, candidates)
        return row

    def _migrate(self, connection: sqlite3.Connection) -> None:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        newest = len(self._migrations)
        if version > newest:
            raise NewerHistory(f"it has schema {version}, this hal0 knows {newest}")
        for number in range(version, newest):
            step = f"BEGIN IMMEDIATE; {self._migrations[number]}; PRAGMA user_version = {number + 1}; COMMIT;"
            try:
                connection.executescript(step)
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _forget_ways(self, connection: sqlite3.Connection) -> None:
        connection.execute(DELETE_UNUSED_WAYS)
        self._ways.clear()

    def _used_bytes(self) -> int:
        """Of the pages that hold something; those that are free are given back by `trim`."""
        pages, free, page_bytes = (self._open.execute(f"PRAGMA {name}").fetchone()[0] for name in _PAGES)
        return int((pages - free) * page_bytes)

    def _delete_a_tenth(self) -> bool:
        """False when there was nothing left."""
        with self._transaction() as connection:
            deleted = sum(connection.execute(statement).rowcount for statement in DELETE_TENTH)
            self._forget_ways(connection)
            return deleted > 0


def is_damage(error: Exception) -> bool:
    """Whether the file itself is broken, as opposed to the disk or the access to it."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _DAMAGED
