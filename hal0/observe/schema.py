"""The history's tables and statements."""

from functools import lru_cache
from typing import Final

# MIGRATIONS[n] leads from schema n to n + 1; a new file passes all of them. The number is the file's `user_version`.
MIGRATIONS: Final = (
    """
    CREATE TABLE reasons (
      id INTEGER PRIMARY KEY,
      text TEXT NOT NULL UNIQUE
    );
    CREATE TABLE requests (
      seq INTEGER PRIMARY KEY AUTOINCREMENT,
      at REAL NOT NULL,
      request_id TEXT NOT NULL,
      key_id TEXT,
      method TEXT NOT NULL,
      path TEXT NOT NULL,
      asked_model TEXT,
      target TEXT,
      model TEXT,
      rule TEXT,
      reason INTEGER NOT NULL REFERENCES reasons (id),
      stream INTEGER NOT NULL,
      status INTEGER NOT NULL,
      code TEXT,
      queue_position INTEGER,
      held_ms REAL NOT NULL,
      turn_ms REAL NOT NULL,
      connect_ms REAL,
      first_byte_ms REAL,
      total_ms REAL NOT NULL,
      overhead_ms REAL,
      bytes_out INTEGER NOT NULL,
      prompt_tokens INTEGER,
      completion_tokens INTEGER,
      tokens_per_second REAL
    );
    CREATE INDEX requests_by_id ON requests (request_id);
    CREATE INDEX requests_by_at ON requests (at);
    CREATE TABLE activity (
      id INTEGER PRIMARY KEY,
      at REAL NOT NULL,
      kind TEXT NOT NULL,
      subject TEXT NOT NULL,
      message TEXT NOT NULL,
      by TEXT
    );
    """,
)

# The members of a record that have a column of their own. Which rules were tried, and who might have answered, is the
# same for most requests, and longer than all the rest: it is written once, and pointed to.
COLUMNS: Final = (
    *("at", "request_id", "key_id", "method", "path", "asked_model", "target", "model", "rule", "stream", "status"),
    *("code", "queue_position", "held_ms", "turn_ms", "connect_ms", "first_byte_ms", "total_ms", "overhead_ms"),
    *("bytes_out", "prompt_tokens", "completion_tokens", "tokens_per_second"),
)
ACTIVITY_COLUMNS: Final = ("id", "at", "kind", "subject", "message", "by")

# Rows of one INSERT, the most that there are. sqlite gives the interpreter's lock back once per statement, and takes it
# again: done row by row, that costs the event loop more than all the rest of a request's record.
ROWS_AT_ONCE: Final = (256, 16, 1)

FIND_REASON: Final = "SELECT id FROM reasons WHERE text = ?"
INSERT_REASON: Final = "INSERT INTO reasons (text) VALUES (?)"
INSERT_ACTIVITY: Final = f"INSERT OR REPLACE INTO activity ({', '.join(ACTIVITY_COLUMNS)}) VALUES (?, ?, ?, ?, ?, ?)"  # noqa: S608


@lru_cache(maxsize=len(ROWS_AT_ONCE))
def insert_requests(rows: int) -> str:
    """For so many rows of COLUMNS and the reason's id, one after the other."""
    row = f"({', '.join('?' * (len(COLUMNS) + 1))})"
    return f"INSERT INTO requests ({', '.join(COLUMNS)}, reason) VALUES {', '.join([row] * rows)}"  # noqa: S608


DELETE_OLD: Final = ("DELETE FROM requests WHERE at < ?", "DELETE FROM activity WHERE at < ?")
DELETE_SURPLUS: Final = (
    "DELETE FROM requests WHERE seq <= (SELECT seq FROM requests ORDER BY seq DESC LIMIT 1 OFFSET ?)",
    "DELETE FROM activity WHERE id <= (SELECT id FROM activity ORDER BY id DESC LIMIT 1 OFFSET ?)",
)
# The oldest tenth, and at least one.
_TENTH: Final = (
    "DELETE FROM {0} WHERE {1} IN (SELECT {1} FROM {0} ORDER BY {1} LIMIT 1 + (SELECT count(*) FROM {0}) / 10)"
)
DELETE_TENTH: Final = (_TENTH.format("requests", "seq"), _TENTH.format("activity", "id"))
DELETE_UNUSED_REASONS: Final = "DELETE FROM reasons WHERE id NOT IN (SELECT reason FROM requests)"
