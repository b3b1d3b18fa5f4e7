"""What kind of place a machine is, who may use its devices, what slots can run on, and what would help."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from hal0.hardware import advice, disk, groups, live, nodes, nvidia, runtimes, survey
from hal0.hardware.advice import Podman
from hal0.hardware.host import Platform
from hal0.hardware.runtimes import Readiness
from hal0.hardware.survey import Survey
from hal0.vocab import Device
from tests.unit.hardware import trees
from tests.unit.hardware.trees import GIB, Make

MACHINES: list[Make] = [
    trees.strix_halo,
    trees.radeon_24,
    trees.nvidia,
    trees.intel_igpu,
    trees.cpu_only_vm,
    trees.lxc_limited,
]


ROOTFUL = Podman()


def told(found: Survey, podman: Podman = ROOTFUL) -> dict[str, advice.Advice]:
    return {one.name: one for one in advice.advise(found, podman)}


@pytest.mark.parametrize(
    ("make", "platform", "within", "ready"),
    [
        (trees.strix_halo, Platform.BARE_METAL, "", {"vulkan", "rocm", "npu", "cpu"}),
        (trees.radeon_24, Platform.BARE_METAL, "", {"vulkan", "rocm", "cpu"}),
        (trees.nvidia, Platform.BARE_METAL, "", {"cpu"}),
        (trees.intel_igpu, Platform.BARE_METAL, "", {"vulkan", "cpu"}),
        (trees.cpu_only_vm, Platform.VM, "kvm", {"cpu"}),
        (trees.lxc_limited, Platform.LXC, "lxc", {"cpu"}),
    ],
)
def test_each_machine_is_known_for_what_it_is(
    tmp_path: Path, make: Make, platform: Platform, within: str, ready: set[str]
) -> None:
    found = survey.read(make(tmp_path))
    assert (found.host.platform, found.host.within) == (platform, within)
    assert found.host.kernel
    assert found.host.distribution
    assert {device for device, runtime in runtimes.of(found).items() if runtime.ready} == ready


def test_compute_names_the_instruction_set_and_hands_on_its_nodes(tmp_path: Path) -> None:
    found = survey.read(trees.strix_halo(tmp_path))
    assert found.gfx == {"/dev/dri/renderD128": "gfx1151"}
    rocm = runtimes.of(found)[Device.ROCM]
    assert (rocm.nodes, rocm.gpus) == (("/dev/kfd", "/dev/dri/card1", "/dev/dri/renderD128"), (0,))
    assert runtimes.of(found)[Device.NPU].nodes == ("/dev/accel/accel0",)


@pytest.mark.parametrize(
    ("device", "gone", "readiness", "reason"),
    [
        (Device.VULKAN, "dev/dri/renderD128", Readiness.UNPREPARED, "there is no /dev/dri/renderD128"),
        (Device.ROCM, "dev/kfd", Readiness.UNPREPARED, "there is no /dev/kfd"),
        (Device.ROCM, "sys/class/kfd/kfd/topology/nodes/1/properties", Readiness.READY, ""),  # nothing told at all
        (Device.NPU, "dev/accel/accel0", Readiness.UNPREPARED, "the driver amdxdna made no device node"),
    ],
)
def test_a_device_that_is_not_ready_says_why(
    tmp_path: Path, device: Device, gone: str, readiness: Readiness, reason: str
) -> None:
    root = trees.strix_halo(tmp_path)
    (root / gone).unlink()
    runtime = runtimes.of(survey.read(root))[device]
    assert runtime.readiness is readiness
    assert reason in runtime.reason


def test_a_gpu_that_the_kernel_does_not_compute_on_is_not_rocms(tmp_path: Path) -> None:
    root = trees.radeon_24(tmp_path)
    trees.kfd(root, (110000, 128), (0, 0))
    assert runtimes.of(survey.read(root))[Device.ROCM].gpus == (0,)


def test_a_node_that_may_not_be_opened_is_a_matter_of_groups(tmp_path: Path) -> None:
    found = survey.read(trees.strix_halo(tmp_path))
    closed = replace(found, nodes=tuple(replace(n, usable="card" in n.path, group=104) for n in found.nodes))
    denied = {device: runtime.readiness for device, runtime in runtimes.of(closed).items() if not runtime.ready}
    assert denied == dict.fromkeys((Device.VULKAN, Device.ROCM, Device.NPU), Readiness.DENIED) | {
        Device.CUDA: Readiness.ABSENT
    }
    assert told(closed)["device-groups"].lines == ("sudo usermod -aG video,render $USER",)


def test_nvidia_is_used_through_a_specification(tmp_path: Path) -> None:
    root = trees.nvidia(tmp_path)
    before = survey.read(root)
    assert runtimes.of(before)[Device.CUDA].readiness is Readiness.UNPREPARED
    assert told(before)["nvidia-cdi"].lines == ("sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml",)
    trees.write(root, {"etc/cdi/nvidia.yaml": "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices: []"})
    after = survey.read(root)
    assert runtimes.of(after)[Device.CUDA].ready
    assert "nvidia-cdi" not in told(after)


def test_a_strix_halo_lends_what_its_kernel_is_told_to(tmp_path: Path) -> None:
    root = trees.strix_halo(tmp_path)
    assert "gtt" not in told(survey.read(root))  # 110 of 125 GiB
    trees.write(root, {"sys/bus/pci/devices/0000:c5:00.0/mem_info_gtt_total": 62 * GIB})
    gtt = told(survey.read(root))["gtt"]
    pages = (125 * GIB - 8 * GIB) // 4096
    assert gtt.lines == (
        f"echo 'options ttm pages_limit={pages} page_pool_size={pages}' | sudo tee /etc/modprobe.d/hal0-gtt.conf",
        "sudo update-initramfs -u",
    )
    assert "62 of 125 GiB" in gtt.message
    assert "117" in gtt.message


def test_a_processor_s_small_gpu_beside_a_card_is_lent_nothing_more(tmp_path: Path) -> None:
    found = survey.read(trees.radeon_24(tmp_path))
    assert [gpu.apu for gpu in found.machine.gpus] == [False, True]
    assert told(found) == {}


def test_memory_that_the_firmware_keeps_for_the_gpu_alone_is_said(tmp_path: Path) -> None:
    root = trees.strix_halo(tmp_path)
    trees.write(root, {"sys/bus/pci/devices/0000:c5:00.0/mem_info_vram_total": 64 * GIB})
    assert "64 GiB aside" in told(survey.read(root))["carve-out"].message


def test_an_lxc_container_is_told_the_lines_for_its_host(tmp_path: Path) -> None:
    found = told(survey.read(trees.lxc_limited(tmp_path)), Podman(starts=False))
    assert found["lxc-devices"].lines == (
        "dev0: /dev/dri/renderD128,gid=992,mode=0660",
        "dev1: /dev/kfd,gid=992,mode=0660",
        "dev2: /dev/accel/accel0,gid=992,mode=0660",
    )
    assert "/etc/pve/lxc/CTID.conf" in found["lxc-devices"].where
    assert found["lxc-nesting"].lines == ("features: nesting=1,keyctl=1",)
    assert found["lxc-memory"].lines == ("pct set CTID --memory 32768",)
    assert "16 GiB of RAM" in found["lxc-memory"].message
    assert "gtt" not in found  # the container's memory is not the machine's


@pytest.mark.parametrize("rootless", [True, False])
def test_storage_that_copies_whole_images_is_explained(tmp_path: Path, *, rootless: bool) -> None:
    found = told(survey.read(trees.cpu_only_vm(tmp_path)), Podman(rootless=rootless, storage="vfs"))
    conf = "tee $HOME/.config" if rootless else "sudo tee /etc"
    assert f"{conf}/containers/storage.conf" in found["vfs"].lines[1]
    assert found["vfs"].risk
    assert ("rootless" in found) is rootless


def test_podman_without_root_needs_subordinate_ids(tmp_path: Path) -> None:
    trees.write(tmp_path, {"etc/passwd": "ann:x:1000:1000::/:/bin/sh", "etc/subuid": "bob:100000:65536"})
    assert groups.subordinate_ids(tmp_path, 0)
    assert not groups.subordinate_ids(tmp_path, 1000)
    trees.write(tmp_path, {"etc/subuid": "bob:100000:65536\nann:165536:65536"})
    assert groups.subordinate_ids(tmp_path, 1000)
    found = told(replace(survey.read(tmp_path), subordinate_ids=False), Podman(rootless=True))
    assert found["rootless-ids"].lines[0].startswith("sudo usermod --add-subuids")


def test_a_virtual_processor_without_avx2_is_told_of_its_host(tmp_path: Path) -> None:
    root = trees.cpu_only_vm(tmp_path)
    assert "cpu-flags" not in told(survey.read(root))
    trees.write(root, {"proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu sse2 sse4_2 hypervisor\n"})
    assert told(survey.read(root))["cpu-flags"].lines == ("qm set VMID --cpu host",)


def test_hardware_without_a_driver_is_found_and_said(tmp_path: Path) -> None:
    trees.pci(tmp_path, "0000:c6:00.1", 0x1022, 0x17F0, kind=0x118000)
    trees.pci(tmp_path, "0000:03:00.0", 0x1002, 0x744C)
    found = survey.read(tmp_path)
    assert [npu.driver for npu in found.machine.npus] == [None]
    assert {"npu-driver", "gpu-0-driver"} <= told(found).keys()
    assert runtimes.of(found)[Device.VULKAN].readiness is Readiness.UNPREPARED


@pytest.mark.parametrize(
    ("files", "platform", "within"),
    [
        ({"proc/sys/kernel/osrelease": "5.15.153.1-microsoft-standard-WSL2"}, Platform.WSL2, "hyper-v"),
        ({"proc/1/environ": "PATH=/bin\0container=lxc"}, Platform.LXC, "lxc"),
        ({"run/systemd/container": "lxc"}, Platform.LXC, "lxc"),
        ({"run/.containerenv": ""}, Platform.CONTAINER, "podman"),
        ({".dockerenv": ""}, Platform.CONTAINER, "docker"),
        ({"proc/cpuinfo": "processor\t: 0\nflags\t\t: sse2 hypervisor\n"}, Platform.VM, ""),
        ({"sys/class/dmi/id/sys_vendor": "VMware, Inc."}, Platform.VM, "vmware"),
        ({}, Platform.BARE_METAL, ""),
    ],
)
def test_places(tmp_path: Path, files: dict[str, str | int], platform: Platform, within: str) -> None:
    trees.write(tmp_path, files)
    found = survey.read(tmp_path).host
    assert (found.platform, found.within) == (platform, within)


def test_nodes_are_files_that_can_be_opened(tmp_path: Path) -> None:
    (tmp_path / "dev/dri/by-path").mkdir(parents=True)
    (tmp_path / "dev/dri/renderD128").write_text("")
    (tmp_path / "dev/dri/renderD128").chmod(0)
    (tmp_path / "dev/dri/card0").symlink_to("nowhere")
    (node,) = nodes.read(tmp_path)
    assert (node.path, node.usable) == ("/dev/dri/renderD128", os.getuid() == 0)


# -- live -----------------------------------------------------------------------------------------------------------


def test_what_a_machine_does_now(tmp_path: Path) -> None:
    root = trees.strix_halo(tmp_path)
    machine = survey.read(root).machine
    before = live.read(machine, root)
    (gpu,) = before.gpus
    assert (gpu.busy, gpu.temperature_c, gpu.power_w, gpu.clock_hz) == (0.37, 61.0, 54.2, 2_900_000_000)
    assert (before.load, before.npus_active) == ((0.5, 0.25, 0.1), (False,))
    assert live.cpu_busy(before, before) is None
    trees.write(root, {"proc/stat": "cpu  900 0 200 1100 200 0 0 0 0 0"})
    assert live.cpu_busy(before, live.read(machine, root)) == 0.75


def test_clocks_that_are_held_up_are_told(tmp_path: Path) -> None:
    root = trees.radeon_24(tmp_path)
    card, small = live.read(survey.read(root).machine, root).gpus
    assert (card.clock_pinned, card.busy, small.clock_pinned, small.busy) == (True, 1.0, False, None)


@pytest.mark.parametrize("stat", ["", "cpu", "intr 1 2 3 4 5 6", "cpu a b c d e"])
def test_ticks_that_cannot_be_read_say_nothing(stat: str) -> None:
    assert live.ticks(stat) == (0, 0)


def test_nvidias_own_program_tells_of_its_cards() -> None:
    found = nvidia.parse_cards(
        [
            "00000000:01:00.0, 24576, 23552, 35, 52, 112.50",
            "00000000:02:00.0, [N/A], [N/A], [N/A], nan, [N/A]",
            "No devices",
        ]
    )
    first, second = found["0000:01:00.0"], found["0000:02:00.0"]
    assert (first.total_bytes, first.used_bytes, first.busy, first.power_w) == (24 * GIB, GIB, 0.35, 112.5)
    assert (second.total_bytes, second.busy, second.temperature_c) == (None, None, None)
    assert len(found) == 2


# -- disks ----------------------------------------------------------------------------------------------------------


def test_room_is_told_for_what_is_not_made_yet(tmp_path: Path) -> None:
    found = disk.read(tmp_path / "models/of/tomorrow")
    assert found is not None
    assert found.path.endswith("models/of/tomorrow")
    assert 0 < found.free_bytes <= found.total_bytes


def test_the_deepest_and_last_mount_decides() -> None:
    mounts = (
        "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "2 1 0:5 / /var rw shared:1 - btrfs /dev/sdb rw\n"
        "3 2 0:6 / /var/lib/hal0/models rw - nfs4 nas:/m rw\n"
        "4 1 0:7 / /var rw - xfs /dev/sdc rw\n"
        "broken"
    )
    assert [disk.filesystem(mounts, Path(path)) for path in ("/home", "/var/x", "/var/lib/hal0/models/a")] == [
        "ext4",
        "xfs",
        "nfs4",
    ]


# -- nothing is a reason to fail --------------------------------------------------------------------------------------


@pytest.mark.parametrize("junk", [b"", b"\xff\xfe", b"nonsense 5", b"-1", b"cpu 1 2 3 4 5 6 7 8", b"x:y:99:z"])
@pytest.mark.parametrize("make", MACHINES)
def test_no_content_of_any_file_stops_the_probe(tmp_path: Path, make: Make, junk: bytes) -> None:
    root = make(tmp_path)
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.is_symlink():
            path.write_bytes(junk)
    found = survey.read(root)
    live.read(found.machine, root)
    assert runtimes.of(found)[Device.CPU].ready
    advice.advise(found, Podman(rootless=True, storage="vfs", starts=False))


def test_an_empty_root_is_surveyed(tmp_path: Path) -> None:
    found = survey.read(tmp_path)
    assert {device for device, runtime in runtimes.of(found).items() if runtime.ready} == {Device.CPU}
    assert advice.advise(found, Podman()) == ()
