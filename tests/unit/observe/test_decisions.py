"""The decision log: what is kept, and the one line that is written."""

import logging

import pytest

from hal0.lib import jsonio
from hal0.observe.decisions import DecisionRecord, Decisions
from hal0.vocab import Rule


def record(request_id: str, **changes: object) -> DecisionRecord:
    plain = DecisionRecord(
        request_id=request_id, at=0.0, key_id=None, method="POST", path="/v1/chat/completions", asked_model="m",
        target="primary", model="m", rule=Rule.ADDRESS, tried=((Rule.ADDRESS, True, "fact\nwith a break"),),
        candidates=("primary",), stream=False, status=200, code=None, queue_position=None, held_ms=0.0,
        connect_ms=None, first_byte_ms=None, total_ms=1.5, overhead_ms=0.2, bytes_out=3, prompt_tokens=None,
        completion_tokens=None, tokens_per_second=None,
    )  # fmt: skip
    return plain._replace(**changes)  # type: ignore[arg-type]


def test_the_newest_record_of_an_id_is_found_and_the_oldest_are_forgotten() -> None:
    log = Decisions(capacity=3)
    for n, name in enumerate(("a", "b", "a", "c")):
        log.add(record(name, status=200 + n))
    assert [kept.request_id for kept in log] == ["b", "a", "c"]
    found = log.get("a")
    assert found is not None
    assert found.status == 202
    assert log.get("nobody") is None


def test_one_structured_line_is_written_per_request(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "hal0.request"):
        Decisions().add(record("a"))
    (line,) = [entry.getMessage() for entry in caplog.records]
    assert "\n" not in line
    value = jsonio.loads(line)
    assert value["at"] == "1970-01-01T00:00:00.000Z"
    assert value["tried"] == [["address", True, "fact\nwith a break"]]
    assert value["status"] == 200
