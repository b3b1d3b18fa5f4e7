"""The history on disk: nothing is lost in silence, whatever becomes of the file, the disk or the process."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, Final

import pytest

from hal0.errors import Hal0Error
from hal0.lib.clock import SystemClock
from hal0.lib.jsonio import loads
from hal0.observe.activity import Activity
from hal0.observe.database import Database, Limits
from hal0.observe.history import History
from hal0.observe.queries import Filters, Reader
from hal0.observe.schema import MIGRATIONS, REQUESTS
from tests.fakes.slots import settled
from tests.unit.observe.records import TRIED, record

LIMITS = Limits(age_s=1e10, rows=1000, size_bytes=1 << 30)
WAITING = 3000
SOON_S = 5.0


class Cramped(Database):
    """On a disk that is full after so many pages; `room` may grow."""

    room = 30

    def open(self) -> None:
        super().open()
        self._open.execute(f"PRAGMA max_page_count = {self.room}")


@asynccontextmanager
async def history(database: Database, limits: Limits | None = LIMITS) -> AsyncIterator[History]:
    clock = SystemClock()
    it = History(database, lambda: limits, clock, most_waiting=WAITING, retry_s=0.02)
    await it.start()
    try:
        yield it
    finally:
        await it.close()


def rows(file: Path, sql: str = "SELECT request_id FROM requests ORDER BY seq") -> list[Any]:
    with closing(sqlite3.connect(file)) as connection:
        return [row[0] if len(row) == 1 else row for row in connection.execute(sql).fetchall()]


def spoiled(file: Path, how: Callable[[bytearray], bytearray]) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(how(bytearray(file.read_bytes() if file.exists() else b"")))


def migrated(file: Path, *more: str) -> None:
    """Opened by a hal0 with more migrations."""
    newer = Database(file, (*MIGRATIONS, *more))
    newer.open()
    newer.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "history.sqlite"


async def test_what_was_put_is_on_disk_once_it_is_settled(file: Path) -> None:
    async with history(Database(file)) as it:
        it.put([record("a", stream=True, prompt_tokens=7), record("b", status=503, code="slot.loading")])
        it.note(Activity.made("slot.ready", "primary", "slot primary is ready", 12.5, by="operator"))
        assert await it.settled(SOON_S)
        found = await asyncio.to_thread(rows, file, f"SELECT request_id, stream, status, code, rule FROM {REQUESTS}")
        assert found == [("a", 1, 200, None, "address"), ("b", 0, 503, "slot.loading", "address")]
        (text,) = await asyncio.to_thread(rows, file, "SELECT DISTINCT reason FROM ways")
        assert TRIED[0].fact.splitlines()[0] in text
        assert await asyncio.to_thread(rows, file, "SELECT id, kind, by FROM activity") == [
            (12_500_000, "slot.ready", "operator")
        ]
        assert (it.health().written, it.health().waiting, it.health().problem) == (2, 0, None)
    assert {path.stat().st_mode & 0o777 for path in file.parent.iterdir()} == {0o600}


async def test_what_was_put_last_is_on_disk_after_the_end(file: Path) -> None:
    async with history(Database(file)) as it:
        it.put([record(str(n)) for n in range(2500)])
    kept = await asyncio.to_thread(rows, file)
    assert kept == [str(n) for n in range(1500, 2500)], "the newest, as many as are to be kept"


async def test_on_a_full_disk_records_wait_and_what_is_too_much_is_counted_and_said(file: Path) -> None:
    database, sent = Cramped(file), WAITING + 2000
    async with history(database, Limits(1e10, 2 * sent, 1 << 30)) as it:
        for start in range(0, sent, 500):
            it.put([record(f"r{n}") for n in range(start, start + 500)])
            await it.settled(SOON_S)
        health = it.health()
        assert health.problem is not None
        assert "full" in health.problem
        assert health.dropped > 0
        assert health.written + health.waiting + health.dropped == sent
        database.room = 100_000
        await settled(lambda: it.health().waiting == 0)
        assert it.health().problem is None
        assert await it.settled(SOON_S)
        kept = await asyncio.to_thread(rows, file)
        assert kept == [f"r{n}" for n in range(len(kept))], "in order, without a gap before the end"
        assert len(kept) == it.health().written
        said = await asyncio.to_thread(rows, file, "SELECT message FROM activity WHERE kind = 'history.gap'")
        assert sum(int(message.split()[0]) for message in said) == it.health().dropped


async def test_a_thread_that_is_stuck_makes_nobody_wait(file: Path) -> None:
    it = History(Database(file), lambda: LIMITS, SystemClock(), most_waiting=WAITING)
    for _ in range(3):  # never started: nothing is ever taken
        it.put([record("a")] * (WAITING // 2))
    assert (it.health().waiting, it.health().dropped) == (WAITING, WAITING // 2)


async def test_a_file_that_is_none_is_set_aside_and_a_new_one_begun(file: Path) -> None:
    await asyncio.to_thread(spoiled, file, lambda _: bytearray(b"no database at all" * 100))
    async with history(Database(file)) as it:
        it.put([record("a")])
        assert await it.settled(SOON_S)
        note = it.health().note
        assert note is not None
        assert f"{file}.damaged" in note
        assert await asyncio.to_thread(rows, file) == ["a"]
        assert await asyncio.to_thread(Path(f"{file}.damaged").stat)


async def test_a_file_that_is_damaged_inside_is_set_aside(file: Path) -> None:
    async with history(Database(file)) as it:
        it.put([record(f"r{n}") for n in range(900)])

    def pages(data: bytearray) -> bytearray:
        for page in range(4096 * 2, len(data), 4096):
            data[page : page + 200] = b"\xff" * 200
        return data

    await asyncio.to_thread(spoiled, file, pages)
    async with history(Database(file)) as it:
        it.put([record("after")])
        assert await it.settled(SOON_S)
        assert it.health().note is not None
    assert await asyncio.to_thread(rows, file) == ["after"]


async def test_a_file_that_was_deleted_is_made_again(file: Path) -> None:
    async with history(Database(file)) as it:
        it.put([record("a")])
        assert await it.settled(SOON_S)
        await asyncio.to_thread(file.unlink)
        it._trim_at = 0.0
        it.put([record("b")])
        await it.settled(SOON_S)
        it.put([record("c")])
        assert await it.settled(SOON_S)
    assert await asyncio.to_thread(rows, file) == ["c"]


async def test_a_record_that_cannot_be_written_takes_no_other_along(file: Path) -> None:
    async with history(Database(file)) as it:
        it.put([record("a"), record("b", path="/\udcff"), record("c")])
        it.put([record("d", prompt_tokens=1 << 63), record("e")])
        assert await it.settled(SOON_S)
        assert (it.health().written, it.health().dropped) == (3, 2)
    assert await asyncio.to_thread(rows, file) == ["a", "c", "e"]


async def test_an_entry_that_cannot_be_written_takes_no_other_along(file: Path) -> None:
    async with history(Database(file)) as it:
        it.put([record("a")])
        for number, message in enumerate(("first", "a name that is no text: \udcff", "last")):
            it.note(Activity.made("slot.failed", "primary", message, number + 1.0))
        assert await it.settled(SOON_S)
        assert (it.health().problem, it.health().written, it.health().dropped) == (None, 1, 1)
        said = await asyncio.to_thread(rows, file, "SELECT message FROM activity WHERE subject = 'primary' ORDER BY id")
        assert said == ["first", "last"]


async def test_on_a_full_disk_what_happened_takes_no_more_memory_than_it_may(file: Path) -> None:
    async with history(Cramped(file)) as it:
        it.put([record(f"r{n}") for n in range(WAITING)])
        for number in range(2 * WAITING):
            it.note(Activity.made("slot.ready", "primary", "x" * 200, float(number)))
            if number % 500 == 0:
                await it.settled(SOON_S)
        assert not await it.settled(SOON_S)
        assert it.health().waiting <= 2 * WAITING
        assert it.health().dropped > 0


async def test_a_mistake_of_hal0s_is_said_and_ends_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(file)
    async with history(database) as it:
        with monkeypatch.context() as broken:
            broken.setattr(database, "write", lambda *_: 1 // 0)
            it.put([record("a")])
            assert not await it.settled(SOON_S)
            assert "mistake" in (it.health().problem or "")
        it._retry_at = 0.0
        it.put([record("b")])
        assert await it.settled(SOON_S)
    assert await asyncio.to_thread(rows, file) == ["a", "b"]


async def test_a_newer_file_is_refused_by_name_and_left_alone(file: Path) -> None:
    await asyncio.to_thread(migrated, file, "CREATE TABLE more (x)")
    with pytest.raises(Hal0Error, match=r"history\.sqlite") as refused:
        async with history(Database(file)):
            pass
    assert refused.value.code == "state.newer"
    assert await asyncio.to_thread(rows, file, "SELECT count(*) FROM more") == [0]


def test_an_older_file_is_migrated_and_keeps_its_rows(file: Path) -> None:
    old = Database(file)
    old.open()
    old.write([record("old")], [])
    old.close()
    migrated(file, "ALTER TABLE requests ADD COLUMN colour TEXT DEFAULT 'red'")
    assert rows(file, "SELECT request_id, colour FROM requests") == [("old", "red")]
    assert rows(file, "PRAGMA user_version") == [len(MIGRATIONS) + 1]


async def test_what_requests_have_in_common_is_written_once(file: Path) -> None:
    other = {"asked_model": None, "target": None, "model": None, "rule": None, "status": 404, "code": "model.not_found"}
    async with history(Database(file)) as it:
        it.put([record(f"a{n}", total_ms=float(n)) for n in range(300)])
        assert await it.settled(SOON_S)
        it.put([record("b", **other), record("c"), record("d", **other)])
    async with history(Database(file)) as it:  # another life finds what this one wrote
        it.put([record("e"), record("f", **other)])
    assert await asyncio.to_thread(rows, file, "SELECT status FROM ways ORDER BY id") == [200, 404]
    found = await Reader(file).requests(Filters({"code": "model.not_found"}), 10)
    assert [row["request_id"] for row in found.items] == ["f", "d", "b"]


_FIRST: Final = """
    INSERT INTO reasons VALUES (7, '[[{"rule":"address","hit":true,"fact":"f"}],["primary"]]'), (9, '[[],[]]');
    INSERT INTO requests VALUES
      (3, 1.5, 'a', NULL, 'POST', '/v1/x', 'm', 'primary', 'm', 'address', 7, 1, 200, NULL, 2, 1.25, 0.5, 0.1, 7.5, 9.5,
       0.2, 77, 5, 6, 8.5),
      (4, 2.5, 'b', 'key', 'POST', '/v1/x', NULL, NULL, NULL, NULL, 9, 0, 404, 'model.not_found', NULL, 0.0, 0.0, NULL,
       NULL, 0.5, NULL, 33, NULL, NULL, NULL),
      (8, 3.5, 'c', NULL, 'POST', '/v1/x', 'm', 'primary', 'm', 'address', 7, 1, 200, NULL, NULL, 0.0, 0.0, 0.1, 7.5,
       9.5, 0.2, 78, 5, 7, 8.5);
