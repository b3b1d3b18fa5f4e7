"""What a slot takes for a request is the median of its last answers, read once for all who wait."""

from dataclasses import replace

from hal0.dispatch.pace import Pace
from hal0.dispatch.trace import Trace
from hal0.observe.decisions import DecisionRecord
from hal0.vocab import SlotName

PRIMARY, EMBED = SlotName("primary"), SlotName("embed")
PLAIN = Trace("id", 0.0, 0.0, "POST", "/v1/chat/completions").record(0.0)


def answered(seconds: float, **other: object) -> DecisionRecord:
    fields = {"target": PRIMARY, "status": 200, "total_ms": seconds * 1000 + 500, "held_ms": 500.0, **other}
    return replace(PLAIN, **fields)  # type: ignore[arg-type]


def test_it_is_the_median_of_what_the_slot_answered_without_the_wait() -> None:
    records = [
        answered(2),
        answered(4),
        answered(60),
        answered(0, status=499),
        answered(0, method="GET"),
        answered(0, target=EMBED),
    ]
    pace = Pace(records, lambda: 0.0)
    assert pace.service_s(PRIMARY) == 4
    assert pace.service_s(EMBED) == 0
    assert pace.service_s(SlotName("tts")) is None


def test_only_the_last_ones_count() -> None:
    assert Pace([*[answered(9)] * 100, *[answered(3)] * 32], lambda: 0.0).service_s(PRIMARY) == 3


def test_records_are_read_again_after_a_second() -> None:
    records, now = [answered(2)], 50.0
    pace = Pace(records, lambda: now)
    assert pace.service_s(PRIMARY) == 2
    records.append(answered(4))
    assert pace.service_s(PRIMARY) == 2
    now = 51.0
    assert pace.service_s(PRIMARY) == 3
