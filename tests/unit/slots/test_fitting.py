"""Before a start: whether the image uses the device, the processor has what it needs, the device is there and open."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hal0.config.slots import SlotConfig
from hal0.engine.manifest import ImageEntry
from hal0.errors import Hal0Error
from hal0.hardware import survey
from hal0.hardware.survey import Survey
from hal0.slots.fitting import Fitting, unfit, unready
from hal0.vocab import Device, Phase
from tests.fakes.engine import FakeEngine
from tests.fakes.world import World
from tests.unit.hardware import trees
from tests.unit.hardware.trees import Make


def image(key: str, *devices: Device, flags: tuple[str, ...] = ()) -> ImageEntry:
    ref = f"r.example/{key}"
    return ImageEntry(key=key, ref=ref, digest=None, containerfile=None, target=None, devices=devices, cpu_flags=flags)


KOKORO = image("kokoro", Device.CPU)
COMFYUI = image("comfyui", Device.ROCM, Device.CUDA)


@pytest.mark.parametrize(
    ("make", "entry", "device", "said"),
    [
        (trees.strix_halo, KOKORO, Device.CPU, None),
        (trees.strix_halo, KOKORO, Device.VULKAN, "cannot run image kokoro on vulkan: it runs on cpu"),
        (trees.radeon_24, COMFYUI, Device.CPU, "cannot run image comfyui on cpu: it runs on rocm or cuda"),
        (trees.strix_halo, image("x", Device.CPU, flags=("avx2", "avx512f")), Device.CPU, None),
        (trees.cpu_only_vm, image("x", Device.CPU, flags=("avx2",)), Device.CPU, None),
        (
            trees.cpu_only_vm,
            image("x", Device.CPU, flags=("avx512f", "amx_tile")),
            Device.CPU,
            "no amx_tile and no avx512f",
        ),
    ],
)
def test_images(tmp_path: Path, make: Make, entry: ImageEntry, device: Device, said: str | None) -> None:
    fault = unfit(entry, device, survey.read(make(tmp_path)))
    assert (fault is None) is (said is None)
    if fault is not None and said is not None:
        assert fault.code == "image.unfit"
        assert said in fault.message


def test_a_processor_of_which_nothing_is_known_is_not_refused() -> None:
    nothing = survey.read(Path("/no/such/root"))
    assert unfit(image("x", Device.CPU, flags=("avx2",)), Device.CPU, nothing) is None


def _closed(found: Survey) -> Survey:
    return replace(found, nodes=tuple(replace(node, usable=False) for node in found.nodes))


def _as_it_is(found: Survey) -> Survey:
    return found


@pytest.mark.parametrize(
    ("make", "change", "device", "code"),
    [
        (trees.strix_halo, _as_it_is, Device.VULKAN, None),
        (trees.strix_halo, _as_it_is, Device.ROCM, None),
        (trees.strix_halo, _as_it_is, Device.NPU, None),
        (trees.strix_halo, _as_it_is, Device.CUDA, "device.missing"),
        (trees.strix_halo, _closed, Device.VULKAN, "device.permission"),
        (trees.strix_halo, _closed, Device.ROCM, "device.permission"),
        (trees.strix_halo, _closed, Device.NPU, "device.permission"),
        (trees.radeon_24, _as_it_is, Device.ROCM, None),
        (trees.radeon_24, _as_it_is, Device.NPU, "device.missing"),
        (trees.nvidia, _as_it_is, Device.CUDA, "device.missing"),  # podman was not told of it
        (trees.intel_igpu, _as_it_is, Device.VULKAN, None),
        (trees.intel_igpu, _as_it_is, Device.ROCM, "device.missing"),
        (trees.cpu_only_vm, _as_it_is, Device.VULKAN, "device.missing"),
        (trees.cpu_only_vm, _as_it_is, Device.CPU, None),
        (trees.lxc_limited, _as_it_is, Device.VULKAN, "device.missing"),  # it was not given the nodes
        (trees.lxc_limited, _as_it_is, Device.NPU, "device.missing"),
    ],
)
def test_devices(
    tmp_path: Path, make: Make, change: Callable[[Survey], Survey], device: Device, code: str | None
) -> None:
    fault = unready(device, change(survey.read(make(tmp_path))))
    assert (fault.code if fault else None) == code


@pytest.mark.parametrize(
    ("config", "device", "code"),
    [
        (SlotConfig(), Device.VULKAN, None),  # hal0's own choice
        (SlotConfig(device=Device.VULKAN), Device.VULKAN, "device.missing"),
        (SlotConfig(device=Device.VULKAN, env={"GGML_VK_VISIBLE_DEVICES": "0"}), Device.VULKAN, None),
        (SlotConfig(device=Device.ROCM, env={"GGML_VK_VISIBLE_DEVICES": "0"}), Device.ROCM, "image.unfit"),
        (SlotConfig(device=Device.CPU), Device.CPU, "image.unfit"),
    ],
)
async def test_who_names_the_engines_device_by_hand_is_believed(
    tmp_path: Path, config: SlotConfig, device: Device, code: str | None
) -> None:
    root = await asyncio.to_thread(trees.cpu_only_vm, tmp_path)

    fitting = Fitting({"vulkan": image("vulkan", Device.VULKAN)}, lambda: survey.read(root))
    raised = None
    try:
        await fitting.check(config, "vulkan", device)
        await fitting.check(config, "localhost/my-own:1", Device.CPU)  # of which nothing is declared
    except Hal0Error as err:
        raised = err.code
    assert raised == code


async def test_a_driver_that_hangs_keeps_no_start_waiting_and_costs_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hal0.slots.fitting._LOOK_S", 0.02)
    looks: list[None] = []
    answers = threading.Event()

    def look() -> Survey:
        looks.append(None)
        answers.wait(5)
        return survey.read(Path("/no/such/root"))

    fitting = Fitting({}, look)
    async with asyncio.timeout(5):
        for _ in range(3):
            await fitting.check(SlotConfig(device=Device.ROCM), "rocm", Device.ROCM)
    answers.set()
    assert len(looks) == 1


async def test_an_image_put_in_the_place_of_a_key_is_not_judged_by_the_manifests(tmp_path: Path) -> None:
    root = await asyncio.to_thread(trees.cpu_only_vm, tmp_path)
    manifest = {"cpu": image("cpu", Device.CPU, flags=("amx_tile",))}
    own: dict[str, str] = {}
    fitting = Fitting(manifest, lambda: survey.read(root), own.get)
    with pytest.raises(Hal0Error, match="no amx_tile"):
        await fitting.check(SlotConfig(), "cpu", Device.CPU)
    own["cpu"] = "localhost/plain:1"
    await fitting.check(SlotConfig(), "cpu", Device.CPU)


async def test_a_start_that_does_not_fit_rests_in_error_and_makes_no_container(
    tmp_path: Path, port_block: range
) -> None:
    world = World(tmp_path, port_block, FakeEngine())
    world.fits.faults["cuda"] = Hal0Error("device.missing", "cannot run on cuda: there is no NVIDIA GPU")
    async with world.hal0(primary={"model": "one", "device": "cuda"}) as hal0:
        ended = await (await hal0.supervisor.load("primary")).wait()
        assert ended.error is not None
        assert ended.error["code"] == "device.missing"
        slot = hal0.supervisor.slot("primary")
        assert slot.life.phase is Phase.ERROR
        assert slot.view().failure is not None
        assert slot.view().failure.failure_class == "permanent"  # type: ignore[union-attr]
        assert world.engine.all == []
