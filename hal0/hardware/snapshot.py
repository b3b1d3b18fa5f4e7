"""The whole machine at one moment, read below a root in one go."""

from dataclasses import dataclass
from pathlib import Path

from hal0.hardware import cards, cgroup, cpu, memory, npu
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


def read(root: Path = Path("/")) -> Machine:
    """Below `root`. Blocking, some milliseconds: call it in a thread. Never raises; what cannot be read is absent."""
    return Machine(
        cpu=cpu.read(root),
        memory=memory.read(root),
        cgroups=cgroup.read(root),
        gpus=cards.read(root),
        npus=npu.read(root),
    )
