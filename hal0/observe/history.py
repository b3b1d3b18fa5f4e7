"""The history: whatever happened goes to one thread, which writes it to the log and, in batches, to a database.

Nobody waits for it: `put` and `note` append to a queue. What the disk does not take is kept and tried again; when that
is too much, the newest are dropped, counted, and said: in `health`, and as an entry of the history itself once it goes
on. A damaged file is set aside and a new one begun.
"""

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Final

from hal0.config.dispatch import DispatchConfig
from hal0.errors import Hal0Error
from hal0.lib.clock import Clock
from hal0.observe.activity import Activity
from hal0.observe.database import Database, Limits, NewerHistory, is_damage
from hal0.observe.decisions import DecisionRecord, write_lines

_log: Final = logging.getLogger("hal0.history")

# About 20 MB of records: minutes of heavy use, while the disk is full or slow.
_MOST_WAITING: Final = 20_000
# One statement at most; beyond, the event loop would feel the encoding.
_AT_ONCE: Final = 512
_RETRY_S: Final = 5.0
# A new file that is damaged at once is no remedy.
_SET_ASIDE_EVERY_S: Final = 600.0
_TRIM_EVERY_S: Final = 60.0
_DAY_S: Final = 86400.0
_CLOSE_S: Final = 5.0  # a disk that hangs must not hold up the end of hal0
# What says that a record, not the disk, is at fault.
_UNFIT: Final = (
    *(TypeError, ValueError, OverflowError),
    *(sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError),
)


@dataclass(frozen=True, slots=True)
class Health:
    """`problem` is why nothing is written now, `note` what somebody should know although it is; else None.

    Counts are records since hal0 started; `dropped` are entries of the activity, too.
    """

    problem: str | None
    note: str | None
    written: int
    waiting: int
    dropped: int
    size_bytes: int


def limits_of(config: DispatchConfig) -> Limits | None:
    if not config.history_days:
        return None
    return Limits(config.history_days * _DAY_S, config.history_rows, config.history_limit)


