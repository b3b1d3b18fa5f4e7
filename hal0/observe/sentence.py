"""One sentence or two about a request, made of its record alone. Pure."""

from collections.abc import Mapping
from typing import Any, Final

_LEFT: Final = 499


def sentence(row: Mapping[str, Any]) -> str:
    """Why it went where it went, how it waited, how it ended; `row` has the members of a record."""
    return " ".join(filter(None, (_why(row), _wait(row), _end(row))))


def why(tried: list[dict[str, Any]]) -> str:
    """The fact that decided."""
    hit = next((it["fact"] for it in tried if it["hit"]), None)
    if hit is not None:
        return f"{hit}."
    return "No rule led anywhere." if tried else "It ended before any rule was tried."


def _why(row: Mapping[str, Any]) -> str:
    return why(row["tried"])


def _wait(row: Mapping[str, Any]) -> str:
    if row["queue_position"] is None:
        return ""
    turn = f", {_time(row['turn_ms'])} of it while other slots had the memory" if row["turn_ms"] else ""
    waited = f" for {_time(row['held_ms'])}{turn}" if row["held_ms"] else ""
    return f"It waited at place {row['queue_position']}{waited}."


def _end(row: Mapping[str, Any]) -> str:
    took = _time(row["total_ms"])
    if row["status"] == _LEFT:
        return f"The client left after {took}."
    by = f"{row['target']} answered" if row["target"] and row["code"] is None else "It ended with"
    code = f" {row['code']}" if row["code"] else ""
    return f"{by} {row['status']}{code} after {took}."


def _time(ms: float) -> str:
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.1f} s"
