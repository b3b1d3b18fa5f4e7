"""What a machine is doing at this moment: how busy, how warm, at what power."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hal0.hardware import sysfs
from hal0.hardware.snapshot import Machine

_DEVICES: Final = "sys/bus/pci/devices"
# `high` and the profiles hold the clocks up: then a GPU that does nothing is not idle by its clock.
_FREE_CLOCKS: Final = ("auto", "low")


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuLive:
    """None: nobody tells. `busy` is 0-1; `clock_pinned`: somebody keeps the clocks up, whatever there is to do."""

    address: str
    busy: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    clock_hz: int | None = None
    clock_pinned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One look. `busy_ticks` and `all_ticks` count since the start; what they say is in the difference of two looks."""

    busy_ticks: int = 0
    all_ticks: int = 0
    load: tuple[float, float, float] | None = None
    gpus: tuple[GpuLive, ...] = ()
    npus_active: tuple[bool | None, ...] = ()


def read(machine: Machine, root: Path = Path("/")) -> Moment:
    """Below `root`, for what is in `machine`. Blocking, some milliseconds; never raises."""
    busy, everything = ticks(sysfs.text(root / "proc/stat") or "")
    return Moment(
        busy_ticks=busy,
        all_ticks=everything,
        load=_load(sysfs.text(root / "proc/loadavg") or ""),
        gpus=tuple(_gpu(root / _DEVICES / gpu.address, gpu.address) for gpu in machine.gpus),
        npus_active=tuple(_active(root / _DEVICES / npu.address if npu.address else None) for npu in machine.npus),
    )


def cpu_busy(before: Moment, after: Moment) -> float | None:
    """The share of all processors' time, 0-1, that was used between two looks; None when no time has passed."""
    passed = after.all_ticks - before.all_ticks
    return None if passed <= 0 else min(max((after.busy_ticks - before.busy_ticks) / passed, 0.0), 1.0)


def ticks(stat: str) -> tuple[int, int]:
    """Busy and all ticks from the text of /proc/stat; what guests take is counted in user time already."""
    first = stat.partition("\n")[0].split()
    figures = [int(word) for word in first[1:9] if word.isdecimal()]
    if len(figures) < 5 or first[0] != "cpu":
        return 0, 0
    return sum(figures) - figures[3] - figures[4], sum(figures)  # without idle and iowait


def _load(text: str) -> tuple[float, float, float] | None:
    try:
        one, five, fifteen = (float(word) for word in text.split()[:3])
    except ValueError:
        return None
    return one, five, fifteen


def _gpu(device: Path, address: str) -> GpuLive:
    """amdgpu tells in sysfs and hwmon; others little or nothing of it."""
    busy = sysfs.number(device / "gpu_busy_percent")
    sensors = next(iter(sysfs.entries(device / "hwmon")), device / "hwmon")
    temperature = sysfs.number(sensors / "temp1_input")
    power = sysfs.number(sensors / "power1_average") or sysfs.number(sensors / "power1_input")
    level = sysfs.text(device / "power_dpm_force_performance_level")
    return GpuLive(
        address=address,
        busy=None if busy is None else min(busy, 100) / 100,
        temperature_c=None if temperature is None else temperature / 1000,
        power_w=None if power is None else power / 1e6,
        clock_hz=sysfs.number(sensors / "freq1_input"),
        clock_pinned=level is not None and level not in _FREE_CLOCKS,
    )


def _active(device: Path | None) -> bool | None:
    status = None if device is None else sysfs.text(device / "power/runtime_status")
    return None if status is None else status == "active"
