"""Machines as sysfs and procfs show them, written below a directory: figures and layouts of real ones."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

Make: TypeAlias = Callable[[Path], Path]

GIB: Final = 2**30
MIB: Final = 2**20

CPU: Final = """processor\t: {n}
vendor_id\t: {vendor}
model name\t: {model}
physical id\t: 0
core id\t\t: {core}
flags\t\t: fpu sse4_2 avx avx2 fma f16c{more}

"""


def write(root: Path, files: dict[str, str | int]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")


def processor(
    root: Path, model: str, *, cores: int, threads: int, flags: str = "", vendor: str = "AuthenticAMD"
) -> None:
    paragraphs = (
        CPU.format(n=n, vendor=vendor, model=model, core=n % cores, more=f" {flags}" if flags else "")
        for n in range(threads)
    )
    write(root, {"proc/cpuinfo": "".join(paragraphs)})


def meminfo(root: Path, *, total: int, available: int) -> None:
    kib = {"MemTotal": total, "MemFree": available // 2, "MemAvailable": available, "SwapTotal": 0}
    write(root, {"proc/meminfo": "\n".join(f"{name + ':':15} {size // 1024} kB" for name, size in kib.items())})


def pci(root: Path, address: str, vendor: int, model: int, *, kind: int = 0x030000, driver: str | None = None) -> Path:
    event = [f"PCI_CLASS={kind:X}", f"PCI_ID={vendor:04X}:{model:04X}", f"PCI_SLOT_NAME={address}"]
    at = f"sys/bus/pci/devices/{address}"
    write(
        root,
        {
            f"{at}/uevent": "\n".join([f"DRIVER={driver}", *event] if driver else event),
            f"{at}/vendor": f"0x{vendor:04x}",
            f"{at}/device": f"0x{model:04x}",
            f"{at}/class": f"0x{kind:06x}",
        },
    )
    return root / at


def drm(device: Path, card: int, render: int) -> Path:
    (device / f"drm/renderD{render}").mkdir(parents=True)
    (device / f"drm/card{card}").mkdir()
    return device / f"drm/card{card}"


def amdgpu(device: Path, *, revision: int | None, sizes: dict[str, tuple[int, int]]) -> None:
    """`sizes`: total and used by the kernel's names. `revision`: of gpu_metrics, None when it cannot be read."""
    for name, (total, used) in sizes.items():
        write(device, {f"mem_info_{name}_total": total, f"mem_info_{name}_used": used})
    if revision is not None:
        (device / "gpu_metrics").write_bytes(struct.pack("<HBB", 264, revision, 0) + bytes(260))


def nodes(root: Path, *paths: str) -> None:
    """Device files; here they are plain ones."""
    write(root, {path.lstrip("/"): "" for path in paths})


def system(root: Path, name: str, kernel: str, *, vendor: str = "", product: str = "", render: int = 104) -> None:
    """Names of the system and of the board, and the groups of its device files."""
    write(
        root,
        {
            "proc/sys/kernel/osrelease": kernel,
            "proc/sys/kernel/hostname": "box",
            "etc/os-release": f'ID=x\nPRETTY_NAME="{name}"',
            "sys/class/dmi/id/sys_vendor": vendor,
            "sys/class/dmi/id/product_name": product,
            "etc/group": f"root:x:0:\nvideo:x:44:\nrender:x:{render}:",
            "proc/stat": "cpu  600 0 200 1100 100 0 0 0 0 0\ncpu0 600 0 200 1100 100 0 0 0 0 0",
            "proc/loadavg": "0.50 0.25 0.10 2/300 4711",
        },
    )


def kfd(root: Path, *targets: tuple[int, int]) -> None:
    """The processor, which has no instruction set of a GPU, then GPUs by `gfx_target_version` and render minor."""
    for n, (target, minor) in enumerate([(0, 0), *targets]):
        text = f"cpu_cores_count {16 if n == 0 else 0}\ngfx_target_version {target}\ndrm_render_minor {minor}"
        write(root, {f"sys/class/kfd/kfd/topology/nodes/{n}/properties": text})


def sensors(device: Path, *, busy: int, milli_c: int, micro_w: int, hz: int, level: str = "auto") -> None:
    write(
        device,
        {
            "gpu_busy_percent": busy,
            "power_dpm_force_performance_level": level,
            "hwmon/hwmon3/temp1_input": milli_c,
            "hwmon/hwmon3/power1_average": micro_w,
            "hwmon/hwmon3/freq1_input": hz,
        },
    )


