"""How much memory this machine has and how much of it is free, from procfs."""

from dataclasses import dataclass
from pathlib import Path

from hal0.hardware import sysfs


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes; 0 where the kernel does not say. `available_bytes` counts what the kernel would give up first."""

    total_bytes: int
    available_bytes: int


def parse(meminfo: str) -> Memory:
    """From the text of /proc/meminfo, whose figures are in KiB."""
    figures = {}
    for line in meminfo.splitlines():
        name, _, rest = line.partition(":")
        figure = rest.split()[:1]
        if figure and figure[0].isdecimal():
            figures[name] = int(figure[0]) * 1024
    return Memory(figures.get("MemTotal", 0), figures.get("MemAvailable", figures.get("MemFree", 0)))


def read(root: Path = Path("/")) -> Memory:
    """Below `root`. Blocking, well below a millisecond; never raises."""
    return parse(sysfs.text(root / "proc/meminfo") or "")
