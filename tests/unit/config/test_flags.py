"""Flags under one name each, however they are spelled."""

import pytest

from hal0.config.flags import adds_up, flags
from hal0.vocab import ProviderName


def named(text: str, provider: ProviderName = ProviderName.LLAMACPP) -> list[tuple[str, ...]]:
    return [(flag.name, *flag.words) for flag in flags(provider, text.split())]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-c 4096", [("ctx-size", "-c", "4096")]),
        ("--ctx_size 4096", [("ctx-size", "--ctx_size", "4096")]),
        ("--ctx-size=4096", [("ctx-size", "--ctx-size", "4096")]),
        ("-fa on -ctk q8_0", [("flash-attn", "-fa", "on"), ("cache-type-k", "-ctk", "q8_0")]),
        ("--no-mmap --mmap", [("mmap", "--no-mmap"), ("mmap", "--mmap")]),
        ("-nkvo", [("kv-offload", "-nkvo")]),
        ("--seed -1 --temp -0.5", [("seed", "--seed", "-1"), ("temperature", "--temp", "-0.5")]),
        (
            "--control-vector-layer-range 1 2",
            [("control-vector-layer-range", "--control-vector-layer-range", "1", "2")],
        ),
        ("--nobody-knows-this x", [("nobody-knows-this", "--nobody-knows-this", "x")]),
        ("serve tag --host h", [("serve", "serve", "tag"), ("host", "--host", "h")]),
        ("", []),
    ],
)
def test_one_name_for_every_spelling(text: str, expected: list[tuple[str, ...]]) -> None:
    assert named(text) == expected


def test_short_words_of_another_engine_are_its_own() -> None:
    assert named("-c 4096", ProviderName.FLM) == [("c", "-c", "4096")]


def test_adapters_add_up_and_sizes_do_not() -> None:
    lora, size = flags(ProviderName.LLAMACPP, ("--lora", "/models/a.gguf", "-c", "1"))
    assert adds_up(lora)
    assert not adds_up(size)
