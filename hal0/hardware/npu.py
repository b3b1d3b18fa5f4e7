"""The NPU: accel nodes and the driver behind them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hal0.hardware import pci, sysfs

_XDNA: Final = "amdxdna"
# AMD's NPUs by PCI id, for kernels whose driver has not taken them: Phoenix and Hawk Point, then Strix and later.
_XDNA_IDS: Final = frozenset({"1022:1502", "1022:17f0"})


@dataclass(frozen=True, slots=True)
class Npu:
    """One accelerator. `node` is the device file (None when the driver made none), `firmware` as the driver says it.

    Without a driver there are no node and no firmware.
    """

    node: str | None
    driver: str | None
    pci_id: str | None = None
    address: str | None = None
    firmware: str | None = None

    @property
    def xdna(self) -> bool:
        """AMD's: the one that FLM runs on."""
        return self.driver == _XDNA


def read(root: Path = Path("/")) -> tuple[Npu, ...]:
    """Below `root`. Blocking, short; never raises."""
    found = []
    for entry in sysfs.entries(root / "sys/class/accel"):
        if not entry.name.startswith("accel"):
            continue
        device = pci.device(entry / "device")
        node = f"/dev/accel/{entry.name}"
        found.append(
            Npu(
                node=node if (root / node[1:]).exists() else None,
                driver=device.driver,
                pci_id=device.pci_id,
                address=device.address,
                firmware=sysfs.text(entry / "device/fw_version"),
            )
        )
    return (*found, *_driverless(root, {npu.address for npu in found}))


def _driverless(root: Path, known: set[str | None]) -> Iterator[Npu]:
    for device in pci.devices(root):
        if device.pci_id in _XDNA_IDS and device.address not in known:
            yield Npu(node=None, driver=device.driver, pci_id=device.pci_id, address=device.address)
