"""The decision log: what is kept, and the one line that is written."""

import asyncio
import io
import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest

from hal0.dispatch.resolve import Tried
from hal0.lib import jsonio
from hal0.observe.decisions import DecisionRecord, Decisions
from hal0.observe.logs import JsonLines
from hal0.vocab import Rule

TRIED = (Tried(Rule.ADDRESS, hit=True, fact="fact\nwith a break"),)


def record(request_id: str, **changes: object) -> DecisionRecord:
    plain = DecisionRecord(
        request_id=request_id, at=0.0, key_id=None, method="POST", path="/v1/chat/completions", asked_model="m",
        target="primary", model="m", rule=Rule.ADDRESS, tried=TRIED,
        candidates=("primary",), stream=False, status=200, code=None, queue_position=None, held_ms=0.0, turn_ms=0.0,
        connect_ms=None, first_byte_ms=None, total_ms=1.5, overhead_ms=0.2, bytes_out=3, prompt_tokens=None,
        completion_tokens=None, tokens_per_second=None,
    )  # fmt: skip
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_the_newest_record_of_an_id_is_found_and_the_oldest_are_forgotten() -> None:
    log = Decisions(capacity=3)
    for n, name in enumerate(("a", "b", "a", "c")):
        log.add(record(name, status=200 + n))
    assert [kept.request_id for kept in log] == ["b", "a", "c"]
    found = log.get("a")
    assert found is not None
    assert found.status == 202
    assert log.get("nobody") is None


async def test_every_request_becomes_one_structured_line(log_text: io.StringIO) -> None:
    log = Decisions()
    log.add(record("a"))
    log.add(record("b", status=503))
    assert log_text.getvalue() == "", "nothing is written on a request's way"
    await log.close()
    first, second = map(jsonio.loads, log_text.getvalue().splitlines())
    assert (first["at"], first["logger"], first["level"]) == ("1970-01-01T00:00:00.000Z", "hal0.request", "info")
    assert first["request"]["tried"] == [{"rule": "address", "hit": True, "fact": "fact\nwith a break"}]
    assert first["request"]["status"] == 200
    assert (second["request"]["request_id"], second["request"]["status"]) == ("b", 503)


async def test_lines_are_written_without_being_asked_for(log_text: io.StringIO) -> None:
    log = Decisions()
    log.add(record("a"))
    async with asyncio.timeout(5):
        while not log_text.getvalue():  # noqa: ASYNC110  what is waited for has no event
            await asyncio.sleep(0.01)
    await log.close()
    assert len(log_text.getvalue().splitlines()) == 1


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
