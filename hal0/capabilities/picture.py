"""A look at the machine as others see it, and what has changed between two. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from hal0.capabilities.prober import Found
from hal0.hardware import advice, runtimes
from hal0.hardware.cards import Gpu
from hal0.hardware.host import Host, Platform
from hal0.hardware.live import GpuLive
from hal0.hardware.pools import MemoryPool
from hal0.hardware.snapshot import Machine
from hal0.slots.ledger import offered
from hal0.wire.hardware import (
    AdviceView,
    ChangeView,
    CpuView,
    DiskView,
    GraphicsView,
    HardwareView,
    HostView,
    NpuView,
    PoolView,
    RuntimeView,
)

_PLACES: Final = {
    Platform.BARE_METAL: "",
    Platform.VM: "virtual machine",
    Platform.WSL2: "WSL 2",
    Platform.LXC: "LXC container",
    Platform.CONTAINER: "container",
}
_STRIX_HALO: Final = "1002:1586"
# What moves all the time is no change of the machine.
_MOVES: Final = frozenset(
    {
        *("busy", "load", "seen_at", "late", "memory_available_bytes", "free_bytes", "temperature_c", "power_w"),
        *("clock_hz", "clock_pinned", "active", "vram_used_bytes", "gtt_used_bytes"),
    }
)


def picture(found: Found, memory_limit: int | None) -> HardwareView:
    """`memory_limit`: what all slots together may have of RAM, in bytes; None: all of it."""
    survey, machine = found.survey, found.survey.machine
    lives = {gpu.address: gpu for gpu in found.moment.gpus}
    return HardwareView(
        host=_host(survey.host, machine),
        cpu=CpuView(
            model=machine.cpu.model,
            cores=machine.cpu.cores,
            threads=machine.cpu.threads,
            flags=sorted(machine.cpu.flags),
            busy=found.cpu_busy,
            load=list(found.moment.load or ()),
        ),
        memory_total_bytes=machine.memory.total_bytes,
        memory_available_bytes=machine.memory.available_bytes,
        pools=[_pool(pool) for pool in offered(found.pools, memory_limit)],
        gpus=[_gpu(gpu, lives.get(gpu.address), survey.gfx) for gpu in machine.gpus],
        npus=_npus(found),
        disks=[
            DiskView(
                holds=what,
                path=disk.path,
                filesystem=disk.filesystem,
                total_bytes=disk.total_bytes,
                free_bytes=disk.free_bytes,
            )
            for what, disk in found.disks.items()
        ],
        runtimes=[
            RuntimeView(
                device=it.device, readiness=it.readiness, reason=it.reason, nodes=list(it.nodes), gpus=list(it.gpus)
            )
            for it in runtimes.of(survey).values()
        ],
        advice=[
            AdviceView(name=it.name, message=it.message, where=it.where, lines=list(it.lines), risk=it.risk)
            for it in advice.advise(survey, found.podman)
        ],
        seen_at=found.at,
        late=found.late,
    )


def changes(old: HardwareView, new: HardwareView) -> list[ChangeView]:
    """Every leaf that differs, by its dotted path; None on the side where it is not."""
    before, after = dict(_leaves("", old.model_dump())), dict(_leaves("", new.model_dump()))
    keys = [key for key in dict.fromkeys([*before, *after]) if before.get(key) != after.get(key)]
    return [ChangeView(key=key, old=before.get(key), new=after.get(key)) for key in keys]


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in _MOVES:
                yield from _leaves(f"{path}.{key}" if path else key, inner)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for n, inner in enumerate(value):
            yield from _leaves(f"{path}.{inner.get('name') or inner.get('device') or inner.get('holds') or n}", inner)
    else:
        yield path, value


def _host(host: Host, machine: Machine) -> HostView:
    return HostView(
        hostname=host.hostname,
        kernel=host.kernel,
        distribution=host.distribution,
        product=host.product,
        platform=host.platform,
        within=host.within,
        label=label(host, machine),
    )


def label(host: Host, machine: Machine) -> str:
    """The machine in a few words, for people."""
    return ", ".join(filter(None, [_kind(machine), _place(host)]))


def _kind(machine: Machine) -> str:
    if any(gpu.pci_id == _STRIX_HALO for gpu in machine.gpus):
        return "Strix Halo"
    cards = [gpu.name for gpu in machine.gpus if not gpu.apu] or [gpu.name for gpu in machine.gpus]
    return cards[0] if cards else "CPU only"


def _place(host: Host) -> str:
    place = _PLACES[host.platform]
    return f"{place} ({host.within})" if place and host.within not in ("", host.platform) else place


def _pool(pool: MemoryPool) -> PoolView:
    return PoolView(
        name=str(pool.key),
        kind=pool.kind,
        gpu_index=pool.gpu_index,
        total_bytes=pool.total_bytes,
        free_bytes=pool.free_bytes,
        limit_bytes=pool.limit_bytes,
        unified=pool.unified,
        note=pool.note,
    )


def _gpu(gpu: Gpu, now: GpuLive | None, gfx: Mapping[str, str]) -> GraphicsView:
    return GraphicsView(
        index=gpu.index,
        name=gpu.name,
        vendor=gpu.vendor.name.lower(),
        driver=gpu.driver,
        pci_id=gpu.pci_id,
        address=gpu.address,
        integrated=gpu.apu,
        render_node=gpu.render_node,
        gfx=gfx.get(gpu.render_node or ""),
        vram_total_bytes=gpu.vram_total,
        vram_used_bytes=gpu.vram_used,
        gtt_total_bytes=gpu.gtt_total,
        gtt_used_bytes=gpu.gtt_used,
        busy=now.busy if now else None,
        temperature_c=now.temperature_c if now else None,
        power_w=now.power_w if now else None,
        clock_hz=now.clock_hz if now else None,
        clock_pinned=now.clock_pinned if now else False,
    )


def _npus(found: Found) -> list[NpuView]:
    npus, active = found.survey.machine.npus, found.moment.npus_active
    return [
        NpuView(
            driver=npu.driver,
            node=npu.node,
            pci_id=npu.pci_id,
            firmware=npu.firmware,
            xdna=npu.xdna,
            active=active[n] if n < len(active) else None,
        )
        for n, npu in enumerate(npus)
    ]
