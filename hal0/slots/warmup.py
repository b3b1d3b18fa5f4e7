"""How long a load may take and how often to look: numbers and their reasons."""

import random
import statistics
from collections.abc import Iterator, Sequence
from typing import Final

from hal0.slots.record import Failure, Load

# Deadlines of the transitional phases, in seconds.
PULL_STALL_S: Final = 120.0  # without any progress
START_S: Final = 30.0  # create and start take well under a second on a healthy engine
STOP_S: Final = 20.0  # then SIGKILL
WARM_MIN_S: Final = 180.0
UNLOADING_GRACE_S: Final = 60.0  # beyond drain and stop: podman's own time for kill and removal

# A slow disk (a spinning one, or a network share) gives 60 MB/s; three times the longest load seen is the other bound.
_SLOWEST_READ_BYTES_S: Final = 60e6
_HISTORY_FACTOR: Final = 3.0

# The first probes are close together: a small model is ready within 50 ms of its start. Then ten a second: a probe
# of a loading engine costs half a millisecond, and readiness is noticed within 100 ms however long the load took.
_PROBES_S: Final = (0.02, 0.03, 0.05, 0.05)
_PROBE_CAP_S: Final = 0.09

METER_EVERY_S: Final = 10.0  # a sample costs podman some 10 ms
LIVENESS_EVERY_S: Final = 5.0
LIVENESS_FAILURES: Final = 3
CUT_OFF_EVERY_S: Final = 1.0  # while the port seems lost: every second counts for those who wait


def warm_deadline_s(configured: float | None, size_bytes: int, history: Sequence[Load]) -> float:
    """Seconds from start to ready after which a load has failed."""
    if configured is not None:
        return configured
    slowest = max((load.total_s for load in history), default=0.0)
    return max(WARM_MIN_S, size_bytes / _SLOWEST_READ_BYTES_S, slowest * _HISTORY_FACTOR)


def expected_s(history: Sequence[Load], model: str | None) -> float | None:
    """Median time of this model's earlier loads here, in seconds; None without one."""
    times = [load.total_s for load in history if load.model == model]
    return statistics.median(times) if times else None


def probe_delays() -> Iterator[float]:
    """Endless delays between probes, in seconds."""
    yield from _PROBES_S
    while True:
        yield _PROBE_CAP_S


def jitter() -> float:
    """A factor of 0.8-1.2 that keeps restarts of several slots apart."""
    return random.uniform(0.8, 1.2)  # noqa: S311  spreads load, guards nothing


def stop_s(fault: Failure | None) -> float:
    """How long an engine may take to end when told to: one that does not even answer will not listen either."""
    return 0.0 if fault is not None and fault.code == "slot.exited" else STOP_S
