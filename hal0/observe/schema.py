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
    """
    ALTER TABLE requests RENAME TO old;
    CREATE TABLE ways (
      id INTEGER PRIMARY KEY,
      key_id TEXT,
      method TEXT NOT NULL,
      path TEXT NOT NULL,
      asked_model TEXT,
      target TEXT,
      model TEXT,
      rule TEXT,
      stream INTEGER NOT NULL,
      status INTEGER NOT NULL,
      code TEXT,
      reason TEXT NOT NULL
    );
    CREATE INDEX ways_by_reason ON ways (reason);
    CREATE TABLE requests (
      seq INTEGER PRIMARY KEY AUTOINCREMENT,
      at REAL NOT NULL,
      request_id TEXT NOT NULL,
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
      tokens_per_second REAL,
      way INTEGER NOT NULL REFERENCES ways (id)
    );
    INSERT INTO ways (key_id, method, path, asked_model, target, model, rule, stream, status, code, reason)
      SELECT DISTINCT key_id, method, path, asked_model, target, model, rule, stream, status, code, text
      FROM old JOIN reasons ON reasons.id = old.reason;
    INSERT INTO requests
      SELECT seq, at, request_id, queue_position, held_ms, turn_ms, connect_ms, first_byte_ms, total_ms, overhead_ms,
        bytes_out, prompt_tokens, completion_tokens, tokens_per_second, ways.id
      FROM old
      CROSS JOIN reasons ON reasons.id = old.reason
      CROSS JOIN ways ON ways.reason = reasons.text
        AND ways.key_id IS old.key_id AND ways.method = old.method AND ways.path = old.path
        AND ways.asked_model IS old.asked_model AND ways.target IS old.target AND ways.model IS old.model
        AND ways.rule IS old.rule AND ways.stream = old.stream AND ways.status = old.status
        AND ways.code IS old.code
      ORDER BY seq;
    DROP TABLE old;
    DROP TABLE reasons;
    CREATE INDEX requests_by_id ON requests (request_id);
    CREATE INDEX requests_by_at ON requests (at);
    """,
)

# What most requests have in common with many others, and is longer than all the rest: the way they go. It is written
# once, with which rules were tried and who might have answered (`reason`), and pointed to.
WAY_COLUMNS: Final = ("key_id", "method", "path", "asked_model", "target", "model", "rule", "stream", "status", "code")
# The members of a record that are its own.
OWN_COLUMNS: Final = (
    *("at", "request_id", "queue_position", "held_ms", "turn_ms", "connect_ms", "first_byte_ms", "total_ms"),
    *("overhead_ms", "bytes_out", "prompt_tokens", "completion_tokens", "tokens_per_second"),
)
COLUMNS: Final = OWN_COLUMNS + WAY_COLUMNS
# In this order: the planner might begin with the ways, and look through all requests for each.
REQUESTS: Final = "requests CROSS JOIN ways ON ways.id = way"
ACTIVITY_COLUMNS: Final = ("id", "at", "kind", "subject", "message", "by")

# Rows of one INSERT, the most that there are. sqlite gives the interpreter's lock back once per statement, and takes it
# again: done row by row, that costs the event loop more than all the rest of a request's record.
ROWS_AT_ONCE: Final = (256, 16, 1)

FIND_WAY: Final = f"SELECT id FROM ways WHERE reason = ? AND {' AND '.join(f'{name} IS ?' for name in WAY_COLUMNS)}"  # noqa: S608
INSERT_WAY: Final = f"INSERT INTO ways (reason, {', '.join(WAY_COLUMNS)}) VALUES (?{', ?' * len(WAY_COLUMNS)})"  # noqa: S608
INSERT_ACTIVITY: Final = f"INSERT OR REPLACE INTO activity ({', '.join(ACTIVITY_COLUMNS)}) VALUES (?, ?, ?, ?, ?, ?)"  # noqa: S608


@lru_cache(maxsize=len(ROWS_AT_ONCE))
def insert_requests(rows: int) -> str:
    """For so many rows of OWN_COLUMNS and the way's id, one after the other."""
    row = f"({', '.join('?' * (len(OWN_COLUMNS) + 1))})"
    return f"INSERT INTO requests ({', '.join(OWN_COLUMNS)}, way) VALUES {', '.join([row] * rows)}"  # noqa: S608


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
DELETE_UNUSED_WAYS: Final = "DELETE FROM ways WHERE id NOT IN (SELECT way FROM requests)"