def cgroup_v2(root: Path, path: str, limits: dict[str, tuple[int | str, int, int]]) -> None:
    """`limits`: limit, usage and inactive file pages by cgroup path."""
    write(root, {"proc/self/cgroup": f"0::{path}"})
    for at, (limit, usage, inactive) in limits.items():
        base = f"sys/fs/cgroup{at.rstrip('/')}"
        stat = f"anon {usage - inactive}\nfile {inactive}\ninactive_file {inactive}"
        write(root, {f"{base}/memory.max": limit, f"{base}/memory.current": usage, f"{base}/memory.stat": stat})


def process(root: Path, pid: int, *opened: str, resident: int = 0) -> Path:
    """A process with `resident` bytes in RAM and these texts in fdinfo; standard input is a pipe."""
    pipe = "pos:\t0\nflags:\t00\nmnt_id:\t15\nino:\t4711"
    files: dict[str, str | int] = {f"proc/{pid}/fdinfo/{fd}": text for fd, text in enumerate((pipe, *opened))}
    write(root, files | {f"proc/{pid}/status": f"Name:\tllama-server\nVmRSS:\t{resident // 1024:8} kB\nThreads:\t9"})
    return root / f"proc/{pid}"


def drm_file(driver: str, address: str, client: int, **sizes: str) -> str:
    """What the kernel says of an opened GPU; `sizes` by its words, with `_` for `-`, and `drm-` left out."""
    head = [f"pos:\t0\nflags:\t02100002\nmnt_id:\t28\nino:\t713\ndrm-driver:\t{driver}", f"drm-client-id:\t{client}"]
    told = [f"drm-{name.replace('_', '-')}:\t{size}" for name, size in sizes.items()]
    return "\n".join([*head, f"drm-pdev:\t{address}", *told, "drm-engine-compute:\t123456789 ns"])


def strix_halo(root: Path, *, revision: int | None = 3) -> Path:
    """Ryzen AI Max+ 395, 128 GB, 512 MiB set aside for the GPU, the driver may borrow 110 GiB, an XDNA 2 NPU."""
    processor(root, "AMD RYZEN AI MAX+ 395 w/ Radeon 8060S", cores=16, threads=32, flags="avx512f")
    meminfo(root, total=125 * GIB, available=100 * GIB)
    gpu = pci(root, "0000:c5:00.0", 0x1002, 0x1586, kind=0x038000, driver="amdgpu")
    drm(gpu, 1, 128)
    vram = (512 * MIB, 300 * MIB)
    amdgpu(gpu, revision=revision, sizes={"vram": vram, "vis_vram": vram, "gtt": (110 * GIB, 6 * GIB)})
    npu = pci(root, "0000:c6:00.1", 0x1022, 0x17F0, kind=0x118000, driver="amdxdna")
    write(npu, {"fw_version": "1.1.2.65"})
    (root / "sys/class/accel/accel0").mkdir(parents=True)
    (root / "sys/class/accel/accel0/device").symlink_to(npu)
    write(npu, {"power/runtime_status": "suspended"})
    sensors(gpu, busy=37, milli_c=61000, micro_w=54_200_000, hz=2_900_000_000)
    nodes(root, "/dev/dri/card1", "/dev/dri/renderD128", "/dev/kfd", "/dev/accel/accel0")
    kfd(root, (110501, 128))
    system(
        root, "Ubuntu 25.04", "6.14.0-15-generic", vendor="Framework", product="Desktop (AMD Ryzen AI Max 300 Series)"
    )
    cgroup_v2(root, "/system.slice/hal0.service", {"/system.slice/hal0.service": ("max", 80 * MIB, 0)})
    return root


def radeon_24(root: Path) -> Path:
    """Radeon RX 7900 XTX in a desktop of 64 GB whose processor has a small GPU, too (as Ryzen 7000 has)."""
    processor(root, "AMD Ryzen 9 7950X 16-Core Processor", cores=16, threads=32, flags="avx512f")
    meminfo(root, total=62 * GIB, available=50 * GIB)
    card = pci(root, "0000:03:00.0", 0x1002, 0x744C, driver="amdgpu")
    drm(card, 0, 128)
    vram = (24 * GIB, 2 * GIB)
    amdgpu(card, revision=1, sizes={"vram": vram, "vis_vram": vram, "gtt": (31 * GIB, 1 * GIB)})
    small = pci(root, "0000:0e:00.0", 0x1002, 0x164E, driver="amdgpu")
    drm(small, 1, 129)
    vram = (512 * MIB, 20 * MIB)
    amdgpu(small, revision=None, sizes={"vram": vram, "vis_vram": vram, "gtt": (31 * GIB, 0)})
    sensors(card, busy=100, milli_c=78000, micro_w=320_000_000, hz=2_500_000_000, level="high")
    nodes(root, *(f"/dev/dri/{name}" for name in ("card0", "card1", "renderD128", "renderD129")), "/dev/kfd")
    kfd(root, (110000, 128), (100306, 129))
    system(root, "Fedora Linux 42", "6.15.4-200.fc42.x86_64", vendor="ASUS", product="System Product Name")
    return root


