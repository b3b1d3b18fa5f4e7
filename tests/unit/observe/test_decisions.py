"""The decision log in memory: what is kept, how it is handed on, and the one line that is written."""

import asyncio
import io
import logging
from collections.abc import Iterator, Sequence

import pytest

from hal0.lib import jsonio
from hal0.observe.decisions import DecisionRecord, Decisions, write_lines
from hal0.observe.logs import JsonLines
from tests.unit.observe.records import TRIED, record


async def test_the_newest_record_of_an_id_is_found_and_the_oldest_are_forgotten() -> None:
    log = Decisions(capacity=3)
    for n, name in enumerate(("a", "b", "a", "c")):
        log.add(record(name, status=200 + n))
    assert [kept.request_id for kept in log] == ["b", "a", "c"]
    found = log.get("a")
    assert found is not None
    assert found.status == 202
    assert log.get("nobody") is None
    await log.close()


async def test_records_are_handed_on_in_batches_without_being_asked_for() -> None:
    came: asyncio.Queue[Sequence[DecisionRecord]] = asyncio.Queue()
    log = Decisions(came.put_nowait)
    log.add(record("a"))
    log.add(record("b"))
    assert came.empty(), "nothing is done on a request's way"
    async with asyncio.timeout(5):
        assert [it.request_id for it in await came.get()] == ["a", "b"]


async def test_many_records_are_handed_on_sooner_and_the_last_ones_at_the_end() -> None:
    came: list[Sequence[DecisionRecord]] = []
    log = Decisions(came.append)
    for n in range(1100):
        log.add(record(str(n)))
    assert [len(batch) for batch in came] == [1024]
    await log.close()
    assert [len(batch) for batch in came] == [1024, 76]


async def test_a_name_that_is_no_name_is_not_kept_whole() -> None:
    name = "x" * 100_000
    fact = type(TRIED[0])(TRIED[0].rule, hit=False, fact=f"no slot is called {name!r}")
    log = Decisions()
    log.add(record("a", path=name, asked_model=name, model=name, tried=(fact,)))
    await log.close()
    assert len(jsonio.dumps(list(log))) < 2000


def test_every_request_becomes_one_structured_line(log_text: io.StringIO) -> None:
    write_lines([record("a"), record("b", status=503)])
    first, second = map(jsonio.loads, log_text.getvalue().splitlines())
    assert (first["at"], first["logger"], first["level"]) == ("1970-01-01T00:00:00.000Z", "hal0.request", "info")
    assert first["request"]["tried"] == [{"rule": "address", "hit": True, "fact": "fact\nwith a break"}]
    assert first["request"]["status"] == 200
    assert (second["request"]["request_id"], second["request"]["status"]) == ("b", 503)


@pytest.fixture
def log_text() -> Iterator[io.StringIO]:
    """What the request log writes, in the daemon's own format."""
    logger, text = logging.getLogger("hal0.request"), io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(JsonLines())
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    yield text
    logger.removeHandler(handler)
    logger.setLevel(level)
