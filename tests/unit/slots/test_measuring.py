"""What the steward is told of memory: from real trees, from NVIDIA's program, and while one of them hangs."""

import asyncio
from pathlib import Path

import pytest

from hal0.hardware.pools import pools
from hal0.hardware.snapshot import Machine
from hal0.lib.clock import SystemClock
from hal0.slots import measuring
from hal0.slots.measuring import Measuring
from tests.fakes.hanging_file import HangingFile
from tests.unit.hardware import trees
from tests.unit.hardware.trees import GIB
from tests.vloop import until

LINE = "00000000:01:00.0, 24576, 23552, 35, 52, 112.50"


def figures(machine: Machine) -> dict[str, tuple[int | None, int | None]]:
    return {str(pool.key): (pool.total_bytes, pool.free_bytes) for pool in pools(machine)}


def program(folder: Path, lines: str, *, then: str = "true") -> tuple[str, ...]:
    """Notes that it was asked, prints `lines`, and ends by `then`."""
    return ("sh", "-c", f"echo asked >> {folder}/asked; echo '{lines}'; {then}")


def times_asked(folder: Path) -> int:
    asked = folder / "asked"
    return len(asked.read_text().splitlines()) if asked.exists() else 0


async def then_hangs(root: Path, file: str) -> tuple[Measuring, Machine, HangingFile]:
    """What was measured below `root` before whoever reads `file` waits: it was given up once."""
    measure = Measuring(SystemClock(), root=root)
    before = await measure(anew=True)
    driver = HangingFile(root / "sys/bus/pci/devices" / file)
    with pytest.MonkeyPatch.context() as impatient:
        impatient.setattr(measuring, "_READ_S", 0.05)
        await measure(anew=True)
    await driver.is_being_read()
    return measure, before, driver


async def answers(driver: HangingFile, measure: Measuring, size: int) -> None:
    driver.answer(f"{size}\n")
    await until(lambda: not measure._devices.hangs, within_s=10)


async def test_a_driver_that_hangs_keeps_nobody_waiting_and_what_is_known_stays(tmp_path: Path) -> None:
    root = trees.strix_halo(tmp_path)
    measure, before, driver = await then_hangs(root, "0000:c5:00.0/mem_info_gtt_used")
    assert figures(before)["GTT of GPU 0"] == (110 * GIB, 100 * GIB)
    trees.meminfo(root, total=125 * GIB, available=40 * GIB)
    async with asyncio.timeout(10):
        late = [figures(await measure(anew=True)) for _ in range(50)][-1]
    assert late["RAM"] == (125 * GIB, 40 * GIB), "what the kernel itself tells goes on being measured"
    assert late["GTT of GPU 0"] == (110 * GIB, 40 * GIB), "there is as much as before; what is free, RAM says"
    await answers(driver, measure, 6 * GIB)
    assert figures(await measure(anew=True))["GTT of GPU 0"] == (110 * GIB, 40 * GIB)


async def test_a_card_whose_driver_hangs_is_there_and_says_nothing_of_what_is_free(tmp_path: Path) -> None:
    measure, before, driver = await then_hangs(trees.radeon_24(tmp_path), "0000:03:00.0/mem_info_vram_used")
    assert figures(before)["VRAM of GPU 0"] == (24 * GIB, 22 * GIB)
    assert figures(await measure(anew=True))["VRAM of GPU 0"] == (24 * GIB, None)
    await answers(driver, measure, 4 * GIB)
    assert figures(await measure(anew=True))["VRAM of GPU 0"] == (24 * GIB, 20 * GIB)


async def test_nvidias_card_is_in_the_ledger(tmp_path: Path) -> None:
    measure = Measuring(SystemClock(), root=trees.nvidia(tmp_path), ask=program(tmp_path, LINE))
    assert figures(await measure(anew=True))["VRAM of GPU 0"] == (24 * GIB, 23 * GIB)


async def test_nvidias_program_is_asked_seldom_and_only_where_its_card_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "_ANEW_S", 60)  # however slow this machine is
    other = Measuring(SystemClock(), root=trees.radeon_24(tmp_path / "radeon"), ask=program(tmp_path, LINE))
    for _ in range(3):
        await other(anew=True)
    assert times_asked(tmp_path) == 0
    measure = Measuring(SystemClock(), root=trees.nvidia(tmp_path / "nvidia"), ask=program(tmp_path, LINE))
    await measure(anew=False)  # by the way: nobody waits for it
    for _ in range(20):
        await measure(anew=True)
        await measure(anew=False)
    assert times_asked(tmp_path) == 1


@pytest.mark.parametrize("ask", [("sleep", "60"), ("false",), ("no-such-program-here",)])
async def test_a_program_that_fails_or_hangs_tells_nothing_and_is_left_alone_for_a_while(
    tmp_path: Path, ask: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "_ASK_S", 0.05)
    measure = Measuring(SystemClock(), root=trees.nvidia(tmp_path), ask=ask)
    async with asyncio.timeout(5):
        for _ in range(20):
            assert figures(await measure(anew=True))["VRAM of GPU 0"] == (None, None)


async def test_what_there_is_stays_known_when_the_program_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "_ANEW_S", 0.0)
    once = ("sh", "-c", f"test -e {tmp_path}/asked && exit 9; touch {tmp_path}/asked; echo '{LINE}'")
    measure = Measuring(SystemClock(), root=trees.nvidia(tmp_path), ask=once)
    assert figures(await measure(anew=True))["VRAM of GPU 0"] == (24 * GIB, 23 * GIB)
    assert figures(await measure(anew=True))["VRAM of GPU 0"] == (24 * GIB, None)


async def test_it_ends_while_a_question_is_under_way(tmp_path: Path) -> None:
    measure = Measuring(SystemClock(), root=trees.nvidia(tmp_path), ask=("sleep", "60"))
    await measure(anew=False)
    async with asyncio.timeout(5):
        await measure.aclose()