"""


def test_a_file_of_the_first_schema_tells_what_it_told(file: Path) -> None:
    first = Database(file, MIGRATIONS[:1])
    first.open()
    first.close()
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(_FIRST)
        connection.row_factory = sqlite3.Row
        told = connection.execute("SELECT * FROM requests JOIN reasons ON reasons.id = reason ORDER BY seq DESC")
        before = [dict(row) for row in told]
    migrated(file)
    reader = Reader(file)
    after = asyncio.run(reader.requests(Filters({}), 10)).items
    for was, row in zip(before, after, strict=True):
        tried, candidates = loads(was.pop("text"))
        del was["id"], was["reason"]
        assert row == {**was, "tried": tried, "candidates": candidates}
    assert rows(file, "SELECT count(*) FROM ways") == [2]
    assert asyncio.run(reader.last_asked()) == {"m": 3.5}


def test_a_migration_that_fails_changes_nothing(file: Path) -> None:
    migrated(file)
    with pytest.raises(sqlite3.OperationalError):
        migrated(file, "CREATE TABLE half (x); SELECT nonsense FROM nowhere")
    assert rows(file, "SELECT name FROM sqlite_master WHERE name = 'half'") == []
    assert rows(file, "PRAGMA user_version") == [len(MIGRATIONS)]


def _trimmed(file: Path, limits: Limits, now: float) -> list[Any]:
    database = Database(file)
    database.open()
    requests = [record(f"r{n}", at=float(n), asked_model=f"{n}" * 20) for n in range(400)]
    database.write(requests, [Activity.made("slot.ready", "primary", "m", 3.0)])
    database.trim(limits, now)
    database.close()
    return rows(file)


def test_what_is_too_old_is_forgotten(file: Path) -> None:
    assert _trimmed(file, Limits(100.0, 1 << 30, 1 << 30), now=490.0) == [f"r{n}" for n in range(390, 400)]
    assert rows(file, "SELECT id FROM activity") == []


def test_the_oldest_surplus_is_forgotten(file: Path) -> None:
    assert _trimmed(file, Limits(1e10, 7, 1 << 30), now=0.0) == [f"r{n}" for n in range(393, 400)]
    assert rows(file, "PRAGMA freelist_count") == [0], "the disk has its room back"


def test_what_is_too_large_is_forgotten_and_the_disk_gets_its_room_back(file: Path) -> None:
    kept = _trimmed(file, Limits(1e10, 1 << 30, 100_000), now=0.0)
    assert 0 < len(kept) < 400
    assert kept[-1] == "r399"
    assert file.stat().st_size < 110_000


async def test_without_limits_nothing_touches_the_disk(file: Path) -> None:
    async with history(Database(file), None) as it:
        it.put([record("a")])
        await it.settled(SOON_S)
        assert it.health().waiting == 0
    assert not await asyncio.to_thread(file.exists)


def test_a_sigkill_loses_nothing_that_was_settled(file: Path) -> None:
    code = f"""
import asyncio
from pathlib import Path
from hal0.lib.clock import SystemClock
from hal0.observe.database import Database, Limits
from hal0.observe.history import History
from hal0.observe.queries import Filters, Reader
from tests.unit.observe.records import record
async def main():
    clock = SystemClock()
    it = History(Database(Path({str(file)!r})), lambda: Limits(1e10, 1000, 1 << 30), clock)
    await it.start()
    for n in range(10**6):
        it.put([record(f"{{n}}-{{m}}") for m in range(10)])
        if await it.settled(5):
            print(n, flush=True)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        seen = [int(process.stdout.readline()) for _ in range(5)]
        process.send_signal(signal.SIGKILL)
        seen += [int(line) for line in process.stdout.read().split("\n")[:-1] if line]
    database = Database(file)
    database.open()
    database.check()
    database.close()
    kept = rows(file)
    assert len(kept) % 10 == 0, "a batch is there or not, never half"
    assert len(kept) >= min(10 * len(seen), 1000)
    assert f"{seen[-1]}-9" in kept
