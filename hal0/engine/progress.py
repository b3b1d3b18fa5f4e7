"""Podman's progress documents of pulls and builds, turned into one sentence and one fraction. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from hal0.engine.base import ImageProgress

_MB: Final = 1_000_000


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
    """One per line of the build's output; "STEP 2/9: ..." tells the fraction."""
    for line in str(document.get("stream", "")).splitlines():
        if text := line.strip():
            yield ImageProgress(text, _step_fraction(text))


def _step_fraction(text: str) -> float | None:
    if not text.startswith("STEP "):
        return None
    step, _, count = text[5:].partition(":")[0].partition("/")
    if not (step.isdigit() and count.isdigit() and int(count)):
        return None
    return (int(step) - 1) / int(count)
