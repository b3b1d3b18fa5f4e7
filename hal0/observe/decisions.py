"""The decision log: one record per request, the last ones in memory, and all of them handed on in batches.

Never in it: prompts, outputs, bodies, file names, query strings, keys.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from hal0.lib.clock import iso
from hal0.observe.logs import Lines

_log: Final = logging.getLogger("hal0.request")

# A few minutes of heavy use. A record is 0.5 to 1 KiB, 4 where a client asks for names of `_LONGEST`: 8 MiB at most.
_KEPT: Final = 2048
# One batch for all requests of a quarter of a second; somebody who reads along notices no delay.
_EVERY_S: Final = 0.25
# Sooner when there are so many: what is done for a batch must not be felt by a request in between, and is less than a
# millisecond. Every batch wakes the history's thread, which takes the interpreter's lock and the caches from the loop.
_BATCH: Final = 1024
# Of one write to the log. The text of a whole batch is more than malloc keeps at hand: getting the memory from the
# system, page by page, takes as long as writing the lines.
_LINES: Final = 64
# Longer than any model's name or path; what a client writes there instead is not worth keeping whole.
_LONGEST: Final = 256


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

    def again(self) -> "DecisionRecord":
        """The same once more, for a request that differs in little; a fifth of the price of a new one."""
        made = object.__new__(DecisionRecord)
        made.__dict__ = self.__dict__.copy()
        return made


# Takes a batch, oldest first; called on the event loop, and must not wait.
Sink = Callable[[Sequence[DecisionRecord]], None]


class Decisions:
    """The last records, newest last. `close()` hands on what is still here."""

    def __init__(self, *sinks: Sink, capacity: int = _KEPT) -> None:
        self._sinks = sinks
        self._ring: deque[DecisionRecord] = deque(maxlen=capacity)
        self._batch: list[DecisionRecord] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, record: DecisionRecord) -> None:
        """Once per request, when it has ended; all that a request pays for being remembered."""
        name = record.asked_model
        if (name is not None and len(name) > _LONGEST) or len(record.path) > _LONGEST:
            record = _shortened(record)
        self._ring.append(record)
        self._batch.append(record)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_EVERY_S, self.flush)
        elif len(self._batch) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Hand on what has come since the last batch."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._batch = self._batch, []
        if batch:
            for sink in self._sinks:
                sink(batch)

    def get(self, request_id: str) -> DecisionRecord | None:
        """The newest record of a request id; clients choose ids, so one may occur twice."""
        found = [record for record in self._ring if record.request_id == request_id]
        return found[-1] if found else None

    def __iter__(self) -> Iterator[DecisionRecord]:
        return iter(self._ring)

    async def close(self) -> None:
        self.flush()


def _shortened(record: DecisionRecord) -> DecisionRecord:
    name, path = record.asked_model, record.path[:_LONGEST]
    if name is None or len(name) <= _LONGEST:
        return replace(record, path=path)
    short = f"{name[:_LONGEST]}..."
    tried = tuple(_Said(it.rule, it.hit, it.fact.replace(name, short)) for it in record.tried)
    model = short if record.model == name else record.model
    return replace(record, path=path, asked_model=short, model=model, tried=tried)


@dataclass
class _Said:
    rule: str
    hit: bool
    fact: str


def write_lines(records: Sequence[DecisionRecord]) -> None:
    """One structured line each. Blocking: it renders them and writes the log."""
    if _log.isEnabledFor(logging.INFO):
        for at in range(0, len(records), _LINES):
            _log.info(_RequestLines(records[at : at + _LINES]))


class _RequestLines(Lines):
    """Rendered by whoever writes the log."""

    def __init__(self, records: Sequence[DecisionRecord]) -> None:
        self._records = records

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return ({"at": iso(record.at), "request": record} for record in self._records)
