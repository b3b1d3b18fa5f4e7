"""Estimates: the sum, its terms, and history that corrects it."""

from dataclasses import replace
from pathlib import Path

import pytest

from hal0.hardware.pools import RAM, PoolKey, PoolKind
from hal0.models.entry import KvShape, ModelEntry
from hal0.slots.need import Term, Used, Weights, cache_scale, estimate, peak, weights_of
from hal0.vocab import Capability, ModelId

GTT = PoolKey(PoolKind.GTT, 0)
MIB, GIB = 2**20, 2**30
QWEN = Weights(size_bytes=2_500_000_000, cache_bytes_per_token=147_456)  # Qwen3-4B: 36 blocks x 8 heads x 256 x 2 bytes


def test_the_terms_add_up_to_the_need() -> None:
    need = estimate(QWEN, pool=GTT, context=32768)
    terms = {term.name: term.bytes for term in need.terms}
    assert terms["weights"] == 2_550_000_000
    assert terms["context of 32768 tokens"] == 147_456 * 32768
    assert terms["buffers"] == 384 * MIB + 512 * 32768 * 6
    assert (terms["engine"], terms["earlier prompts"]) == (128 * MIB, GIB)
    assert sum(terms.values()) == need.total_bytes
    assert need.bytes == need.predicted_bytes
    assert need.host_bytes == 128 * MIB + GIB


def test_in_ram_everything_is_one_sum() -> None:
    apart, together = estimate(QWEN, pool=GTT, context=8192), estimate(QWEN, pool=RAM, context=8192)
    assert (together.host_bytes, together.bytes) == (0, apart.total_bytes)


def test_a_tiny_model_needs_little() -> None:
    need = estimate(Weights(size_bytes=2_000_000, cache_bytes_per_token=512), pool=RAM, context=4096)
    assert need.bytes < 200 * MIB


def test_an_encoder_takes_its_whole_context_as_one_batch_and_keeps_no_prompts() -> None:
    need = estimate(Weights(size_bytes=600 * MIB, cache_bytes_per_token=None, encoder=True), pool=RAM, context=8192)
    terms = {term.name: term.bytes for term in need.terms}
    assert terms["buffers"] == 384 * MIB + 8192 * 8192 * 6
    assert "earlier prompts" not in terms
    assert not any("context" in name for name in terms)


def used(spec: str, actual: int, at: float, host: int = 7) -> Used:
    return Used(spec=spec, predicted_bytes=1, actual_bytes=actual, host_bytes=host, at=at)


def test_the_most_that_a_load_of_the_same_spec_took_is_believed() -> None:
    history = [used("same", 5, at=1), used("same", 4, at=2), used("other", 9, at=3)]
    need = estimate(QWEN, pool=GTT, context=8192, spec="same", history=history)
    assert (need.bytes, need.host_bytes, need.total_bytes) == (5, 7, 12)
    assert [(term.name, term.bytes) for term in need.terms] == [("the most that it used so far", 12)]
    assert need.predicted_bytes == estimate(QWEN, pool=GTT, context=8192).bytes


def test_the_most_of_one_load_is_kept_in_each_place() -> None:
    def look(actual: int, host: int, **places: int) -> Used:
        return replace(used("same", actual, at=1, host=host), places=tuple(Term(*place) for place in places.items()))

    now, later = look(5, 2, GTT=4, VRAM=1), look(3, 7, RAM=7, VRAM=2)
    assert peak(now, later) == look(5, 7, GTT=4, RAM=7, VRAM=2)
    assert peak(peak(now, later), now) == peak(now, later)


@pytest.mark.parametrize("history", [(), (used("other", 5, at=1),), (used("same", 0, at=1),)])
def test_without_such_a_load_the_figures_stand(history: tuple[Used, ...]) -> None:
    assert estimate(QWEN, pool=RAM, context=512, spec="same", history=history) == estimate(QWEN, pool=RAM, context=512)


@pytest.mark.parametrize(
    ("flags", "scale"),
    [
        ([], 1.0),
        (["--cache-type-k", "q8_0", "--cache-type-v", "q8_0"], 17 / 32),
        (["-ctk", "q8_0"], (1 + 17 / 32) / 2),
        (["--cache-type-k=f32", "--cache-type-v=q4_0"], (4 + 18 / 32) / 4),
        (["-ctk", "q4_0", "-ctk", "f16"], 1.0),  # the last one wins
        (["-ctk", "bf16", "-ctk"], 1.0),
    ],
)
def test_the_cache_shrinks_with_its_type(flags: list[str], scale: float) -> None:
    assert cache_scale(flags) == pytest.approx(scale)


@pytest.mark.parametrize(
    ("capability", "encoder"), [(Capability.CHAT, False), (Capability.EMBED, True), (Capability.RERANK, True)]
)
def test_a_registry_entry_says_all_that_an_estimate_needs(capability: Capability, encoder: bool) -> None:
    entry = ModelEntry(
        id=ModelId("m"),
        files=(Path("m.gguf"),),
        size_bytes=100,
        created=0,
        architecture="llama",
        context_length=4096,
        capabilities=frozenset({capability}),
        quantisation=None,
        kv=KvShape((1,), 2, 2),
        mmproj_bytes=30,
    )
    expected = Weights(size_bytes=130, cache_bytes_per_token=8, encoder=encoder)
    assert weights_of(entry) == expected
