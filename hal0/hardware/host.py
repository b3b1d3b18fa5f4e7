"""The machine as a place: its name, its system, and whether it is a real one, a virtual one or a container."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from hal0.hardware import sysfs

# What hypervisors put into DMI (vendor, then product), in lower case, and how each is called.
_HYPERVISORS: Final = (
    ("qemu", "kvm"),
    ("kvm", "kvm"),
    ("vmware", "vmware"),
    ("virtualbox", "virtualbox"),
    ("innotek", "virtualbox"),
    ("xen", "xen"),
    ("amazon ec2", "ec2"),
    ("google compute", "gce"),
    ("virtual machine", "hyper-v"),
)
_MARKERS: Final = (("run/.containerenv", "podman"), (".dockerenv", "docker"))


class Platform(StrEnum):
    BARE_METAL = "bare-metal"
    VM = "vm"
    WSL2 = "wsl2"
    LXC = "lxc"
    CONTAINER = "container"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """`within` names the hypervisor or the container's manager, "" on bare metal or where nobody tells."""

    hostname: str = ""
    kernel: str = ""
    distribution: str = ""
    product: str = ""
    platform: Platform = Platform.BARE_METAL
    within: str = ""


def read(root: Path = Path("/"), *, cpu_flags: frozenset[str] = frozenset()) -> Host:
    """Below `root`. Blocking, about a millisecond; never raises. `cpu_flags` tell a virtual machine without DMI."""
    kernel = sysfs.text(root / "proc/sys/kernel/osrelease") or ""
    vendor, product = (sysfs.text(root / f"sys/class/dmi/id/{name}") or "" for name in ("sys_vendor", "product_name"))
    platform, within = _platform(root, kernel, f"{vendor} {product}".lower(), virtual="hypervisor" in cpu_flags)
    return Host(
        hostname=sysfs.text(root / "proc/sys/kernel/hostname") or "",
        kernel=kernel,
        distribution=_pretty_name(root),
        product=" ".join(f"{vendor} {product}".split()),
        platform=platform,
        within=within,
    )


def _platform(root: Path, kernel: str, dmi: str, *, virtual: bool) -> tuple[Platform, str]:
    """The innermost counts: a container in a virtual machine is a container, and its DMI is the machine's."""
    if (manager := _container(root)) is not None:
        return (Platform.LXC if manager == "lxc" else Platform.CONTAINER), manager
    if "microsoft" in kernel.lower():
        return Platform.WSL2, "hyper-v"
    named = next((name for word, name in _HYPERVISORS if word in dmi), None)
    if named is not None or virtual:
        return Platform.VM, named or ""
    return Platform.BARE_METAL, ""


def _container(root: Path) -> str | None:
    """Who made the container that this is; None when it is none."""
    variables = (sysfs.text(root / "proc/1/environ") or "").split("\0")
    told = [value.removeprefix("container=") for value in variables if value.startswith("container=")]
    told += [text] if (text := sysfs.text(root / "run/systemd/container")) else []
    if told:
        return told[0]
    for marker, manager in _MARKERS:
        if (root / marker).exists():
            return manager
    # LXC shows its guests their own limits through lxcfs; everybody may see that.
    return "lxc" if " - fuse.lxcfs " in (sysfs.text(root / "proc/self/mountinfo") or "") else None


def _pretty_name(root: Path) -> str:
    lines = (sysfs.text(root / "etc/os-release") or "").splitlines()
    pairs = {name: value.strip("\"'") for name, _, value in (line.partition("=") for line in lines)}
    return pairs.get("PRETTY_NAME") or pairs.get("NAME", "")
