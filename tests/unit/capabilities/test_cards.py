"""The cards: what each row may run on, on which machine, and when there is an NPU card at all."""

from dataclasses import replace
from pathlib import Path

import pytest

from hal0.capabilities.cards import CARDS, CHILDREN, Shelf, choices, find, npu_shown
from hal0.engine.base import ImageInfo
from hal0.engine.images import Choice, ImageState, Source
from hal0.engine.manifest import images_root, read_manifest
from hal0.errors import Hal0Error
from hal0.hardware import survey
from hal0.providers.catalog import PROVIDERS
from hal0.vocab import Capability, Device
from tests.unit.hardware import trees
from tests.unit.hardware.trees import Make

MANIFEST = read_manifest(images_root())
HERE = Choice(Source.LOCAL, ImageInfo("a" * 64, (), (), 1))


def shelf(root: Path, *here: str) -> Shelf:
    """The real providers and manifest; images named in `here` are on this machine, the others can be built."""
    images = {key: ImageState(entry, HERE if key in here else Choice(Source.BUILD)) for key, entry in MANIFEST.items()}
    return Shelf(PROVIDERS, images, survey.read(root))


def test_the_cards_are_those_that_were_promised() -> None:
    assert {card: [(child.name, child.slot) for child in children] for card, children in CARDS.items()} == {
        "embed": [("embed", "embed"), ("rerank", "embed-rerank")],
        "voice": [("stt", "stt"), ("tts", "tts")],
        "img": [("img", "img")],
        "npu": [("chat", "npu"), ("embed", "npu"), ("asr", "npu")],
    }
    rerank = find("embed", "rerank")
    assert rerank.model == "bge-reranker-v2-m3-q4_k_m"
    assert rerank.table["extra_args"] == ["--reranking"]
    with pytest.raises(Hal0Error, match="embed/rerank") as caught:
        find("embed", "rank")
    assert caught.value.code == "capability.not_found"


@pytest.mark.parametrize(
    ("make", "row", "ready"),
    [
        (trees.strix_halo, "embed/embed", {"vulkan", "rocm", "cpu"}),
        (trees.strix_halo, "embed/rerank", {"vulkan", "rocm", "cpu"}),
        (trees.strix_halo, "npu/chat", {"npu"}),
        (trees.radeon_24, "embed/embed", {"vulkan", "rocm", "cpu"}),
        (trees.intel_igpu, "embed/embed", {"vulkan", "cpu"}),
        (trees.cpu_only_vm, "embed/embed", {"cpu"}),
        (trees.lxc_limited, "embed/embed", {"cpu"}),
        (trees.lxc_limited, "npu/chat", set()),
    ],
)
def test_what_a_row_can_run_on(tmp_path: Path, make: Make, row: str, ready: set[str]) -> None:
    found = choices(find(*row.split("/")), shelf(make(tmp_path), "flm"))
    assert {choice.device.value for choice in found if choice.fault is None} == ready


@pytest.mark.parametrize("child", CHILDREN, ids=lambda child: child.id)
def test_nothing_is_offered_that_the_image_does_not_declare(tmp_path: Path, child: object) -> None:
    """Whatever the machine has: the devices are the manifest's."""
    there = shelf(trees.strix_halo(tmp_path), *MANIFEST)
    for one in CHILDREN:
        for choice in choices(one, there):
            assert choice.device in MANIFEST[choice.image].devices
            assert (choice.device is Device.NPU) is one.npu


def test_moonshine_is_offered_on_processors_alone(tmp_path: Path) -> None:
    found = choices(find("voice", "stt"), shelf(trees.strix_halo(tmp_path), *MANIFEST))
    assert [(choice.provider.value, choice.device.value) for choice in found] == [("moonshine", "cpu")]


def test_what_a_machine_lacks_is_offered_with_the_reason(tmp_path: Path) -> None:
    found = {choice.device: choice for choice in choices(find("embed", "embed"), shelf(trees.nvidia(tmp_path)))}
    assert found[Device.CPU].fault is None
    fault = found[Device.CUDA].fault
    assert fault is not None
    assert (fault.code, "CDI" in fault.message) == ("device.missing", True)


def test_an_image_that_cannot_be_had_is_said(tmp_path: Path) -> None:
    there = shelf(trees.radeon_24(tmp_path))
    nowhere = {key: replace(state, choice=Choice(Source.NONE)) for key, state in there.images.items()}
    found = choices(find("embed", "embed"), replace(there, images=nowhere))
    assert {choice.fault.code for choice in found if choice.fault and choice.device is Device.CPU} == {"image.missing"}


@pytest.mark.parametrize(
    ("make", "here", "code"),
    [
        (trees.strix_halo, ("flm",), None),
        (trees.strix_halo, (), "image.missing"),
        (trees.radeon_24, ("flm",), "device.missing"),
        (trees.lxc_limited, ("flm",), "device.missing"),
        (trees.cpu_only_vm, (), "device.missing"),
    ],
)
def test_the_npu_card_needs_hardware_and_image(
    tmp_path: Path, make: Make, here: tuple[str, ...], code: str | None
) -> None:
    fault = npu_shown(shelf(make(tmp_path), *here))
    assert (fault.code if fault else None) == code


def test_every_row_has_a_provider_that_can_do_it() -> None:
    for child in CHILDREN:
        assert any(child.capability in provider.capabilities for provider in PROVIDERS.values())
    assert {child.capability for child in CHILDREN} >= {Capability.EMBED, Capability.RERANK, Capability.STT}
