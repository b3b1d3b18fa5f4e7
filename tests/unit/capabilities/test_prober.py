"""The prober: never raises, never waits for long, and says what has changed of a machine and what only moves."""

import asyncio
import threading
from pathlib import Path

import pytest

from hal0.capabilities import prober as looking
from hal0.capabilities.picture import changes, picture
from hal0.capabilities.prober import Prober
from hal0.hardware import survey
from hal0.hardware.advice import Podman
from hal0.hardware.survey import Survey
from hal0.lib.clock import SystemClock
from tests.unit.hardware import trees
from tests.unit.hardware.trees import GIB, Make


def prober(root: Path, *ask: str) -> Prober:
    kept = {"models": root / "var/lib/hal0/models"}
    return Prober(lambda: kept, Podman, SystemClock(), root=root, ask=ask or ("false",))


@pytest.mark.parametrize(
    ("make", "label", "pools"),
    [
        (trees.strix_halo, "Strix Halo", ["GTT of GPU 0", "RAM"]),
        (trees.radeon_24, "AMD 1002:744c", ["VRAM of GPU 0", "GTT of GPU 1", "RAM"]),
        (trees.nvidia, "NVIDIA GeForce RTX 3090", ["VRAM of GPU 0", "RAM"]),
        (trees.intel_igpu, "Intel 8086:46a6", ["GTT of GPU 0", "RAM"]),
        (trees.cpu_only_vm, "CPU only, virtual machine (kvm)", ["RAM"]),
        (trees.lxc_limited, "Strix Halo, LXC container", ["GTT of GPU 0", "RAM"]),
    ],
)
async def test_each_machine_has_a_name_and_its_pools(tmp_path: Path, make: Make, label: str, pools: list[str]) -> None:
    view = picture(await prober(make(tmp_path)).look(), None)
    assert view.host.label == label
    assert [pool.name for pool in view.pools] == pools
    assert [disk.holds for disk in view.disks] == ["models"]
    assert not view.late


async def test_on_a_strix_halo_the_pool_is_what_the_gpu_may_borrow(tmp_path: Path) -> None:
    gtt, ram = picture(await prober(trees.strix_halo(tmp_path)).look(), 64 * GIB).pools
    assert (gtt.total_bytes, gtt.unified, gtt.limit_bytes) == (110 * GIB, True, None)
    assert (ram.total_bytes, ram.limit_bytes) == (125 * GIB, 64 * GIB)


async def test_nvidias_program_fills_in_what_the_kernel_does_not_tell(tmp_path: Path) -> None:
    root = trees.nvidia(tmp_path)
    (unknown,) = picture(await prober(root).look(), None).gpus
    assert unknown.vram_total_bytes is None
    line = "00000000:01:00.0, 24576, 23552, 35, 52, 112.50"
    (gpu,) = picture(await prober(root, "echo", line).look(), None).gpus
    assert (gpu.vram_total_bytes, gpu.vram_used_bytes) == (24 * GIB, GIB)
    assert (gpu.busy, gpu.temperature_c, gpu.power_w) == (0.35, 52, 112.5)
    (none,) = picture(await prober(root, "/no/such/program").look(), None).gpus
    assert none.vram_total_bytes is None


async def test_a_driver_that_hangs_costs_one_thread_and_the_last_look_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = prober(trees.strix_halo(tmp_path))
    first = await one.look()
    reads: list[Path] = []

    answers = threading.Event()

    def hangs(root: Path) -> Survey:
        reads.append(root)
        answers.wait(5)
        return survey.read(root)

    monkeypatch.setattr(looking, "survey", type("Hanging", (), {"read": staticmethod(hangs)}))
    monkeypatch.setattr(looking, "_READ_S", 0.05)
    for _ in range(3):
        late = await one.look()
        assert (late.late, late.survey) == (True, first.survey)
    together = await asyncio.gather(*(one.look() for _ in range(20)))
    assert all(look is together[0] for look in together)  # nobody waits behind another
    assert len(reads) == 1
    answers.set()
    monkeypatch.undo()  # from now on a look waits for as long as it may
    assert not (await one.look()).late


async def test_how_busy_is_said_from_the_second_look_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "_BUSY_OVER_S", 0.0)
    root = trees.strix_halo(tmp_path)
    one = prober(root)
    assert (await one.look()).cpu_busy is None
    trees.write(root, {"proc/stat": "cpu  900 0 200 1100 200 0 0 0 0 0"})
    assert (await one.look()).cpu_busy == 0.75


async def test_what_moves_is_no_change_and_what_changes_is_named(tmp_path: Path) -> None:
    root = trees.strix_halo(tmp_path)
    one = prober(root)
    before = picture(await one.look(), None)
    gpu = "sys/bus/pci/devices/0000:c5:00.0"
    trees.write(root, {f"{gpu}/gpu_busy_percent": 99, f"{gpu}/mem_info_gtt_used": 50 * GIB, "proc/loadavg": "9 9 9"})
    assert changes(before, picture(await one.look(), None)) == []
    (root / "dev/kfd").unlink()
    trees.write(root, {f"{gpu}/mem_info_gtt_total": 62 * GIB})
    found = {it.key: (it.old, it.new) for it in changes(before, picture(await one.look(), None))}
    assert found["runtimes.rocm.readiness"] == ("ready", "unprepared")
    assert found["pools.GTT of GPU 0.total_bytes"] == (110 * GIB, 62 * GIB)
    assert found["advice.gtt.name"] == (None, "gtt")
