"""Which model of the catalog a machine should have: by task, memory and GPU; and all slots together."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hal0.capabilities.loadout import Room, loadout, room_of
from hal0.capabilities.offers import fitted, least, recommend
from hal0.hardware import survey
from hal0.hardware.pools import pools
from hal0.models import catalog
from hal0.slots.ledger import offered
from hal0.vocab import Capability
from tests.unit.hardware import trees

GB = 10**9
CHAT, EMBED, RERANK = Capability.CHAT, Capability.EMBED, Capability.RERANK


@pytest.mark.parametrize(
    ("task", "gigabytes", "on_gpu", "model", "context"),
    [
        (CHAT, 1, True, None, None),
        (CHAT, 2.5, False, "qwen3-0.6b-q8_0", 4096),  # the shortest context before none at all
        (CHAT, 5, True, "qwen3-1.7b-q8_0", 8192),
        (CHAT, 6, True, "qwen3-4b-instruct-2507-q4_k_m", 8192),  # a better model before a longer context
        (CHAT, 8, True, "qwen3-8b-q4_k_m", 8192),
        (CHAT, 12, True, "qwen3-8b-q4_k_m", None),
        (CHAT, 12, False, "qwen3-4b-instruct-2507-q4_k_m", None),  # all of an 8B works on every word
        (CHAT, 16, True, "gpt-oss-20b-mxfp4", None),
        (CHAT, 24, False, "qwen3-30b-a3b-instruct-2507-q4_k_m", None),
        (CHAT, 60, True, "qwen3-30b-a3b-instruct-2507-q4_k_m", None),
        (CHAT, 70, True, "gpt-oss-120b-mxfp4", None),
        (Capability.VISION, 8, False, "gemma-3-4b-it-q4_k_m", 16384),
        (Capability.VISION, 24, True, "gemma-3-12b-it-q4_k_m", None),
        (EMBED, 0.4, True, None, None),
        (EMBED, 0.6, False, "nomic-embed-text-v1.5.q8_0", None),
        (EMBED, 2, True, "qwen3-embedding-0.6b-q8_0", 4096),
        (RERANK, 1, True, None, None),
        (RERANK, 1.3, False, "bge-reranker-v2-m3-q4_k_m", 2048),
        (RERANK, 3, True, "bge-reranker-v2-m3-q4_k_m", None),
        (Capability.STT, 0.5, False, "moonshine-tiny-float", None),
        (Capability.TTS, 1, False, "kokoro-v1.0", None),
        (Capability.IMAGE, 3, False, "v1-5-pruned-emaonly-fp16", None),
        (Capability.IMAGE, 20, False, "v1-5-pruned-emaonly-fp16", None),
        (Capability.IMAGE, 20, True, "flux1-schnell-fp8", None),
    ],
)
def test_the_best_model_that_fits(
    task: Capability, gigabytes: float, on_gpu: bool, model: str | None, context: int | None
) -> None:
    offer = recommend(task, int(gigabytes * GB), on_gpu)
    assert (offer and offer.id, offer and offer.context_size) == (model, context)
    assert offer is None or offer.size_bytes < offer.memory_bytes <= gigabytes * GB


@pytest.mark.parametrize("entry", catalog.entries(), ids=lambda entry: entry.id)
def test_more_memory_never_makes_less_of_a_model(entry: catalog.CatalogEntry) -> None:
    small = least(entry)
    assert fitted(entry, small.memory_bytes - 1) is None
    contexts = [fitted(entry, size) for size in range(small.memory_bytes, small.memory_bytes + 20 * GB, GB)]
    assert all(offer is not None for offer in contexts)
    assert [offer.context for offer in contexts if offer] == sorted(offer.context for offer in contexts if offer)
    assert contexts[0] is not None
    assert contexts[0].context >= small.context


def _recommended(room: Room) -> list[str | None]:
    return [offer.id if offer else None for offer in loadout(room).values()]


@pytest.mark.parametrize(
    ("gigabytes", "chat", "embed", "rerank", "image"),
    [
        (4, "qwen3-0.6b-q8_0", "nomic-embed-text-v1.5.q8_0", None, None),
        (8, "qwen3-1.7b-q8_0", "nomic-embed-text-v1.5.q8_0", None, "v1-5-pruned-emaonly-fp16"),
        (16, "qwen3-4b-instruct-2507-q4_k_m", "nomic-embed-text-v1.5.q8_0", "bge-reranker-v2-m3-q4_k_m",
         "v1-5-pruned-emaonly-fp16"),
        (32, "gpt-oss-20b-mxfp4", "qwen3-embedding-0.6b-q8_0", "bge-reranker-v2-m3-q4_k_m", "v1-5-pruned-emaonly-fp16"),
        (64, "qwen3-30b-a3b-instruct-2507-q4_k_m", "qwen3-embedding-0.6b-q8_0", "bge-reranker-v2-m3-q4_k_m",
         "v1-5-pruned-emaonly-fp16"),
        (128, "gpt-oss-120b-mxfp4", "qwen3-embedding-0.6b-q8_0", "bge-reranker-v2-m3-q4_k_m",
         "v1-5-pruned-emaonly-fp16"),
    ],
)  # fmt: skip
def test_a_set_for_a_processor_alone(
    gigabytes: int, chat: str, embed: str, rerank: str | None, image: str | None
) -> None:
    room = Room(ram_bytes=gigabytes * GB * 15 // 16)
    assert _recommended(room) == [chat, embed, rerank, "moonshine-tiny-float", "kokoro-v1.0", image]


@pytest.mark.parametrize(
    ("tree", "chat", "image"),
    [
        (trees.strix_halo, "gpt-oss-120b-mxfp4", "flux1-schnell-fp8"),
        (trees.radeon_24, "gpt-oss-20b-mxfp4", "v1-5-pruned-emaonly-fp16"),
        (trees.nvidia, "gpt-oss-20b-mxfp4", "v1-5-pruned-emaonly-fp16"),  # its memory is not told: RAM counts
        (trees.intel_igpu, "qwen3-4b-instruct-2507-q4_k_m", "v1-5-pruned-emaonly-fp16"),
        (trees.cpu_only_vm, "qwen3-1.7b-q8_0", "v1-5-pruned-emaonly-fp16"),
        (trees.lxc_limited, "qwen3-4b-instruct-2507-q4_k_m", "v1-5-pruned-emaonly-fp16"),  # was not given its GPU
    ],
)
def test_a_set_for_a_recorded_machine(tmp_path: Path, tree: Callable[[Path], object], chat: str, image: str) -> None:
    tree(tmp_path)
    found = survey.read(tmp_path)
    chosen = loadout(room_of(offered(pools(found.machine), None), found))
    assert list(chosen) == ["primary", "embed", "embed-rerank", "stt", "tts", "img"]
    primary, img = chosen["primary"], chosen["img"]  # type: ignore[index]
    assert primary is not None
    assert img is not None
    assert (primary.id, img.id) == (chat, image)


def test_what_nobody_can_measure_is_recommended_nothing() -> None:
    assert set(_recommended(Room(ram_bytes=0))) == {None}


def test_the_operators_limit_counts(tmp_path: Path) -> None:
    trees.cpu_only_vm(tmp_path)
    found = survey.read(tmp_path)
    chosen = loadout(room_of(offered(pools(found.machine), 4 * GB), found))
    assert chosen["primary"] is not None  # type: ignore[index]
    assert chosen["primary"].id == "qwen3-0.6b-q8_0"  # type: ignore[index]