def nvidia(root: Path) -> Path:
    """GeForce RTX 3090 with the proprietary driver, which tells its memory to its own library only."""
    processor(root, "Intel(R) Core(TM) i7-10700K", cores=8, threads=16, vendor="GenuineIntel")
    meminfo(root, total=31 * GIB, available=20 * GIB)
    pci(root, "0000:01:00.0", 0x10DE, 0x2204, driver="nvidia")
    pci(root, "0000:01:00.1", 0x10DE, 0x1AEF, kind=0x040300, driver="snd_hda_intel")  # its sound
    information = "Model: \t\t NVIDIA GeForce RTX 3090\nIRQ:   \t\t 155\nBus Type: \t PCIe\nDevice Minor: \t 0"
    write(root, {"proc/driver/nvidia/gpus/0000:01:00.0/information": information})
    nodes(root, "/dev/nvidiactl", "/dev/nvidia-uvm")
    system(root, "Debian GNU/Linux 12 (bookworm)", "6.1.0-37-amd64", vendor="Gigabyte", product="Z490")
    return root


def intel_igpu(root: Path, *, total: int = 15 * GIB, available: int = 12 * GIB) -> Path:
    """A notebook's Iris Xe: all of its memory is the system's, and no file says how much of it."""
    processor(root, "12th Gen Intel(R) Core(TM) i5-1240P", cores=12, threads=16, vendor="GenuineIntel")
    meminfo(root, total=total, available=available)
    gpu = pci(root, "0000:00:02.0", 0x8086, 0x46A6, driver="i915")
    drm(gpu, 0, 128)
    nodes(root, "/dev/dri/card0", "/dev/dri/renderD128")
    system(root, "Arch Linux", "6.15.2-arch1-1", vendor="LENOVO", product="21CB")
    return root


def intel_cards(root: Path) -> Path:
    """Two Arc cards: one with xe, which counts per tile, one with Intel's own i915, which counts on the card."""
    meminfo(root, total=31 * GIB, available=20 * GIB)
    battlemage = pci(root, "0000:03:00.0", 0x8086, 0xE20B, driver="xe")
    drm(battlemage, 0, 128)
    write(battlemage, {"tile0/physical_vram_size_bytes": 12 * GIB})
    alchemist = pci(root, "0000:08:00.0", 0x8086, 0x56A0, driver="i915")
    card = drm(alchemist, 1, 129)
    write(card, {"lmem_total_bytes": 16 * GIB, "lmem_avail_bytes": 15 * GIB})
    return root


def cpu_only_vm(root: Path) -> Path:
    """A small rented machine: two threads of one core and a virtual display."""
    processor(root, "AMD EPYC-Milan Processor", cores=1, threads=2)
    meminfo(root, total=8 * GIB, available=6 * GIB)
    drm(pci(root, "0000:00:01.0", 0x1AF4, 0x1050, driver="virtio-pci"), 0, 128)
    nodes(root, "/dev/dri/card0", "/dev/dri/renderD128")
    system(root, "Debian GNU/Linux 12 (bookworm)", "6.1.0-37-cloud-amd64", vendor="QEMU", product="Standard PC")
    cgroup_v2(root, "/user.slice/session-1.scope", {"/user.slice": ("max", GIB, 0)})
    return root


def lxc_limited(root: Path) -> Path:
    """A container of 16 GiB on a Strix Halo: lxcfs shows the limit as the machine's memory, sysfs is the host's.

    It was given no device.
    """
    strix_halo(root)
    for path in ("dev/dri/card1", "dev/dri/renderD128", "dev/kfd", "dev/accel/accel0"):
        (root / path).unlink()
    system(root, "Debian GNU/Linux 13 (trixie)", "6.14.8-2-pve", vendor="Framework", product="Desktop", render=992)
    mount = "1201 1190 0:57 /proc/meminfo /proc/meminfo rw,nosuid - fuse.lxcfs lxcfs rw,user_id=0"
    write(root, {"proc/self/mountinfo": mount})
    meminfo(root, total=16 * GIB, available=13 * GIB)
    cgroup_v2(root, "/.lxc/hal0", {"/": (16 * GIB, 6 * GIB, 2 * GIB), "/.lxc": ("max", GIB, 0)})
    return root
