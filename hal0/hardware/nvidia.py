"""What NVIDIA's GPUs have and who holds it: only the driver's own program tells; this reads what it prints. Pure."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from hal0.hardware import sysfs
from hal0.hardware.cards import Gpu
from hal0.hardware.footprint import GpuBytes

COMMAND: Final = (
    "nvidia-smi",
    "--query-compute-apps=pid,gpu_bus_id,used_memory",
    "--format=csv,noheader,nounits",
)
_MIB: Final = 2**20


def present(root: Path = Path("/")) -> bool:
    """The proprietary driver has GPUs here, so that asking is worth a process. Blocking, short; never raises."""
    return bool(sysfs.entries(root / "proc/driver/nvidia/gpus"))


def parse(lines: Iterable[str], pids: Collection[int]) -> tuple[GpuBytes, ...]:
    """What these processes hold, per GPU, from what COMMAND prints (MiB).

    A GPU on which one of them has no figure (`[N/A]`, `[Insufficient Permissions]`) is not there: half a sum is none.
    """
    sums: dict[str, GpuBytes] = {}
    untold: set[str] = set()
    for line in lines:
        words = [word.strip() for word in line.split(",")]
        if len(words) != 3 or not words[0].isdecimal() or int(words[0]) not in pids:
            continue
        address = _address(words[1])
        if words[2].isdecimal():
            sums[address] = GpuBytes(address, int(words[2]) * _MIB).plus(sums.get(address))
        else:
            untold.add(address)
    return tuple(sums[address] for address in sorted(sums.keys() - untold))


def _address(bus_id: str) -> str:
    """As sysfs spells it: `00000000:0A:00.0` is 0000:0a:00.0."""
    domain, _, rest = bus_id.lower().partition(":")
    return f"{domain[-4:] if domain.startswith('0000') else domain}:{rest}"


# -- the cards themselves -------------------------------------------------------------------------------------------

CARDS_COMMAND: Final = (
    "nvidia-smi",
    "--query-gpu=pci.bus_id,memory.total,memory.free,utilization.gpu,temperature.gpu,power.draw",
    "--format=csv,noheader,nounits",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFigures:
    """One card: bytes, 0-1, degrees and watts; None where it does not tell (`[N/A]`).

    `used_bytes` counts what the driver keeps for itself: some hundred megabytes that it calls neither used nor free.
    """

    total_bytes: int | None
    used_bytes: int | None
    busy: float | None
    temperature_c: float | None
    power_w: float | None


def parse_cards(lines: Iterable[str]) -> Mapping[str, CardFigures]:
    """From what CARDS_COMMAND prints, by PCI address; a line that is no card's is left out."""
    found = {}
    for line in lines:
        words = [word.strip() for word in line.split(",")]
        if len(words) == 6 and ":" in words[0]:
            total, free, busy, temperature, power = (_figure(word) for word in words[1:])
            found[_address(words[0])] = CardFigures(
                total_bytes=None if total is None else int(total * _MIB),
                used_bytes=None if total is None or free is None else int((total - free) * _MIB),
                busy=None if busy is None else busy / 100,
                temperature_c=temperature,
                power_w=power,
            )
    return found


def with_memory(gpu: Gpu, told: Mapping[str, CardFigures]) -> Gpu:
    """The GPU with what the driver's program said of its memory, where it said something."""
    figures = told.get(gpu.address)
    return gpu if figures is None else replace(gpu, vram_total=figures.total_bytes, vram_used=figures.used_bytes)


def _figure(word: str) -> float | None:
    try:
        value = float(word)
    except ValueError:
        return None
    return value if 0 <= value < 1e9 else None  # a driver that is confused says nan
