"""Machines read from their files: what is there, and that nothing that is missing or strange matters."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hal0.hardware import cards, cgroup, cpu, npu
from hal0.hardware.cards import Vendor
from hal0.hardware.cgroup import CgroupLimit
from hal0.hardware.memory import Memory
from hal0.hardware.snapshot import Machine, read
from tests.unit.hardware import trees
from tests.unit.hardware.trees import GIB, MIB


def test_a_strix_halo(tmp_path: Path) -> None:
    machine = read(trees.strix_halo(tmp_path))
    (gpu,) = machine.gpus
    assert (gpu.vendor, gpu.driver, gpu.pci_id, gpu.address) == (Vendor.AMD, "amdgpu", "1002:1586", "0000:c5:00.0")
    assert (gpu.apu, gpu.render_node) == (True, "/dev/dri/renderD128")
    assert (gpu.vram_total, gpu.vram_used) == (512 * MIB, 300 * MIB)
    assert (gpu.visible_vram_total, gpu.visible_vram_used) == (512 * MIB, 300 * MIB)
    assert (gpu.gtt_total, gpu.gtt_used) == (110 * GIB, 6 * GIB)
    (found,) = machine.npus
    assert (found.xdna, found.node, found.firmware) == (True, "/dev/accel/accel0", "1.1.2.65")
    assert (machine.cpu.cores, machine.cpu.threads) == (16, 32)
    assert {"avx2", "avx512f"} <= machine.cpu.flags
    assert machine.cgroups == ()


@pytest.mark.parametrize("revision", [3, 2, None])
def test_an_apu_is_told_by_its_metrics_or_else_by_its_number(tmp_path: Path, revision: int | None) -> None:
    (gpu,) = cards.read(trees.strix_halo(tmp_path, revision=revision))
    assert gpu.apu


def test_a_card_beside_the_small_gpu_of_the_processor(tmp_path: Path) -> None:
    card, small = cards.read(trees.radeon_24(tmp_path))
    assert (card.index, card.apu, card.vram_total) == (0, False, 24 * GIB)
    assert (small.index, small.apu, small.render_node) == (1, True, "/dev/dri/renderD129")


def test_nvidia_has_a_name_and_no_figures(tmp_path: Path) -> None:
    (gpu,) = cards.read(trees.nvidia(tmp_path))
    assert (gpu.name, gpu.driver, gpu.pci_id) == ("NVIDIA GeForce RTX 3090", "nvidia", "10de:2204")
    assert gpu.vram_total is None


def test_intel_inside_and_on_cards(tmp_path: Path) -> None:
    (inside,) = cards.read(trees.intel_igpu(tmp_path / "inside"))
    assert (inside.apu, inside.driver, inside.vram_total) == (True, "i915", None)
    xe, i915 = cards.read(trees.intel_cards(tmp_path / "cards"))
    assert (xe.apu, xe.vram_total, xe.vram_used) == (False, 12 * GIB, None)
    assert (i915.apu, i915.vram_total, i915.vram_used) == (False, 16 * GIB, GIB)


def test_a_virtual_display_is_no_gpu(tmp_path: Path) -> None:
    machine = read(trees.cpu_only_vm(tmp_path))
    assert (machine.gpus, machine.npus, machine.cgroups) == ((), (), ())
    assert (machine.cpu.cores, machine.cpu.threads, machine.cpu.model) == (1, 2, "AMD EPYC-Milan Processor")


def test_limits_count_without_what_the_kernel_would_drop(tmp_path: Path) -> None:
    assert cgroup.read(trees.lxc_limited(tmp_path)) == (CgroupLimit("/", 16 * GIB, 4 * GIB),)


def test_a_limit_above_counts_too_the_own_first(tmp_path: Path) -> None:
    limits: dict[str, tuple[int | str, int, int]] = {"/a/b": (4 * GIB, GIB, 0), "/a": (8 * GIB, 3 * GIB, 0)}
    trees.cgroup_v2(tmp_path, "/a/b", limits)
    assert [(limit.path, limit.free_bytes) for limit in cgroup.read(tmp_path)] == [("/a/b", 3 * GIB), ("/a", 5 * GIB)]


def test_version_1_of_cgroups_whose_path_is_the_hosts(tmp_path: Path) -> None:
    trees.write(
        tmp_path,
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/docker/f00\n4:memory:/docker/f00\n0::/docker/f00",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": 2 * GIB,
            "sys/fs/cgroup/memory/memory.usage_in_bytes": GIB,
            "sys/fs/cgroup/memory/memory.stat": f"cache 9\ntotal_inactive_file {256 * MIB}",
        },
    )
    (tmp_path / "sys/fs/cgroup/unified").mkdir()
    assert cgroup.read(tmp_path) == (CgroupLimit("/", 2 * GIB, 768 * MIB),)


def test_version_1_says_unlimited_with_a_number(tmp_path: Path) -> None:
    trees.write(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": 9223372036854771712,
            "sys/fs/cgroup/memory/memory.usage_in_bytes": GIB,
        },
    )
    assert cgroup.read(tmp_path) == ()


def test_a_path_outside_of_what_is_visible_is_the_root(tmp_path: Path) -> None:
    trees.cgroup_v2(tmp_path, "/../../elsewhere", {"/": (GIB, 0, 0)})
    assert cgroup.read(tmp_path) == (CgroupLimit("/", GIB, 0),)


def test_flags_are_those_that_every_processor_has() -> None:
    both = cpu.parse("processor: 0\nflags: avx avx2\n\nprocessor: 1\nflags: avx\n")
    assert (both.flags, both.cores) == (frozenset({"avx"}), 2)


def test_an_empty_root_is_an_empty_machine(tmp_path: Path) -> None:
    assert read(tmp_path) == Machine(cpu=cpu.Cpu(), memory=Memory(0, 0))


@pytest.mark.parametrize("junk", [b"", b"\xff\xfe", b"nonsense", b"-1", b"0x"])
@pytest.mark.parametrize("make", [trees.strix_halo, trees.nvidia, trees.intel_cards, trees.lxc_limited])
def test_no_content_of_any_file_is_a_reason_to_fail(tmp_path: Path, make: Callable[[Path], Path], junk: bytes) -> None:
    root = make(tmp_path)
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.is_symlink():
            path.write_bytes(junk)
    machine = read(root)
    assert machine.gpus == ()


def test_an_accelerator_whose_driver_made_no_node_is_still_seen(tmp_path: Path) -> None:
    root = trees.strix_halo(tmp_path)
    (root / "dev/accel/accel0").unlink()
    (found,) = npu.read(root)
    assert (found.node, found.driver, found.pci_id) == (None, "amdxdna", "1022:17f0")


def test_this_machine_can_be_read() -> None:
    machine = read()
    assert machine.cpu.threads > 0
    assert machine.memory.total_bytes > 0
