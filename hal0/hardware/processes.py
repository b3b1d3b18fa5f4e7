"""What processes have in RAM, from procfs."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from hal0.hardware import sysfs

_RESIDENT: Final = "VmRSS:"  # in KiB; what a driver maps into a process is not counted in it


def resident_bytes(pids: Iterable[int], root: Path = Path("/")) -> int:
    """Together, pages that they share counted for each; who has ended has none. Blocking, short; never raises."""
    return sum(_resident(root / f"proc/{pid}/status") for pid in pids)


def _resident(status: Path) -> int:
    for line in (sysfs.text(status) or "").splitlines():
        figure = line.split()[1:2] if line.startswith(_RESIDENT) else []
        if figure and figure[0].isdecimal():
            return int(figure[0]) * 1024
    return 0
