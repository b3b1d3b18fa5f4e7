"""Ids from file names, capabilities from metadata."""

from dataclasses import replace
from pathlib import Path

import pytest

from hal0.models import gguf
from hal0.models.entry import capabilities_of, entry_of, id_of, legal_id
from hal0.models.gguf import GgufInfo, Pooling
from hal0.vocab import MODEL_ID, Capability, ModelId
from tests.tiny import gguf_models


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> GgufInfo:
    return gguf.read(gguf_models.write_chat(tmp_path_factory.mktemp("m") / "m.gguf"))


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("Qwen3-4B-Q4_K_M.gguf", "qwen3-4b-q4_k_m"),
        ("a b(c)!.gguf", "a-b-c"),
        ("Big-00001-of-00003.gguf", "big"),
        ("qwen3.5-9b.GGUF", "qwen3.5-9b"),
        ("llama-3/model.gguf", "llama-3"),
        ("llama-3/Model-00001-of-00002.gguf", "llama-3"),
        ("_x.gguf", "x"),
        ("\u6a21\u578b.gguf", None),
        ("x" * 300 + ".gguf", "x" * 128),
    ],
)
def test_id_of_a_file(path: str, model: str | None) -> None:
    assert id_of(Path("/store") / path) == model
    assert model is None or MODEL_ID.match(model)


def test_an_id_is_its_own_legal_form() -> None:
    assert legal_id("qwen3-4b-q4_k_m") == "qwen3-4b-q4_k_m"


@pytest.mark.parametrize(
    ("architecture", "pooling", "capabilities"),
    [
        ("llama", None, {"chat", "completion"}),
        ("llama", Pooling.NONE, {"chat", "completion"}),
        ("qwen3", Pooling.LAST, {"embed"}),
        ("qwen3", Pooling.RANK, {"rerank"}),
        ("bert", None, {"embed"}),
        ("nomic-bert-moe", None, {"embed"}),
        ("jina-bert-v2", None, {"embed"}),
        ("modern-bert", Pooling.CLS, {"embed"}),
        ("bert", Pooling.RANK, {"rerank"}),
        ("gemma-embedding", None, {"embed"}),
        ("clip", None, set()),
        ("flux", None, {"image"}),
    ],
)
def test_capabilities(chat: GgufInfo, architecture: str, pooling: Pooling | None, capabilities: set[str]) -> None:
    assert capabilities_of(replace(chat, architecture=architecture, pooling=pooling)) == capabilities


def test_cache_size_is_what_every_block_keeps_of_a_token(chat: GgufInfo) -> None:
    entry = entry_of(chat, ModelId("m"), created=0)

    # two blocks, two key-value heads, a key and a value of 16, two bytes each
    assert entry.cache_bytes_per_token == 2 * 2 * (16 + 16) * 2
    assert entry_of(replace(chat, kv_heads=()), ModelId("m"), created=0).cache_bytes_per_token is None


def test_a_projector_makes_it_see(chat: GgufInfo) -> None:
    entry = entry_of(chat, ModelId("m"), created=0).with_mmproj(Path("/p.gguf"), 7)

    assert (entry.mmproj, entry.mmproj_bytes) == (Path("/p.gguf"), 7)
    assert Capability.VISION in entry.capabilities
