"""The GPUs of this machine and what the kernel says of their memory."""

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final, assert_never

from hal0.hardware import sysfs
from hal0.hardware.pci import PciDevice, devices


class Vendor(IntEnum):
    """PCI vendor numbers of those whose GPUs compute; virtual displays and server consoles are none of them."""

    AMD = 0x1002
    NVIDIA = 0x10DE
    INTEL = 0x8086


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU; sizes in bytes, None where the kernel does not say. `index` counts in the order of PCI addresses.

    VRAM is its own memory (on an APU: what the firmware set aside); GTT is system memory that the driver lets it use;
    visible VRAM is the part that the CPU can reach. `apu`: on the processor's die, with the system's memory.
    """

    index: int
    vendor: Vendor
    name: str
    driver: str | None
    pci_id: str
    address: str
    apu: bool
    render_node: str | None = None
    vram_total: int | None = None
    vram_used: int | None = None
    visible_vram_total: int | None = None
    visible_vram_used: int | None = None
    gtt_total: int | None = None
    gtt_used: int | None = None


def read(root: Path = Path("/")) -> tuple[Gpu, ...]:
    """Every GPU below `root`. Blocking, some milliseconds; never raises."""
    found: list[Gpu] = []
    for pci in devices(root):
        if pci.display and pci.vendor in tuple(Vendor) and pci.pci_id is not None:
            found.append(_gpu(root, pci, Vendor(pci.vendor), len(found)))
    return tuple(found)


def _gpu(root: Path, pci: PciDevice, vendor: Vendor, index: int) -> Gpu:
    match vendor:
        case Vendor.AMD:
            return _amd(pci, index)
        case Vendor.NVIDIA:
            return _nvidia(root, pci, index)
        case Vendor.INTEL:
            return _intel(pci, index)
        case _:
            assert_never(vendor)


def _address(pci: PciDevice) -> str:
    return pci.address or pci.directory.name


def _render_node(pci: PciDevice) -> str | None:
    nodes = (entry.name for entry in sysfs.entries(pci.directory / "drm"))
    return next((f"/dev/dri/{name}" for name in nodes if name.startswith("renderD")), None)


# -- AMD: amdgpu tells everything in sysfs --------------------------------------------------------------------------

# The first bytes of `gpu_metrics` are a size (2 bytes) and the format's revision: amdgpu writes 1 for cards, 2 for
# APUs, 3 for APUs since Strix (kgd_pp_interface.h).
_METRICS_CARD: Final = 1
# APUs by device number, for kernels and containers that do not show gpu_metrics: Raven to Strix Halo.
_APUS: Final = frozenset(
    {0x15DD, 0x15D8, 0x1636, 0x1638, 0x164C, 0x163F, 0x1435, 0x1681, 0x164E, 0x15BF, 0x15C8, 0x1900, 0x1901, 0x150E}
    | {0x1586, 0x1114, 0x13C0}
)


def _amd(pci: PciDevice, index: int) -> Gpu:
    info = {
        f"{ours}_{what}": sysfs.number(pci.directory / f"mem_info_{theirs}_{what}")
        for ours, theirs in (("vram", "vram"), ("visible_vram", "vis_vram"), ("gtt", "gtt"))
        for what in ("total", "used")
    }
    return Gpu(
        index=index,
        vendor=Vendor.AMD,
        name=sysfs.text(pci.directory / "product_name") or f"AMD {pci.pci_id}",
        driver=pci.driver,
        pci_id=pci.pci_id or "",
        address=_address(pci),
        apu=_is_apu(pci),
        render_node=_render_node(pci),
        **info,
    )


def _is_apu(pci: PciDevice) -> bool:
    try:
        with (pci.directory / "gpu_metrics").open("rb") as metrics:
            header = metrics.read(4)
    except OSError:  # the GPU sleeps, or the driver has none
        header = b""
    return header[2] > _METRICS_CARD if len(header) == 4 else pci.model in _APUS


# -- NVIDIA: names in procfs, memory only through its own library ---------------------------------------------------


def _nvidia(root: Path, pci: PciDevice, index: int) -> Gpu:
    """The amount of memory is unknown: the proprietary driver tells it to nobody but its own library."""
    information = sysfs.text(root / "proc/driver/nvidia/gpus" / _address(pci) / "information") or ""
    lines = (line.partition(":") for line in information.splitlines())
    told = {name.strip(): value.strip() for name, _, value in lines}
    return Gpu(
        index=index,
        vendor=Vendor.NVIDIA,
        name=told.get("Model") or f"NVIDIA {pci.pci_id}",
        driver=pci.driver or ("nvidia" if told else None),
        pci_id=pci.pci_id or "",
        address=_address(pci),
        apu=False,
        render_node=_render_node(pci),
    )


# -- Intel: i915 and xe ---------------------------------------------------------------------------------------------

_INTEL_IGPU: Final = "0000:00:02.0"  # where every integrated one has been since 2010; cards sit behind a bridge


def _intel(pci: PciDevice, index: int) -> Gpu:
    """xe counts physical VRAM per tile; i915 says `lmem_total_bytes` where Intel's own package is installed."""
    tiles = [entry for entry in sysfs.entries(pci.directory) if entry.name.startswith("tile")]
    places = [path / "physical_vram_size_bytes" for tile in tiles for path in (tile, tile / "memory")]
    cards = [entry for entry in sysfs.entries(pci.directory / "drm") if entry.name.startswith("card")]
    totals = [sysfs.number(path) for path in (*places, *(card / "lmem_total_bytes" for card in cards))]
    free = [sysfs.number(card / "lmem_avail_bytes") for card in cards]
    total = sum(figure for figure in totals if figure) or None
    available = next((figure for figure in free if figure is not None), None)
    return Gpu(
        index=index,
        vendor=Vendor.INTEL,
        name=f"Intel {pci.pci_id}",
        driver=pci.driver,
        pci_id=pci.pci_id or "",
        address=_address(pci),
        apu=total is None and _address(pci) == _INTEL_IGPU,
        render_node=_render_node(pci),
        vram_total=total,
        vram_used=total - available if total is not None and available is not None else None,
    )
