"""What would make more of a machine: each thing that is in the way, and the exact lines that help. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from hal0.hardware import runtimes
from hal0.hardware.cards import Gpu, Vendor
from hal0.hardware.host import Platform
from hal0.hardware.survey import Survey

_GIB: Final = 2**30
_PAGE: Final = 4096
# Below this a machine has nothing to lend, and above the share there is little left to win.
_GTT_WORTH: Final = 24 * _GIB
_GTT_SHARE: Final = 0.7
# What the system keeps for itself when the GPU may borrow the rest.
_GTT_KEEP: Final = 8 * _GIB
_CARVED: Final = 4 * _GIB  # a firmware's own choice is at most this
_HERE: Final = "on this machine"
_PROXMOX: Final = "on the host, in /etc/pve/lxc/CTID.conf (CTID: the container's number), then restart the container"
_INITRAMFS: Final = (
    (("fedora", "red hat", "centos", "rocky", "alma"), "sudo dracut --force"),
    (("arch", "manjaro", "endeavour"), "sudo mkinitcpio -P"),
    (("suse",), "sudo dracut --force"),
)
_X86: Final = frozenset({"sse2", "sse4_2"})  # ARM has other words for what it can do
_OVERLAY_CONF: Final = (
    r'[storage]\ndriver = "overlay"\n[storage.options.overlay]\nmount_program = "/usr/bin/fuse-overlayfs"\n'
)


@dataclass(frozen=True, slots=True)
class Advice:
    """`message` says what is and what it costs; `lines` are typed or written exactly so, at `where`.

    `risk` is what may be lost by it, "" when nothing.
    """

    name: str
    message: str
    where: str = _HERE
    lines: tuple[str, ...] = ()
    risk: str = ""


@dataclass(frozen=True, slots=True)
class Podman:
    """What podman says of itself, where it was asked: `storage` is its driver, "" when it has not said."""

    rootless: bool = False
    storage: str = ""
    starts: bool = True  # a container could be started, or none was tried yet


def advise(survey: Survey, podman: Podman) -> tuple[Advice, ...]:
    """In the order of what brings most."""
    return (
        *_lxc_nodes(survey),
        *_lxc_nesting(survey, podman),
        *_denied(survey),
        *_drivers(survey),
        *_gtt(survey),
        *_carved(survey),
        *_lxc_memory(survey),
        *_cdi(survey),
        *_npu(survey),
        *_rootless(survey, podman),
        *_vfs(survey, podman),
        *_processor(survey),
    )


# -- containers: the host has it, the container was not given it ----------------------------------------------------


def _lxc_nodes(survey: Survey) -> Iterator[Advice]:
    """sysfs shows the host's GPUs inside every container; /dev shows what was passed on."""
    if survey.host.platform is not Platform.LXC:
        return
    missing = [path for path in _wanted_nodes(survey) if survey.node(path) is None]
    if missing:
        render = survey.groups.get("render", 104)  # Debian's
        lines = (f"dev{n}: {path},gid={render},mode=0660" for n, path in enumerate(missing))
        names = " and ".join(missing)
        message = f"this LXC container was not given {names}, so slots cannot use what is behind them"
        yield Advice("lxc-devices", message, f"{_PROXMOX}; Proxmox 8.2 or newer", tuple(lines))


def _wanted_nodes(survey: Survey) -> Iterator[str]:
    machine = survey.machine
    for gpu in machine.gpus:
        if gpu.render_node is not None and gpu.vendor is not Vendor.NVIDIA:
            yield gpu.render_node
    if any(gpu.vendor is Vendor.AMD and gpu.driver == "amdgpu" for gpu in machine.gpus):
        yield runtimes.KFD
    yield from ("/dev/accel/accel0" for npu in machine.npus if npu.xdna and npu.node is None)


def _lxc_nesting(survey: Survey, podman: Podman) -> Iterator[Advice]:
    if survey.host.platform is Platform.LXC and not podman.starts:
        message = "no container starts in this LXC container: podman needs nesting there"
        yield Advice("lxc-nesting", message, _PROXMOX, ("features: nesting=1,keyctl=1",))


def _lxc_memory(survey: Survey) -> Iterator[Advice]:
    limits = survey.machine.cgroups
    if survey.host.platform is not Platform.LXC or not limits:
        return
    limit = min(limit.limit_bytes for limit in limits)
    shared = any(gpu.apu for gpu in survey.machine.gpus)
    gpu = "; what the GPU borrows is the host's and does not count against it" if shared else ""
    message = f"this LXC container may use {limit / _GIB:.0f} GiB of RAM, whatever the host has{gpu}"
    lines = (f"pct set CTID --memory {limit * 2 // 2**20}",)
    yield Advice("lxc-memory", message, "on the host, for twice as much", lines)


# -- drivers and rights ---------------------------------------------------------------------------------------------


def _denied(survey: Survey) -> Iterator[Advice]:
    closed = [node for node in survey.nodes if not node.usable]
    if closed:
        names = ", ".join(node.path for node in closed)
        groups = ",".join(survey.groups) or ",".join(sorted({str(node.group) for node in closed}))
        lines = (f"sudo usermod -aG {groups} $USER",)
        yield Advice("device-groups", f"hal0's user may not open {names}", f"{_HERE}, then sign in again", lines)


