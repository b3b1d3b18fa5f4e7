"""Pools from recorded machines: where models go, and that no byte is counted twice."""

from dataclasses import replace
from pathlib import Path

import pytest

from hal0.hardware.pools import RAM, MemoryPool, PoolKey, PoolKind, pool_for, pools
from hal0.hardware.snapshot import read
from hal0.vocab import Device
from tests.unit.hardware import trees
from tests.unit.hardware.trees import GIB, MIB

GTT0, VRAM0, GTT1 = PoolKey(PoolKind.GTT, 0), PoolKey(PoolKind.VRAM, 0), PoolKey(PoolKind.GTT, 1)


def figures(found: tuple[MemoryPool, ...]) -> dict[PoolKey, tuple[int | None, int | None, bool]]:
    return {pool.key: (pool.total_bytes, pool.free_bytes, pool.unified) for pool in found}


def test_strix_halo_works_in_gtt_which_is_ram_and_counts_once(tmp_path: Path) -> None:
    found = pools(read(trees.strix_halo(tmp_path)))
    # 104 GiB of GTT are free, but only 100 GiB of the memory that it borrows from.
    assert figures(found) == {GTT0: (110 * GIB, 100 * GIB, True), RAM: (125 * GIB, 100 * GIB, False)}


def test_an_apu_with_most_memory_set_aside_works_in_that(tmp_path: Path) -> None:
    machine = read(trees.strix_halo(tmp_path))
    gpu = replace(machine.gpus[0], vram_total=96 * GIB, vram_used=GIB, gtt_total=16 * GIB)
    found = pools(replace(machine, gpus=(gpu,)))
    assert figures(found)[VRAM0] == (96 * GIB, 95 * GIB, False)
    assert pool_for(Device.VULKAN, None, replace(machine, gpus=(gpu,))) == VRAM0


def test_a_card_has_its_own_memory_whatever_it_might_borrow(tmp_path: Path) -> None:
    found = pools(read(trees.radeon_24(tmp_path)))
    assert figures(found) == {
        VRAM0: (24 * GIB, 22 * GIB, False),
        GTT1: (31 * GIB, 31 * GIB, True),
        RAM: (62 * GIB, 50 * GIB, False),
    }


def test_nvidia_memory_is_unknown_and_said_to_be(tmp_path: Path) -> None:
    vram, ram = pools(read(trees.nvidia(tmp_path)))
    assert (vram.total_bytes, vram.free_bytes) == (None, None)
    assert "nvidia does not tell" in vram.note
    assert ram.total_bytes == 31 * GIB


def test_an_intel_gpu_borrows_what_its_driver_lets_it(tmp_path: Path) -> None:
    gtt, _ = pools(read(trees.intel_igpu(tmp_path / "big")))
    assert (gtt.total_bytes, gtt.free_bytes, gtt.unified) == (15 * GIB * 3 // 4, 15 * GIB * 3 // 4, True)
    gtt, _ = pools(read(trees.intel_igpu(tmp_path / "small", total=4 * GIB, available=GIB)))
    assert (gtt.total_bytes, gtt.free_bytes) == (2 * GIB, GIB)


def test_without_a_gpu_there_is_ram(tmp_path: Path) -> None:
    assert figures(pools(read(trees.cpu_only_vm(tmp_path)))) == {RAM: (8 * GIB, 6 * GIB, False)}


def test_a_containers_limit_is_its_ram_and_none_of_its_gtt(tmp_path: Path) -> None:
    machine = read(trees.lxc_limited(tmp_path))
    gtt, ram = pools(machine)
    assert (ram.total_bytes, ram.free_bytes) == (16 * GIB, 12 * GIB)
    assert ram.note == "limited by cgroup /"
    assert (gtt.total_bytes, gtt.free_bytes, gtt.unified) == (110 * GIB, 104 * GIB, False)
    assert pools(machine, own_cgroup=False)[-1].free_bytes == 13 * GIB


def test_a_limit_below_a_visible_host_leaves_gtt_bounded_by_the_host(tmp_path: Path) -> None:
    trees.lxc_limited(tmp_path)
    trees.meminfo(tmp_path, total=125 * GIB, available=40 * GIB)
    gtt, ram = pools(read(tmp_path))
    assert (gtt.free_bytes, ram.total_bytes, ram.free_bytes) == (40 * GIB, 16 * GIB, 12 * GIB)


def test_a_machine_that_tells_nothing_has_a_pool_of_unknown_size(tmp_path: Path) -> None:
    assert figures(pools(read(tmp_path))) == {RAM: (None, None, False)}


@pytest.mark.parametrize(
    ("device", "index", "pool"),
    [
        (Device.CPU, None, RAM),
        (Device.NPU, None, RAM),
        (Device.VULKAN, None, VRAM0),  # a card before the processor's own
        (Device.ROCM, 1, GTT1),
        (Device.VULKAN, 7, VRAM0),  # there is no such GPU
        (Device.CUDA, None, RAM),  # nor one of this vendor
    ],
)
def test_a_slots_weights_go_where_its_device_works(
    tmp_path: Path, device: Device, index: int | None, pool: PoolKey
) -> None:
    assert pool_for(device, index, read(trees.radeon_24(tmp_path))) == pool


def test_pools_are_named_for_people() -> None:
    assert [str(key) for key in (RAM, GTT1)] == ["RAM", "GTT of GPU 1"]
    assert MIB < GIB
