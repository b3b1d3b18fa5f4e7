"""The decision log: one record per request in memory, and one structured line in the log.

Never in it: prompts, outputs, bodies, file names, query strings, keys.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from hal0.lib import jsonio
from hal0.lib.clock import iso
from hal0.lib.ring import Ring

_log: Final = logging.getLogger("hal0.request")

# A few minutes of heavy use; a record is about 1 KiB.
_KEPT: Final = 2048


class DecisionRecord(NamedTuple):
    """One request from arrival to end. Times are milliseconds; `at` is seconds since the epoch.

    `status` is the true outcome, which a stream that began with 200 cannot show any more (499: the client left).
    `tried` lists (rule, hit, the fact that decided it). A named tuple: it is made once per request, and a frozen
    dataclass of this size takes five times as long.
    """

    request_id: str
    at: float
    key_id: str | None
    method: str
    path: str
    asked_model: str | None
    target: str | None
    model: str | None
    rule: str | None
    tried: tuple[tuple[str, bool, str], ...]
    candidates: tuple[str, ...]
    stream: bool
    status: int
    code: str | None
    queue_position: int | None
    held_ms: float
    connect_ms: float | None
    first_byte_ms: float | None
    total_ms: float
    overhead_ms: float | None
    bytes_out: int
    prompt_tokens: int | None
    completion_tokens: int | None
    tokens_per_second: float | None

    def as_json(self) -> dict[str, Any]:
        return self._asdict() | {"at": iso(self.at)}


class Decisions:
    """The last records, newest last."""

    def __init__(self, capacity: int = _KEPT) -> None:
        self._ring: Ring[DecisionRecord] = Ring(capacity)

    def add(self, record: DecisionRecord) -> None:
        self._ring.append(record)
        if _log.isEnabledFor(logging.INFO):
            _log.info("%s", _Line(record))

    def get(self, request_id: str) -> DecisionRecord | None:
        """The newest record of a request id; clients choose ids, so one may occur twice."""
        found = [record for record in self._ring if record.request_id == request_id]
        return found[-1] if found else None

    def __iter__(self) -> Iterator[DecisionRecord]:
        return iter(self._ring)


@dataclass(frozen=True, slots=True)
class _Line:
    """Rendered by whoever writes the log, not on the request's way."""

    record: DecisionRecord

    def __str__(self) -> str:
        return jsonio.dumps(self.record.as_json()).decode()
