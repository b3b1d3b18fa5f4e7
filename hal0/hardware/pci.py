"""PCI devices as sysfs names them: who made it, which driver has it."""

from dataclasses import dataclass
from pathlib import Path

from hal0.hardware import sysfs


@dataclass(frozen=True, slots=True)
class PciDevice:
    """`address` is domain:bus:device.function, `pci_id` is vendor:device in hexadecimal; None where sysfs is silent."""

    directory: Path
    address: str | None
    vendor: int | None
    model: int | None
    display: bool
    driver: str | None

    @property
    def pci_id(self) -> str | None:
        if self.vendor is None or self.model is None:
            return None
        return f"{self.vendor:04x}:{self.model:04x}"


def device(directory: Path) -> PciDevice:
    """What one device's directory says. Never raises."""
    lines = (sysfs.text(directory / "uevent") or "").splitlines()
    event = {name: value for name, _, value in (line.partition("=") for line in lines)}
    number = sysfs.number(directory / "class", 16)
    return PciDevice(
        directory=directory,
        address=event.get("PCI_SLOT_NAME"),
        vendor=sysfs.number(directory / "vendor", 16),
        model=sysfs.number(directory / "device", 16),
        display=number is not None and number >> 16 == 0x03,  # the base class of display controllers
        driver=event.get("DRIVER"),
    )


def devices(root: Path = Path("/")) -> tuple[PciDevice, ...]:
    """All of them below `root`, in the order of their addresses. Blocking, some milliseconds; never raises."""
    return tuple(device(entry) for entry in sysfs.entries(root / "sys/bus/pci/devices"))