def _drivers(survey: Survey) -> Iterator[Advice]:
    for gpu in survey.machine.gpus:
        if gpu.driver is None:
            yield Advice(f"gpu-{gpu.index}-driver", f"no kernel driver has taken {gpu.name}", lines=_load_driver(gpu))
        elif gpu.vendor is Vendor.NVIDIA and gpu.driver == "nouveau":
            message = f"{gpu.name} has the driver nouveau, with which it computes slowly or not at all"
            yield Advice(f"gpu-{gpu.index}-driver", message, lines=("sudo apt-get install nvidia-driver",))


def _load_driver(gpu: Gpu) -> tuple[str, ...]:
    match gpu.vendor:
        case Vendor.AMD:
            return ("sudo modprobe amdgpu",)
        case Vendor.INTEL:
            return ("sudo modprobe xe || sudo modprobe i915",)
        case Vendor.NVIDIA:
            return ("sudo modprobe nvidia",)


def _cdi(survey: Survey) -> Iterator[Advice]:
    if any(gpu.driver == "nvidia" for gpu in survey.machine.gpus) and not survey.nvidia_cdi:
        lines = ("sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml",)
        yield Advice("nvidia-cdi", "podman can be given an NVIDIA GPU only by a CDI specification", lines=lines)


def _npu(survey: Survey) -> Iterator[Advice]:
    if any(npu.driver is None for npu in survey.machine.npus):
        message = "there is an AMD NPU without a driver: amdxdna comes with Linux 6.14 and newer"
        yield Advice("npu-driver", message, lines=("sudo modprobe amdxdna",))


# -- memory that the GPU shares with the system ---------------------------------------------------------------------


def _gtt(survey: Survey) -> Iterator[Advice]:
    """The kernel lends half of the memory unless told; on an APU that is the pool for all models.

    A processor's small GPU beside a card with memory of its own is none that models are for.
    """
    total = survey.machine.memory.total_bytes
    if survey.machine.cgroups or total < _GTT_WORTH:  # a container's memory is not the machine's
        return
    if not all(gpu.apu for gpu in survey.machine.gpus):
        return
    for gpu in survey.machine.gpus:
        if gpu.vendor is Vendor.AMD and gpu.apu and gpu.gtt_total is not None and gpu.gtt_total < total * _GTT_SHARE:
            pages = (total - max(_GTT_KEEP, total // 16)) // _PAGE
            options = f"options ttm pages_limit={pages} page_pool_size={pages}"
            yield Advice(
                "gtt",
                f"{gpu.name} may borrow {gpu.gtt_total / _GIB:.0f} of {total / _GIB:.0f} GiB; "
                f"the kernel would lend {pages * _PAGE / _GIB:.0f}",
                f"{_HERE}, then restart it",
                (f"echo '{options}' | sudo tee /etc/modprobe.d/hal0-gtt.conf", _initramfs(survey.host.distribution)),
                "programs and models then compete for the same memory",
            )
            return


def _carved(survey: Survey) -> Iterator[Advice]:
    for gpu in survey.machine.gpus:
        if gpu.apu and gpu.vram_total is not None and gpu.vram_total > _CARVED:
            message = (
                f"the firmware sets {gpu.vram_total / _GIB:.0f} GiB aside for {gpu.name} alone; with the smallest "
                "setting (UMA frame buffer, 512 MB) slots and programs share all of it"
            )
            yield Advice("carve-out", message, "in the firmware's setup")


def _initramfs(distribution: str) -> str:
    name = distribution.lower()
    return next((line for words, line in _INITRAMFS if any(w in name for w in words)), "sudo update-initramfs -u")


# -- podman and the processor ---------------------------------------------------------------------------------------


def _rootless(survey: Survey, podman: Podman) -> Iterator[Advice]:
    if not podman.rootless:
        return
    if not survey.subordinate_ids:
        message = "podman runs without root, and its user has no subordinate ids: no image can be unpacked"
        lines = ("sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER", "podman system migrate")
        yield Advice("rootless-ids", message, lines=lines)
    else:
        message = "podman runs without root: slots may use what hal0's own user may, GPU nodes and memory limits too"
        yield Advice("rootless", message)


def _vfs(survey: Survey, podman: Podman) -> Iterator[Advice]:
    if podman.storage != "vfs":
        return
    conf = "$HOME/.config/containers/storage.conf" if podman.rootless else "/etc/containers/storage.conf"
    tee = "tee" if podman.rootless else "sudo tee"
    lines = [
        "sudo apt-get install fuse-overlayfs",
        f"printf '{_OVERLAY_CONF}' | {tee} {conf}",
        "podman system reset",
    ]
    where = _HERE
    if survey.host.platform is Platform.LXC:
        where = f"{_HERE}, after `features: nesting=1,fuse=1` in /etc/pve/lxc/CTID.conf on the host"
    message = "podman's storage driver vfs copies every image in full for every container: slow, and much disk"
    yield Advice("vfs", message, where, tuple(lines), "podman forgets its images and containers; hal0 makes them anew")


def _processor(survey: Survey) -> Iterator[Advice]:
    flags = survey.machine.cpu.flags
    if not flags & _X86 or "avx2" in flags:
        return
    message = "the processor shows no AVX2: models on it run at a fraction of their speed"
    if survey.host.platform is Platform.VM:
        yield Advice("cpu-flags", message, "on the host (Proxmox)", ("qm set VMID --cpu host",))
    else:
        yield Advice("cpu-flags", message)
