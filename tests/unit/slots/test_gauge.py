"""What a load takes of a GPU: from a /proc that the test writes to the view, the record and the next estimate."""

import asyncio
from pathlib import Path
from typing import Final

import pytest

from hal0.hardware.footprint import Footprint, GpuBytes
from hal0.slots import gauge
from hal0.slots.gauge import Gauge
from tests.fakes.engine import FakeEngine, Program
from tests.fakes.hanging_file import HangingFile
from tests.fakes.world import World
from tests.unit.hardware.trees import GIB, MIB, drm_file, nvidia, process
from tests.vloop import until, virtual_time

ON_GPU: Final = {"model": "one", "device": "vulkan"}
APU: Final = "0000:c5:00.0"


def holds(root: Path, *, gtt: int) -> None:
    """An init, and an engine that has opened the APU twice: sizes in MiB."""
    process(root, 7, resident=MIB)
    amounts = {"resident_vram": "20 MiB", "resident_gtt": f"{gtt} MiB"}
    process(root, 8, *(drm_file("amdgpu", APU, 61, **amounts) for _ in range(2)), resident=90 * MIB)


@pytest.fixture
def world(tmp_path: Path, port_block: range) -> World:
    engine = FakeEngine()
    engine.program = Program(processes=(7, 8))
    gauge = Gauge(tmp_path / "machine")
    return World(tmp_path, port_block, engine, slots={"primary": ON_GPU}, gtt_bytes=32 * GIB, gauge=gauge)


@virtual_time
async def test_what_it_really_took_is_shown_remembered_and_believed(world: World) -> None:
    holds(world.folder / "machine", gtt=300)
    async with world.hal0() as hal0:
        await hal0.load()
        await asyncio.sleep(11)
        holds(world.folder / "machine", gtt=250)  # the most of it counts
        await asyncio.sleep(20)
        shown = hal0.primary.view().memory
        assert shown is not None
        assert shown.actual_bytes == 320 * MIB
        assert {place.name: place.bytes for place in shown.places} == {
            "GTT of GPU 0": 300 * MIB,
            "VRAM of GPU 0": 20 * MIB,
            "RAM": 91 * MIB,
        }
        [holding] = hal0.tools.steward.house.holdings(await world.measure(), {})
        assert (holding.used_bytes, holding.used_host_bytes) == (250 * MIB, 91 * MIB), "now, and of its pool alone"
    async with world.hal0() as hal0:
        await hal0.done(await hal0.supervisor.restart("primary"))
        again = hal0.primary.view().memory
        assert again is not None
        assert again.need_bytes == (320 + 91) * MIB
        assert again.predicted_bytes == shown.predicted_bytes


@virtual_time
async def test_where_nothing_tells_it_stays_an_estimate(world: World) -> None:
    process(world.folder / "machine", 7, resident=MIB)
    async with world.hal0() as hal0:
        await hal0.load()
        await asyncio.sleep(30)
        shown = hal0.primary.view().memory
        assert shown is not None
        assert (shown.actual_bytes, shown.places) == (None, [])
        assert shown.need_bytes > shown.predicted_bytes > 0


@virtual_time
async def test_processes_of_a_slot_without_a_gpu_are_not_asked(world: World) -> None:
    async with world.hal0(primary={"model": "one", "device": "cpu"}) as hal0:
        await hal0.load()
        await asyncio.sleep(30)
        assert world.engine.called("processes") == []


async def test_nvidia_is_asked_where_its_driver_is(tmp_path: Path) -> None:
    process(nvidia(tmp_path), 7, resident=MIB)
    asked = Gauge(tmp_path, ("echo", "7, 00000000:01:00.0, 812"))
    assert await asked.of((7,)) == Footprint(MIB, (GpuBytes("0000:01:00.0", 812 * MIB),))
    process(tmp_path / "other", 7, resident=MIB)
    assert await Gauge(tmp_path / "other", ("echo", "7, 00000000:01:00.0, 812")).of((7,)) == Footprint(MIB, ())


@pytest.mark.parametrize("ask", [("sleep", "60"), ("false",), ("no-such-program-here",)])
async def test_a_program_that_fails_tells_nothing(
    tmp_path: Path, ask: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gauge, "_ASK_S", 0.05)
    process(nvidia(tmp_path), 7, resident=MIB)
    assert await Gauge(tmp_path, ask).of((7,)) == Footprint(MIB, ())


async def test_a_driver_that_hangs_costs_one_thread_and_is_asked_again_when_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gauge, "_READ_S", 0.05)
    process(tmp_path, 7, resident=MIB)
    driver = HangingFile(tmp_path / "proc/7/fdinfo/1")
    asked = Gauge(tmp_path)
    assert await asked.of((7,)) is None
    await driver.is_being_read()
    assert await asyncio.gather(*(asked.of((7,)) for _ in range(19))) == [None] * 19
    driver.answer("")
    await until(lambda: not asked._reading.hangs, within_s=10)
    monkeypatch.setattr(gauge, "_READ_S", 10)
    assert await asked.of((7,)) == Footprint(MIB, ())
