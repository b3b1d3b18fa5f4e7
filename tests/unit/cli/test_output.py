"""Tables and machine formats, character for character."""

import json
import time

import pytest

from hal0.cli import output
from hal0.cli.slots import COLUMNS
from hal0.vocab import Device, SlotState
from tests.fakes.api_views import slot_view, warming

ROWS = [
    slot_view("primary", SlotState.SERVING, in_flight=2, device=Device.VULKAN),
    warming("coder", 0.57, device=Device.ROCM, model="qwen3-coder-32b-q5_k_m"),
    slot_view("embed", SlotState.READY, model="nomic-embed-text-v1.5-q8_0", max_inflight=8, context_size=8192),
    slot_view("img", SlotState.OFFLINE, context_size=None),
]

AT_80 = """\
NAME     STATE    MODEL               DEVICE  MEM  TOK/S  ACTIVE  CTX  UNTIL
primary  serving  qwen3-30b-a3b-ins…  vulkan    -      -     2/4  32K  -
coder    warming  qwen3-coder-32b-q…  rocm      -      -  3 held  32K  57%, 13 s
embed    ready    nomic-embed-text-…  cpu       -      -     0/8  8K   -
img      offline  -                   cpu       -      -       -  -    -
"""

AT_160 = """\
NAME     STATE    MODEL                               DEVICE  MEM  TOK/S  ACTIVE  CTX  UNTIL
primary  serving  qwen3-30b-a3b-instruct-2507-q4_k_m  vulkan    -      -     2/4  32K  -
coder    warming  qwen3-coder-32b-q5_k_m              rocm      -      -  3 held  32K  57%, 13 s
embed    ready    nomic-embed-text-v1.5-q8_0          cpu       -      -     0/8  8K   -
img      offline  -                                   cpu       -      -       -  -    -
"""


@pytest.mark.parametrize(("width", "golden"), [(80, AT_80), (160, AT_160), (None, AT_160)])
def test_slot_table(width: int | None, golden: str) -> None:
    rows = [s.model_dump(mode="json") for s in ROWS]
    assert output.table(rows, output.choose(COLUMNS, None, wide=False), width=width) == golden


def test_table_never_wider_than_the_terminal() -> None:
    rows = [s.model_dump(mode="json") for s in ROWS]
    text = output.table(rows, output.choose(COLUMNS, None, wide=True), width=120)
    assert max(map(len, text.splitlines())) <= 120


def test_colour_is_on_state_words_only_and_does_not_move_columns() -> None:
    rows = [s.model_dump(mode="json") for s in ROWS]
    columns = output.choose(COLUMNS, "name,state,model", wide=False)
    painted = output.table(rows, columns, colour=True)
    assert painted.count("\x1b[0m") == len(rows)
    assert "\x1b[1;32mserving\x1b[0m" in painted
    assert "\x1b[31mprimary" not in painted


def test_no_headers() -> None:
    assert not output.table([], output.choose(COLUMNS, None, wide=False), headers=False)


def test_times_become_iso_and_durations_stay_numbers() -> None:
    value = {"since": 0.5, "desired": {"at": 1}, "ready_at": None, "uptime_s": 5.0, "items": [{"started_at": 2.25}]}
    assert output.readable_times(value) == {
        "since": "1970-01-01T00:00:00.500Z",
        "desired": {"at": "1970-01-01T00:00:01.000Z"},
        "ready_at": None,
        "uptime_s": 5.0,
        "items": [{"started_at": "1970-01-01T00:00:02.250Z"}],
    }


@pytest.mark.parametrize("items", [[], [{"a": 1}], [{"a": 1}, {"b": ["x", {"c": None}]}]])
def test_json_and_jsonl_parse_back(items: list[output.Json]) -> None:
    assert json.loads(output.machine(items, "json")) == items
    assert [json.loads(line) for line in output.machine(items, "jsonl").splitlines()] == items


def test_yaml_is_block_style_with_quoted_strings() -> None:
    value = {"name": "no", "nested": {"empty": [], "list": [1, True, None, "a: b\n"]}, "rows": [{"x": 1.5}]}
    assert output.machine(value, "yaml") == (
        'name: "no"\n'
        "nested:\n"
        "  empty: []\n"
        "  list:\n"
        "    - 1\n"
        "    - true\n"
        "    - null\n"
        '    - "a: b\\n"\n'
        "rows:\n"
        "  -\n"
        "    x: 1.5\n"
    )


def test_error_time_left_is_shown() -> None:
    failure = {
        "failure_class": "transient", "code": "slot.exited", "message": "m", "exit_code": 1, "signal": None,
        "oom": False,
        "log_tail": [], "at": 0.0, "attempt": 2, "next_attempt_at": time.time() + 40.5,
    }  # fmt: skip
    row = slot_view("coder", SlotState.ERROR, failure=failure).model_dump(mode="json")
    assert "retry in 40 s" in output.table([row], COLUMNS)
