"""The machine as seen over HTTP: what it has, what slots can use of it, what it does now, and what would help."""

from typing import Any

from hal0.vocab import Device
from hal0.wire.base import View


class HostView(View):
    """`platform` is bare-metal, vm, wsl2, lxc or container; `within` who made it so; `label` says both to people."""

    hostname: str
    kernel: str
    distribution: str
    product: str
    platform: str
    within: str
    label: str


class CpuView(View):
    """`flags` are the kernel's words; `busy` (0-1) is over the time since somebody asked before."""

    model: str
    cores: int
    threads: int
    flags: list[str]
    busy: float | None
    load: list[float]  # of 1, 5 and 15 minutes; empty where unknown


class PoolView(View):
    """Where models' memory comes from. `unified`: its bytes are taken from RAM too. None: nobody tells."""

    name: str
    kind: str
    gpu_index: int | None
    total_bytes: int | None
    free_bytes: int | None
    limit_bytes: int | None
    unified: bool
    note: str


class GraphicsView(View):
    """One GPU. `integrated`: on the processor's die; `gfx` is AMD's name of its instruction set. None: nobody tells.

    `busy` is 0-1; `clock_pinned`: the clocks are held up, whatever there is to do.
    """

    index: int
    name: str
    vendor: str
    driver: str | None
    pci_id: str
    address: str
    integrated: bool
    render_node: str | None
    gfx: str | None
    vram_total_bytes: int | None
    vram_used_bytes: int | None
    gtt_total_bytes: int | None
    gtt_used_bytes: int | None
    busy: float | None
    temperature_c: float | None
    power_w: float | None
    clock_hz: int | None
    clock_pinned: bool


class NpuView(View):
    """`xdna`: the kind that FLM runs on. `active`: it is powered now."""

    driver: str | None
    node: str | None
    pci_id: str | None
    firmware: str | None
    xdna: bool
    active: bool | None


class DiskView(View):
    """The room where something is kept (`holds`: models, state)."""

    holds: str
    path: str
    filesystem: str
    total_bytes: int
    free_bytes: int


class RuntimeView(View):
    """Whether slots can run on a device: ready, denied, unprepared or absent, and why."""

    device: Device
    readiness: str
    reason: str
    nodes: list[str]
    gpus: list[int]


class AdviceView(View):
    """What is in the way, and the lines that help, to be typed or written exactly so at `where`."""

    name: str
    message: str
    where: str
    lines: list[str]
    risk: str


class HardwareView(View):
    """`late`: something hangs, so this is what was seen at `seen_at`."""

    host: HostView
    cpu: CpuView
    memory_total_bytes: int
    memory_available_bytes: int
    pools: list[PoolView]
    gpus: list[GraphicsView]
    npus: list[NpuView]
    disks: list[DiskView]
    runtimes: list[RuntimeView]
    advice: list[AdviceView]
    seen_at: float
    late: bool


class ChangeView(View):
    key: str
    old: Any
    new: Any


class ProbeView(View):
    """The machine, and what has changed of it since it was probed before: drivers, nodes, sizes; nothing that moves."""

    hardware: HardwareView
    changes: list[ChangeView]
