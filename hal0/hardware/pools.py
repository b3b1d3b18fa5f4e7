"""Where model memory comes from on this machine: pools, from a snapshot of it. Pure."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from hal0.hardware.cards import Gpu, Vendor
from hal0.hardware.footprint import Footprint
from hal0.hardware.snapshot import Machine
from hal0.vocab import Device

# What Mesa's Vulkan driver offers of the system's memory to an Intel GPU without its own (anv_device.c): half of it
# up to 4 GiB, three quarters of more.
_INTEL_SMALL: Final = 4 * 2**30
# lxcfs shows a container its limit as the machine's memory; pages and kernel reserve make the two differ slightly.
_LXCFS_SLACK: Final = 1.02


class PoolKind(StrEnum):
    VRAM = "vram"
    GTT = "gtt"
    RAM = "ram"


class PoolKey(NamedTuple):
    """Which pool: RAM has no GPU."""

    kind: PoolKind
    gpu_index: int | None = None

    def __str__(self) -> str:
        return self.kind.upper() if self.gpu_index is None else f"{self.kind.upper()} of GPU {self.gpu_index}"


RAM: Final = PoolKey(PoolKind.RAM)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPool:
    """One pool in bytes. None: nobody tells (then nothing is refused on its account). `note` is for people.

    `limit_bytes`: what slots may have of it together by the operator's word; None: all of it.

    `unified`: its bytes are taken from the RAM pool too, so whoever takes some takes them from both, and only RAM's
    total counts when totals are added.
    """

    kind: PoolKind
    gpu_index: int | None = None
    total_bytes: int | None
    free_bytes: int | None
    note: str = ""
    limit_bytes: int | None = None
    unified: bool = False

    @property
    def key(self) -> PoolKey:
        return PoolKey(self.kind, self.gpu_index)


def pools(machine: Machine, *, own_cgroup: bool = True) -> tuple[MemoryPool, ...]:
    """One pool per GPU, then RAM.

    `own_cgroup`: slots live under the limits of hal0's own cgroup; False where podman creates containers outside of
    it (hal0 in a container that was given the host's socket).
    """
    ram, limited = _ram(machine, own_cgroup=own_cgroup)
    return (*(_of_gpu(gpu, machine, limited=limited) for gpu in machine.gpus), ram)


def pool_for(device: Device, gpu_index: int | None, machine: Machine) -> PoolKey:
    """The pool that a slot's weights go to; `device` is resolved (not `auto`).

    `gpu_index` counts as the engine does: among the vendor's own GPUs for rocm and cuda, among all for vulkan. Without
    one, or with one that is not there, it is a card before an APU, as llama.cpp chooses, and the first of those.
    """
    vendor = _VENDOR.get(device)
    if device in (Device.CPU, Device.NPU, Device.AUTO):
        return RAM  # the NPU works in system memory
    candidates = [gpu for gpu in machine.gpus if vendor is None or gpu.vendor is vendor]
    if not candidates:
        return RAM
    if gpu_index is not None and gpu_index < len(candidates):
        return _key(candidates[gpu_index])
    return _key(min(candidates, key=lambda gpu: (gpu.apu, gpu.index)))


def places(found: Footprint, machine: Machine) -> dict[PoolKey, int]:
    """Where a footprint's bytes are, each counted once; what a card borrows of the system's memory is RAM.

    An APU's two kinds are both there, whichever of them is its pool.
    """
    gpus = {gpu.address: gpu for gpu in machine.gpus}
    amounts = {RAM: found.resident_bytes}
    for held in found.gpus:
        if (gpu := gpus.get(held.address)) is not None:
            borrowed = PoolKey(PoolKind.GTT, gpu.index) if gpu.apu else RAM
            amounts[PoolKey(PoolKind.VRAM, gpu.index)] = held.vram_bytes
            amounts[borrowed] = amounts.get(borrowed, 0) + held.system_bytes
    return amounts


_VENDOR: Final = {Device.ROCM: Vendor.AMD, Device.CUDA: Vendor.NVIDIA}


def _key(gpu: Gpu) -> PoolKey:
    return PoolKey(PoolKind.GTT if _in_system_memory(gpu) else PoolKind.VRAM, gpu.index)


def _in_system_memory(gpu: Gpu) -> bool:
    """An APU works in GTT, unless the firmware has set more aside for it than the driver lets it borrow."""
    return gpu.apu and (gpu.gtt_total is None or gpu.gtt_total >= (gpu.vram_total or 0))


def _of_gpu(gpu: Gpu, machine: Machine, *, limited: bool) -> MemoryPool:
    kind, index = _key(gpu)
    if kind is PoolKind.VRAM:
        free = None if gpu.vram_total is None or gpu.vram_used is None else max(gpu.vram_total - gpu.vram_used, 0)
        note = "" if free is not None else f"{gpu.driver or 'no driver'} does not tell how much memory is free"
        return MemoryPool(kind=kind, gpu_index=index, total_bytes=gpu.vram_total, free_bytes=free, note=note)
    total, free = _borrowable(gpu, machine)
    system, available = machine.memory.total_bytes, machine.memory.available_bytes
    if not limited and system:
        free = available if free is None else min(free, available)
        total, note = min(total, system), "shared with the system"
        return MemoryPool(kind=kind, gpu_index=index, total_bytes=total, free_bytes=free, note=note, unified=True)
    # GTT is not charged to a container's cgroup, and its counters are the host's truth: a 47 GB allocation failed
    # where lxcfs showed 65 GB of free RAM. Where the host's own figures are visible they bound it nevertheless.
    note = "the host's memory, outside of this container's limit" if limited else "the system's memory is unknown"
    hosts = limited and not any(limit.limit_bytes * _LXCFS_SLACK >= system for limit in machine.cgroups)
    free = min(free, available) if hosts and free is not None else free
    return MemoryPool(kind=kind, gpu_index=index, total_bytes=total, free_bytes=free, note=note)


def _borrowable(gpu: Gpu, machine: Machine) -> tuple[int, int | None]:
    """Total and free bytes that the GPU may borrow from the system; None: its driver does not tell now."""
    if gpu.gtt_total is not None:
        return gpu.gtt_total, None if gpu.gtt_used is None else max(gpu.gtt_total - gpu.gtt_used, 0)
    system = machine.memory.total_bytes
    total = system // 2 if system <= _INTEL_SMALL else system * 3 // 4
    return total, min(total, machine.memory.available_bytes)


def _ram(machine: Machine, *, own_cgroup: bool) -> tuple[MemoryPool, bool]:
    """RAM, and whether it is a container's share rather than the machine's."""
    total, free = machine.memory.total_bytes, machine.memory.available_bytes
    limits = [limit for limit in machine.cgroups if own_cgroup and limit.limit_bytes <= total * _LXCFS_SLACK]
    if not limits:
        return MemoryPool(kind=PoolKind.RAM, total_bytes=total or None, free_bytes=free if total else None), False
    tightest = min(limits, key=lambda limit: limit.limit_bytes)
    pool = MemoryPool(
        kind=PoolKind.RAM,
        total_bytes=min(tightest.limit_bytes, total),
        free_bytes=min(free, *(limit.free_bytes for limit in limits)),
        note=f"limited by cgroup {tightest.path}",
    )
    return pool, True
