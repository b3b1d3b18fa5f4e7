"""Podman's progress documents of pulls and builds, turned into one sentence and one fraction. Pure."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from hal0.engine.base import ImageProgress

_MB: Final = 1_000_000
_STEP: Final = re.compile(r"(?:\[(\d+)/(\d+)\] )?STEP (\d+)/(\d+):")  # [stage/stages] only where there are several


class PullMeter:
    """Adds up the layers of one pull. Layers appear one by one, so the fraction never goes back."""

    def __init__(self, ref: str) -> None:
        self._ref = ref
        self._current: dict[str, int] = {}
        self._total: dict[str, int] = {}
        self._fraction = 0.0

    def feed(self, document: Mapping[str, Any]) -> ImageProgress | None:
        layer = str(document.get("id", ""))
        detail = document.get("progressDetail") or {}
        total = detail.get("total") or 0
        if layer and total > 0:
            self._total[layer] = total
            self._current[layer] = min(detail.get("current") or 0, total)
        elif layer in self._total and "complete" in str(document.get("status", "")).lower():
            self._current[layer] = self._total[layer]
        else:
            return None
        done, whole = sum(self._current.values()), sum(self._total.values())
        self._fraction = max(self._fraction, done / whole)
        return ImageProgress(f"pulling {self._ref}: {done // _MB} of {whole // _MB} MB", self._fraction)


def build_steps(document: Mapping[str, Any]) -> Iterator[ImageProgress]:
    """One per line of the build's output; "[1/2] STEP 2/9: ..." tells the fraction."""
    for line in str(document.get("stream", "")).splitlines():
        if text := line.strip():
            yield ImageProgress(text, _step_fraction(text))


def _step_fraction(text: str) -> float | None:
    match = _STEP.match(text)
    if match is None:
        return None
    stage, stages, step, steps = (int(number) for number in match.groups(default="1"))
    return (stage - 1 + (step - 1) / max(steps, 1)) / max(stages, 1)
