"""hal0's own process: how late its event loop is, and what it takes of the machine."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hal0.observe.exposition import Family, Histogram

_EVERY_S: Final = 0.25
_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_TICK: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_SELF: Final = Path("/proc/self")


class LoopLag:
    """Asks to be woken up four times a second, and notes how late that is."""

    def __init__(self) -> None:
        self._late = Histogram(_BOUNDS)

    async def watch(self) -> None:
        """Runs for ever."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _EVERY_S
            await asyncio.sleep(_EVERY_S)
            self._late.observe(max(loop.time() - due, 0.0))

    def families(self) -> Iterator[Family]:
        lag = Family("hal0_event_loop_lag_seconds", "histogram", "How late the event loop woke up, looked at often.")
        lag.observed(self._late)
        tasks = Family("hal0_event_loop_tasks", "gauge", "Tasks on the event loop, whatever they wait for.")
        tasks.add(len(asyncio.all_tasks()))
        yield from (lag, tasks)


def process_families(started_at: float) -> list[Family]:
    """Under the names that every Prometheus client uses. Blocking: reads /proc."""
    fields = (_SELF / "stat").read_text().rpartition(")")[2].split()
    pages = int((_SELF / "statm").read_text().split()[1])
    values = (
        ("cpu_seconds_total", "counter", "Processor time.", (int(fields[11]) + int(fields[12])) / _TICK),
        ("resident_memory_bytes", "gauge", "Resident memory.", pages * _PAGE),
        ("open_fds", "gauge", "Open file descriptors.", sum(1 for _ in (_SELF / "fd").iterdir())),
        ("threads", "gauge", "Threads.", int(fields[17])),
        ("start_time_seconds", "gauge", "When hal0 started, since the epoch.", started_at),
    )
    families = []
    for name, kind, told, value in values:
        family = Family(f"process_{name}", kind, told)  # type: ignore[arg-type]
        family.add(value)
        families.append(family)
    return families
