"""Sizes, durations and times in words that people read."""

import re
from typing import Final

_ESCAPES: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])")
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def size(count: float | None, *, binary: bool = False) -> str:
    """Bytes with one decimal from mega upwards: 21.4 GB, or GiB when `binary`."""
    if count is None:
        return "-"
    step, suffix = (1024.0, "iB") if binary else (1000.0, "B")
    value = float(count)
    for prefix in ("", "k", "M", "G", "T"):
        if abs(value) < step or prefix == "T":
            break
        value /= step
    unit = f"{prefix.upper() if binary else prefix}{suffix}" if prefix else "B"
    return f"{value:.1f} {unit}" if prefix in ("M", "G", "T") else f"{value:.0f} {unit}"


def duration(seconds: float) -> str:
    """One unit where one is enough, two below an hour: 0.4 s, 13 s, 4 min 46 s, 6 h, 3 d."""
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86400 * 2:
        return f"{whole // 3600} h"
    return f"{whole // 86400} d"


def ago(at: float | None, now: float) -> str:
    return "-" if at is None else f"{duration(max(now - at, 0))} ago"


def context(tokens: int | None) -> str:
    """Context length as people say it: 32K, 4096 stays 4K, odd sizes stay numbers."""
    if not tokens:
        return "-"
    return f"{tokens // 1024}K" if tokens % 1024 == 0 else str(tokens)


def plain(text: str) -> str:
    """Text from an engine's log without terminal escapes and control characters (tab and newline stay)."""
    return _CONTROLS.sub("", _ESCAPES.sub("", text))
