"""How far a load is: what the engine tells, what it has read, else what earlier loads took. Pure."""

from dataclasses import dataclass
from typing import Final

from hal0.slots.record import Progress
from hal0.vocab import ProgressSource

# Reading is nearly all of a load, and not all: the cache, the graph and a first run come after it.
READ_SHARE: Final = 0.9
# An estimate never says that it is done.
ESTIMATE_CAP: Final = 0.95
# Below this it reads itself, not its model (its program and libraries), or in a way that nobody sees.
_READING: Final = 0.05
_GIB: Final = 2**30


@dataclass(frozen=True, slots=True)
class Expected:
    """What a load is measured by: bytes of its files, its usual seconds, and when it began (since the epoch)."""

    size_bytes: int
    total_s: float | None
    since: float


@dataclass(frozen=True, slots=True)
class Signs:
    """`engine`: the fraction (0-1) that the engine told last. `read_bytes`: None where nobody can tell."""

    engine: float | None = None
    read_bytes: int | None = None


def progress_of(signs: Signs, expected: Expected, now: float) -> Progress:
    """What is known beats what is guessed; of two that are known the one that is further, for neither runs ahead."""
    read = _read(signs, expected)
    known = [(signs.engine, ProgressSource.ENGINE), (read, ProgressSource.READ)]
    best = max(((fraction, source) for fraction, source in known if fraction), default=None)
    if best is None:
        return _estimated(expected, now)
    fraction, source = best
    if source is ProgressSource.ENGINE or signs.read_bytes is None:
        return Progress("loading", round(fraction, 2), "loading the model", source)
    done, total = (min(signs.read_bytes, expected.size_bytes) / _GIB, expected.size_bytes / _GIB)
    return Progress("loading", round(fraction, 2), f"loading the model, {done:.1f} of {total:.1f} GiB read", source)


def _read(signs: Signs, expected: Expected) -> float | None:
    if signs.read_bytes is None or expected.size_bytes <= 0:
        return None
    part = signs.read_bytes / expected.size_bytes
    return None if part < _READING else min(part, 1.0) * READ_SHARE


def _estimated(expected: Expected, now: float) -> Progress:
    if not expected.total_s:
        return Progress("loading", None, "loading the model")
    fraction = min(max(now - expected.since, 0.0) / expected.total_s, ESTIMATE_CAP)
    text = "loading the model, estimated from its earlier loads"
    return Progress("loading", round(fraction, 2), text, ProgressSource.ESTIMATE)
