"""The whole machine at one moment, read below a root in one go."""

from dataclasses import dataclass, replace
from pathlib import Path

from hal0.hardware import cards, cgroup, cpu, memory, npu, nvidia
from hal0.hardware.cards import Gpu
from hal0.hardware.cgroup import CgroupLimit
from hal0.hardware.cpu import Cpu
from hal0.hardware.memory import Memory
from hal0.hardware.npu import Npu


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What there is, and how much of it is free at this moment. Sizes in bytes; `hardware.pools` makes sense of it."""

    cpu: Cpu
    memory: Memory
    cgroups: tuple[CgroupLimit, ...] = ()  # hal0's own first, then those above it
    gpus: tuple[Gpu, ...] = ()
    npus: tuple[Npu, ...] = ()


@dataclass(frozen=True, slots=True)
class Devices:
    """What drivers tell. `asks_nvidia`: NVIDIA's own program knows what the kernel does not."""

    gpus: tuple[Gpu, ...] = ()
    npus: tuple[Npu, ...] = ()
    asks_nvidia: bool = False


def read(root: Path = Path("/")) -> Machine:
    """Below `root`. Blocking, some milliseconds: call it in a thread. Never raises; what cannot be read is absent."""
    devices = read_devices(root)
    return replace(read_system(root), gpus=devices.gpus, npus=devices.npus)


def read_system(root: Path = Path("/")) -> Machine:
    """As `read`, without what drivers tell: the kernel itself answers, and at once."""
    return Machine(cpu=cpu.read(root), memory=memory.read(root), cgroups=cgroup.read(root))


def read_devices(root: Path = Path("/")) -> Devices:
    """What drivers tell. Blocking: some milliseconds, or as long as a driver that hangs. Never raises."""
    return Devices(cards.read(root), npu.read(root), nvidia.present(root))
