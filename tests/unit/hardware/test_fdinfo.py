"""What processes hold of GPUs, from fdinfo as real drivers write it, and to which pools that belongs."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from hal0.hardware import fdinfo, processes
from hal0.hardware.footprint import Footprint, GpuBytes
from hal0.hardware.pools import RAM, PoolKey, PoolKind, places
from hal0.hardware.snapshot import read
from tests.unit.hardware import trees
from tests.unit.hardware.trees import GIB, MIB, drm_file, process

HALO, CARD, IRIS, BATTLEMAGE = "0000:c5:00.0", "0000:03:00.0", "0000:00:02.0", "0000:03:00.0"
VRAM0, GTT0 = PoolKey(PoolKind.VRAM, 0), PoolKey(PoolKind.GTT, 0)

# amdgpu since Linux 6.13 says everything twice, in the old words and in the new ones; before that in the old ones only.
AMD_NEW: Final = {
    "total_cpu": "0", "resident_cpu": "0", "total_gtt": "41000000 KiB", "shared_gtt": "64 KiB",
    "resident_gtt": "40960000 KiB", "purgeable_gtt": "0", "resident_vram": "131072 KiB", "memory_vram": "131072 KiB",
    "memory_gtt": "40960000 KiB", "memory_cpu": "0 KiB",
}  # fmt: skip
AMD_OLD: Final = {"memory_vram": "20971520 KiB", "memory_gtt": "262144 KiB", "memory_cpu": "1024 KiB"}
I915: Final = {"total_system0": "6144 MiB", "resident_system0": "5 MiB", "resident_stolen_system0": "0"}
XE: Final = {
    "total_system": "0", "resident_system": "0", "resident_gtt": "192 MiB",
    "resident_vram0": "9 MiB", "resident_vram1": "1048576", "resident_stolen": "0",
}  # fmt: skip
FILES: Final = {
    "Strix Halo": (drm_file("amdgpu", HALO, 61, **AMD_NEW), GpuBytes(HALO, 128 * MIB, 40000 * MIB)),
    "Radeon, older kernel": (drm_file("amdgpu", CARD, 5, **AMD_OLD), GpuBytes(CARD, 20 * GIB, 257 * MIB)),
    "Iris Xe": (drm_file("i915", IRIS, 7, **I915), GpuBytes(IRIS, 0, 5 * MIB)),
    "Battlemage, by tile, in bytes": (drm_file("xe", BATTLEMAGE, 9, **XE), GpuBytes(BATTLEMAGE, 10 * MIB, 192 * MIB)),
    "Arc": (drm_file("i915", CARD, 7, resident_local0="3 MiB"), GpuBytes(CARD, 3 * MIB, 0)),
    "NVIDIA's says nothing of memory": (drm_file("nvidia-drm", "0000:01:00.0", 3), None),
    "a pipe": ("pos:\t0\nflags:\t00", None),
    "a unit nobody knows": (drm_file("amdgpu", CARD, 5, memory_vram="3 pages"), None),
    "no number of the opening": ("drm-driver:\tamdgpu\ndrm-pdev:\t0000:03:00.0\ndrm-memory-vram:\t9 KiB", None),
    "nothing": ("", None),
}


@pytest.mark.parametrize(("text", "expected"), FILES.values(), ids=FILES)
def test_one_file(text: str, expected: GpuBytes | None) -> None:
    client = fdinfo.parse(text)
    assert (None if client is None else client.held) == expected


def opened(client: int, mib: int) -> str:
    return drm_file("amdgpu", CARD, client, memory_vram=f"{mib * 1024} KiB", memory_gtt="1024 KiB")


def test_an_opening_counts_once_however_many_share_it(tmp_path: Path) -> None:
    process(tmp_path, 7)
    process(tmp_path, 8, opened(1, 100), opened(1, 100), opened(2, 10))
    process(tmp_path, 9, opened(1, 100))  # forked from it
    process(tmp_path, 10, opened(3, 1000))  # somebody else's
    assert fdinfo.held((7, 8, 9), tmp_path) == (GpuBytes(CARD, 110 * MIB, 2 * MIB),)


def test_each_gpu_for_itself(tmp_path: Path) -> None:
    process(tmp_path, 7, opened(1, 100), drm_file("amdgpu", HALO, 1, memory_gtt="1 MiB"))
    assert fdinfo.held((7,), tmp_path) == (GpuBytes(CARD, 100 * MIB, MIB), GpuBytes(HALO, 0, MIB))


def test_who_has_ended_holds_nothing(tmp_path: Path) -> None:
    directory = process(tmp_path, 7, opened(1, 100), resident=MIB)
    (directory / "fdinfo/9").symlink_to("gone")  # closed between the listing and the look
    assert fdinfo.held((7, 8), tmp_path) == (GpuBytes(CARD, 100 * MIB, MIB),)
    assert processes.resident_bytes((7, 8), tmp_path) == MIB


@pytest.mark.parametrize("denied", ["fdinfo", "fdinfo/1"])
def test_half_a_sum_is_no_figure(tmp_path: Path, denied: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For root nothing is denied: the refusal is the kernel's word, put into the reader's mouth."""
    process(tmp_path, 7, opened(1, 100))
    place = process(tmp_path, 8, opened(2, 10)) / denied
    for verb in ("iterdir", "read_text"):
        monkeypatch.setattr(Path, verb, refusing(place, getattr(Path, verb)))
    assert fdinfo.held((7,), tmp_path) == (GpuBytes(CARD, 100 * MIB, MIB),)
    assert fdinfo.held((7, 8), tmp_path) == ()


def refusing(place: Path, really: Callable[..., object]) -> Callable[..., object]:
    def asked(path: Path, **options: str) -> object:
        if path == place:
            raise PermissionError(path)
        return really(path, **options)

    return asked


def test_an_apus_two_kinds_and_a_cards_loan(tmp_path: Path) -> None:
    halo, desktop = read(trees.strix_halo(tmp_path / "halo")), read(trees.radeon_24(tmp_path / "desktop"))
    on_halo = Footprint(3, (GpuBytes(HALO, 1, 40),))
    assert places(on_halo, halo) == {VRAM0: 1, GTT0: 40, RAM: 3}
    assert places(Footprint(3, (GpuBytes(CARD, 20, 5),)), desktop) == {VRAM0: 20, RAM: 8}
    assert places(on_halo, desktop) == {RAM: 3}, "a GPU that this machine has not"
