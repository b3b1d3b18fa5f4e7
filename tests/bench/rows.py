"""The bars, and how a measured value is held against its bar."""

import os
from dataclasses import asdict, dataclass, field
from typing import Any, Final

# Until the proxy is tuned its rows may miss by a third; the table shows where that was needed.
DEFAULT_SLACK: Final = 1 / 3


@dataclass(frozen=True, slots=True)
class Bar:
    """`limit` is the most, or the least with `at_least`; `proxy` rows get the slack."""

    name: str
    limit: float
    unit: str
    at_least: bool = False
    proxy: bool = False


BARS: Final = {
    bar.name: bar
    for bar in (
        Bar("added_latency_p50", 0.5, "ms", proxy=True),
        Bar("added_latency_p99", 3.0, "ms", proxy=True),
        Bar("small_json_vs_nginx", 0.35, "ratio", at_least=True, proxy=True),
        Bar("sse_relay_vs_nginx", 0.8, "ratio", at_least=True, proxy=True),
        Bar("streams_200_added_gap_p99", 5.0, "ms", proxy=True),
        Bar("streams_200_cpu", 50.0, "% of a core", proxy=True),
        Bar("streams_1000_memory_each", 64.0, "KiB", proxy=True),
        Bar("crash_noticed_pidfd", 100.0, "ms"),
        Bar("crash_noticed_event", 500.0, "ms"),
        Bar("crash_noticed_neither", 5000.0, "ms"),
        Bar("ready_noticed", 100.0, "ms"),
        Bar("start_to_first_answer_5_slots", 1.5, "s"),
        Bar("memory_idle", 120.0, "MB"),
        Bar("upload_memory_growth", 16.0, "MiB", proxy=True),
        Bar("hal0ctl_ps", 150.0, "ms"),
    )
}


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    value: float
    unit: str
    bar: float | None  # None: nothing was promised
    ok: bool  # within the bar and its slack
    slack: float  # share by which the bar may be missed
    note: str  # what the value was made of
    parts: dict[str, float] = field(default_factory=dict)  # of the value, in its unit

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def slack_of(bar: Bar) -> float:
    """HAL0_BENCH_SLACK sets the share for proxy rows; every other row has none."""
    return float(os.environ.get("HAL0_BENCH_SLACK", DEFAULT_SLACK)) if bar.proxy else 0.0


def judge(name: str, value: float, note: str = "") -> Row:
    bar = BARS[name]
    slack = slack_of(bar)
    ok = value >= bar.limit * (1 - slack) if bar.at_least else value <= bar.limit * (1 + slack)
    return Row(name, round(value, 3), bar.unit, bar.limit, ok, round(slack, 3), note)


def told(name: str, parts: dict[str, float], unit: str) -> Row:
    """What was measured and has no bar: the sum of its parts."""
    rounded = {part: round(value, 3) for part, value in parts.items()}
    note = ", ".join(f"{part} {value:.3f}" for part, value in rounded.items())
    return Row(name, round(sum(parts.values()), 3), unit, None, True, 0.0, note, rounded)


def table(rows: list[Row]) -> str:
    """The rows for people: what passed only thanks to its slack says so."""
    lines = [f"{'':4} {'row':31} {'value':>9} {'bar':>9} {'unit':12} note"]
    for row in rows:
        if row.bar is None:
            lines.append(f"{'':4} {row.name:31} {row.value:9.3f} {'-':>9} {row.unit:12} {row.note}")
            continue
        bar = BARS[row.name]
        met = row.value >= row.bar if bar.at_least else row.value <= row.bar
        verdict = "ok" if met else f"ok within the slack of {row.slack:.0%}" if row.ok else "MISSED"
        limit = f"{'>=' if bar.at_least else '<='} {row.bar:g}"
        mark = "ok" if met else "~" if row.ok else "MISS"
        note = row.note if met else "; ".join(filter(None, (verdict, row.note)))
        lines.append(f"{mark:4} {row.name:31} {row.value:9.3f} {limit:>9} {row.unit:12} {note}")
    return "\n".join(lines)
