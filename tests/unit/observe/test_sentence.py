"""What is said of a request, as a table."""

from typing import Any

import pytest

from hal0.observe.live import row_of
from hal0.observe.sentence import sentence
from tests.unit.observe.records import record

HIT = "fact\nwith a break. "


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, HIT + "primary answered 200 after 2 ms."),
        ({"total_ms": 12_345.0}, HIT + "primary answered 200 after 12.3 s."),
        ({"status": 499, "code": "request.client_gone"}, HIT + "The client left after 2 ms."),
        ({"status": 503, "code": "slot.loading"}, HIT + "It ended with 503 slot.loading after 2 ms."),
        (
            {"queue_position": 2, "held_ms": 4000.0, "turn_ms": 1500.0},
            HIT + "It waited at place 2 for 4.0 s, 1.5 s of it while other slots had the memory. "
            "primary answered 200 after 2 ms.",
        ),
        ({"tried": (), "status": 400, "code": "request.invalid_json", "target": None},
         "It ended before any rule was tried. It ended with 400 request.invalid_json after 2 ms."),
    ],
)  # fmt: skip
def test_a_request_in_words(changes: dict[str, Any], said: str) -> None:
    assert sentence(row_of(record("a", **changes))) == said
