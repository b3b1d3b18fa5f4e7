"""What processes hold of each GPU's memory, from what the kernel says of their open DRM files (fdinfo)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hal0.hardware.footprint import GpuBytes

# The kernel's words for memory regions (amdgpu, xe, i915), which some drivers number. `cpu` and `system` are what was
# moved out of the GPU's reach: RAM it still is. `memory` is the older word for `resident`.
_VRAM: Final = frozenset({"vram", "local"})
_SYSTEM: Final = frozenset({"gtt", "cpu", "system"})
_STATISTICS: Final = ("memory", "resident")  # the later one wins
_UNITS: Final = {"": 1, "KiB": 2**10, "MiB": 2**20}


@dataclass(frozen=True, slots=True)
class Client:
    """One opening of a GPU, however many descriptors and processes share it: then they tell the same number."""

    number: int
    held: GpuBytes


def parse(text: str) -> Client | None:
    """From the text of one file in /proc/PID/fdinfo; None: not a GPU's, or its driver does not tell what it holds."""
    lines = (line.partition(":") for line in text.splitlines())
    told = {name.strip(): value.strip() for name, _, value in lines}
    address, number = told.get("drm-pdev", ""), told.get("drm-client-id", "")
    sizes = dict(_regions(told))
    vram = [size for region, size in sizes.items() if region.rstrip("0123456789") in _VRAM]
    system = [size for region, size in sizes.items() if region.rstrip("0123456789") in _SYSTEM]
    if not address or not number.isdecimal() or not (vram or system):
        return None
    return Client(int(number), GpuBytes(address, sum(vram), sum(system)))


def held(pids: Iterable[int], root: Path = Path("/")) -> tuple[GpuBytes, ...]:
    """What these hold together, per GPU; a GPU that nobody's files tell of is not there.

    Empty when one of them may not be looked at: half a sum is no figure. Who has ended holds nothing. Blocking: some
    milliseconds, or as long as a driver that hangs; never raises.
    """
    try:
        clients = {
            (client.held.address, client.number): client.held
            for pid in pids
            for text in _texts(root / f"proc/{pid}/fdinfo")
            if (client := parse(text)) is not None
        }
    except PermissionError:
        return ()
    sums: dict[str, GpuBytes] = {}
    for one in clients.values():
        sums[one.address] = one.plus(sums.get(one.address))
    return tuple(sums[address] for address in sorted(sums))


def _regions(told: dict[str, str]) -> Iterator[tuple[str, int]]:
    for statistic in _STATISTICS:
        for name, value in told.items():
            region = name.removeprefix(f"drm-{statistic}-")
            number, _, unit = value.partition(" ")
            if region != name and number.isdecimal() and unit.strip() in _UNITS:
                yield region, int(number) * _UNITS[unit.strip()]


def _texts(directory: Path) -> Iterator[str]:
    """What is in there; a process or a file that is gone is nothing. Raises PermissionError."""
    try:
        files = tuple(directory.iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return
    for file in files:
        try:
            yield file.read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