class History:
    """`limits` is asked by the thread; None: nothing is kept on disk, and what there is stays as it is.

    `clock` is read by the thread, too: the wall's, which needs no event loop.
    """

    def __init__(
        self,
        database: Database,
        limits: Callable[[], Limits | None],
        clock: Clock,
        *,
        most_waiting: int = _MOST_WAITING,
        retry_s: float = _RETRY_S,
    ) -> None:
        self.file = database.file
        self._database = database
        self._limits = limits
        self._clock = clock
        self._most_waiting = most_waiting
        self._retry_s = retry_s
        self._queue: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="history", daemon=True)
        # Written by the loop alone; everything below is the thread's, and others only look.
        self._given = 0
        self._refused = 0
        self._taken = 0
        self._written = 0
        self._dropped = 0
        self._said_dropped = 0
        self._requests: list[DecisionRecord] = []
        self._activity: list[Activity] = []
        self._markers: list[_Marker] = []
        self._problem: str | None = None
        self._note: str | None = None
        self._size_bytes = 0
        self._retry_at = 0.0
        self._trim_at = 0.0
        self._set_aside_at = -_SET_ASIDE_EVERY_S

    async def start(self) -> None:
        """Raises state.newer; any other trouble with the file is shown and tried again."""
        await asyncio.to_thread(self._open_first)
        self._thread.start()

    def put(self, records: Sequence[DecisionRecord]) -> None:
        """Ended requests, oldest first."""
        self._give(records, len(records))

    def note(self, entry: Activity) -> None:
        self._give(entry, 1)

    async def settled(self, within_s: float) -> bool:
        """Wait until what was given so far has been tried; whether it is all on disk."""
        marker = _Marker(asyncio.get_running_loop(), asyncio.get_running_loop().create_future())
        self._queue.put(marker)
        try:
            async with asyncio.timeout(within_s):
                return await marker.tried
        except TimeoutError:
            return False

    @property
    def kept(self) -> bool:
        """Whether anything is to be kept on disk."""
        return self._limits() is not None

    def health(self) -> Health:
        return Health(
            problem=self._problem,
            note=self._note,
            written=self._written,
            waiting=self._given - self._taken + len(self._requests) + len(self._activity),
            dropped=self._dropped + self._refused,
            size_bytes=self._size_bytes,
        )

    async def close(self) -> None:
        """Write what is left, for a few seconds at most."""
        if self._thread.is_alive():
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join, _CLOSE_S)

    def _give(self, item: "Sequence[DecisionRecord] | Activity", count: int) -> None:
        if self._given - self._taken + count > self._most_waiting:
            self._refused += count
            return
        self._given += count
        self._queue.put(item)

    # The thread.

    def _open_first(self) -> None:
        try:
            if self._limits() is not None:
                self._database.open()
        except NewerHistory as error:
            raise Hal0Error("state.newer", f"cannot read {self.file}: {error}") from error
        except (sqlite3.Error, OSError) as error:
            self._trouble(error)

    def _run(self) -> None:
        if self._database.opened:
            self._guarded(self._database.check)
        going = True
        while going:
            going = self._collect()
            if going and monotonic() < self._retry_at:
                self._answer(on_disk=False)
                continue
            while self._pending and self._store_some():
                pass
            self._trim()
            self._answer(on_disk=not self._pending)
        self._database.close()

    @property
    def _pending(self) -> bool:
        return bool(self._requests or self._activity)

    def _collect(self) -> bool:
        """Take what is in the queue, after waiting for something to be there, or to do; False at the end."""
        wait_s = max(self._retry_at - monotonic(), 0.0) if self._pending else _TRIM_EVERY_S
        try:
            item = self._queue.get(timeout=wait_s)
            while True:
                if item is None:
                    return False
                self._take(item)
                item = self._queue.get_nowait()
        except queue.Empty:
            return True

    def _take(self, item: "Sequence[DecisionRecord] | Activity | _Marker") -> None:
        match item:
            case _Marker():
                self._markers.append(item)
            case Activity():
                self._taken += 1
                _log.info("%s: %s", item.subject, item.message)
                self._activity.append(item)
            case _:
                self._taken += len(item)
                write_lines(item)
                self._requests += item
        if self._limits() is None:
            self._requests.clear()
            self._activity.clear()
        for kept in (self._requests, self._activity):
            self._dropped += max(len(kept) - self._most_waiting, 0)
            del kept[self._most_waiting :]

    def _store_some(self) -> bool:
        """Write the oldest; False when the disk did not take them."""
        requests, activity = self._requests[:_AT_ONCE], self._activity[:_AT_ONCE]
        lost = self._dropped + self._refused
        gap = [self._gap(lost - self._said_dropped)] if lost > self._said_dropped else []
        if not self._guarded(lambda: self._write(requests, activity + gap)):
            return False
        self._said_dropped = lost
        del self._requests[: len(requests)]
        del self._activity[: len(activity)]
        return True

    def _gap(self, lost: int) -> Activity:
        """What was dropped is an entry of the history as soon as that goes on."""
        message = f"{lost} entries are missing here: they could not be written in time"
        return Activity.made("history.gap", "history", message, self._clock.now())

    def _write(self, requests: list[DecisionRecord], activity: list[Activity]) -> None:
        if not self._database.opened:
            self._database.open()
        try:
            self._database.write(requests, activity)
            self._written += len(requests)
        except _UNFIT:
            for record in requests:
                self._write_alone((record,), (), f"request {record.request_id}")
            for entry in activity:
                self._write_alone((), (entry,), f"entry {entry.id}")
        if self._problem is not None:
            _log.info("the history is written again")
            self._problem = None

    def _write_alone(self, requests: Sequence[DecisionRecord], activity: Sequence[Activity], name: str) -> None:
        """One that cannot be written at all must not take the others of its batch along."""
        try:
            self._database.write(requests, activity)
            self._written += len(requests)
        except _UNFIT as error:
            self._dropped += 1
            _log.warning("%s is not in the history: %s", name, error)

    def _trim(self) -> None:
        limits = self._limits()
        if limits is None or monotonic() < self._trim_at or not self._database.opened:
            return
        self._trim_at = monotonic() + _TRIM_EVERY_S
        self._guarded(lambda: self._database.trim(limits, self._clock.now()))
        self._size_bytes = self._database.size_bytes()
        if not self.file.exists():  # somebody deleted it: what is written now would go with the last of its readers
            self._database.close()

    def _guarded(self, work: Callable[[], None]) -> bool:
        """Do something with the file; False when it failed, which is then said, and mended where it can be."""
        try:
            work()
        except NewerHistory as error:
            self._fail(f"cannot read {self.file}: {error}")
        except (sqlite3.Error, OSError) as error:
            self._trouble(error)
        except Exception:  # the thread's outermost line: it remembers for everybody, and must not end by one mistake
            _log.exception("the history cannot be written by a mistake of hal0's")
            self._fail("cannot write the history: hal0 made a mistake")
        else:
            return True
        return False

    def _trouble(self, error: sqlite3.Error | OSError) -> None:
        self._database.close()
        now = monotonic()
        if not is_damage(error) or now < self._set_aside_at + _SET_ASIDE_EVERY_S:
            return self._fail(f"cannot write {self.file}: {error}; tried again every {self._retry_s:g} s")
        try:
            aside = self._database.set_aside()
        except OSError as err:
            return self._fail(f"{self.file} is damaged ({error}) and cannot be moved away: {err}")
        self._set_aside_at = now
        self._note = f"{self.file} was damaged ({error}) and is now {aside}; a new history has begun"
        _log.error("%s", self._note)
        return None

    def _fail(self, problem: str) -> None:
        if problem != self._problem:
            _log.error("%s", problem)
        self._problem = problem
        self._retry_at = monotonic() + self._retry_s

    def _answer(self, *, on_disk: bool) -> None:
        for marker in self._markers:
            marker.answer(on_disk=on_disk)
        self._markers.clear()


@dataclass(frozen=True, slots=True)
class _Marker:
    """Stands in the queue behind what was given before it."""

    loop: asyncio.AbstractEventLoop
    tried: asyncio.Future[bool]

    def answer(self, *, on_disk: bool) -> None:
        def tell() -> None:
            if not self.tried.done():
                self.tried.set_result(on_disk)

        try:
            self.loop.call_soon_threadsafe(tell)
        except RuntimeError:
            return  # the loop has ended, and with it whoever asked


_Item = Sequence[DecisionRecord] | Activity | _Marker | None
