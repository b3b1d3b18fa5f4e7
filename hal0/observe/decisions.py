"""The decision log: one record per request in memory, and one structured line in the log, written off its way.

Never in it: prompts, outputs, bodies, file names, query strings, keys.
"""

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

from hal0.lib.aio import cancelled
from hal0.lib.clock import iso
from hal0.lib.ring import Ring
from hal0.observe.logs import Lines

_log: Final = logging.getLogger("hal0.request")

# A few minutes of heavy use; a record is about 1 KiB.
_KEPT: Final = 2048
# One write for all requests of a quarter of a second; somebody who reads along notices no delay.
_WRITE_EVERY_S: Final = 0.25


class Tried(Protocol):
    """A rule that was tried, whether it hit, and the fact that decided it."""

    @property
    def rule(self) -> str: ...

    @property
    def hit(self) -> bool: ...

    @property
    def fact(self) -> str: ...


@dataclass
class DecisionRecord:
    """One request from arrival to end. Times are milliseconds; `at` is seconds since the epoch.

    `status` is the true outcome, which a stream that began with 200 cannot show any more (499: the client left).
    Nobody changes a record; it is not frozen because it is made once per request, which would take three times as long,
    and has no slots because the codec writes a `__dict__` in a fifth of the time.
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
    tried: tuple[Tried, ...]
    candidates: tuple[str, ...]
    stream: bool
    status: int
    code: str | None
    queue_position: int | None
    held_ms: float
    turn_ms: float  # of it, while other slots had the memory
    connect_ms: float | None
    first_byte_ms: float | None
    total_ms: float
    overhead_ms: float | None
    bytes_out: int
    prompt_tokens: int | None
    completion_tokens: int | None
    tokens_per_second: float | None


class Decisions:
    """The last records, newest last. `close()` writes the lines that are still to be written."""

    def __init__(self, capacity: int = _KEPT) -> None:
        self._ring: Ring[DecisionRecord] = Ring(capacity)
        self._unwritten: list[DecisionRecord] = []
        self._writing: asyncio.Task[None] | None = None

    def add(self, record: DecisionRecord) -> None:
        self._ring.append(record)
        if _log.isEnabledFor(logging.INFO):
            self._unwritten.append(record)
            if self._writing is None:
                self._writing = asyncio.create_task(self._write_soon())

    def get(self, request_id: str) -> DecisionRecord | None:
        """The newest record of a request id; clients choose ids, so one may occur twice."""
        found = [record for record in self._ring if record.request_id == request_id]
        return found[-1] if found else None

    def __iter__(self) -> Iterator[DecisionRecord]:
        return iter(self._ring)

    async def close(self) -> None:
        if self._writing is not None:
            await cancelled(self._writing)
        await self._write()

    async def _write_soon(self) -> None:
        """While there is something to write; whoever waits for a request never waits for this."""
        try:
            while self._unwritten:
                await asyncio.sleep(_WRITE_EVERY_S)
                await self._write()
        finally:
            self._writing = None

    async def _write(self) -> None:
        records, self._unwritten = self._unwritten, []
        if records:
            await asyncio.to_thread(_log.info, _RequestLines(records))


class _RequestLines(Lines):
    """Rendered by whoever writes the log."""

    def __init__(self, records: list[DecisionRecord]) -> None:
        self._records = records

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return ({"at": iso(record.at), "request": record} for record in self._records)
