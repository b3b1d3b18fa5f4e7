"""An engine's arguments as flags with values, each under one name however it was spelled. Pure.

The llama-server table is read off the `--help` of build 11669: short and older spellings, and their long form.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from hal0.vocab import ProviderName


@dataclass(frozen=True, slots=True)
class Flag:
    """`name` is the one spelling of all of its kind, without dashes; `words` are as they were written."""

    name: str
    words: tuple[str, ...]

    @property
    def values(self) -> tuple[str, ...]:
        return self.words[1:]


def _table(text: str) -> Mapping[str, str]:
    rows = (row.split() for row in text.strip().splitlines())
    return MappingProxyType({spelling: long.lstrip("-") for long, *spellings in rows for spelling in spellings})


_LLAMA_SERVER: Final = _table(
    """
    --ctx-size -c
    --parallel -np
    --batch-size -b
    --ubatch-size -ub
    --threads -t
    --threads-batch -tb
    --gpu-layers -ngl --n-gpu-layers
    --split-mode -sm
    --tensor-split -ts
    --main-gpu -mg
    --device -dev
    --flash-attn -fa
    --cache-type-k -ctk
    --cache-type-v -ctv
    --cache-ram -cram
    --cpu-moe -cmoe
    --n-cpu-moe -ncmoe
    --override-tensor -ot
    --kv-unified -kvu
    --kv-offload -kvo
    --no-kv-offload -nkvo
    --model -m
    --mmproj -mm
    --alias -a
    --model-draft -md --spec-draft-model
    --predict -n --n-predict
    --seed -s
    --temperature --temp
    --samplers --sampler-seq
    --keep
    --cont-batching -cb
    --no-cont-batching -nocb
    --embeddings --embedding
    --reranking --rerank
    --defrag-thold -dt
    --numa
    --verbosity -lv --log-verbosity
    --verbose -v --log-verbose
    --lookup-cache-static -lcs
    --json-schema -j
    --json-schema-file -jf
    --ui --webui
    --no-ui --no-webui
    """
)
_ALIASES: Final[Mapping[ProviderName, Mapping[str, str]]] = MappingProxyType({ProviderName.LLAMACPP: _LLAMA_SERVER})
_NONE: Final[Mapping[str, str]] = MappingProxyType({})

# Given twice these add up; of every other flag the last one counts.
_ADDING: Final = frozenset(
    {"lora", "lora-scaled", "control-vector", "control-vector-scaled", "override-kv", "override-tensor"}
)


def flags(provider: ProviderName, argv: Sequence[str]) -> Iterator[Flag]:
    """In their order. A word that belongs to no flag is one by itself, under its own text."""
    aliases, words = _ALIASES.get(provider, _NONE), list[str]()
    for word in argv:
        if _is_flag(word):
            if words:
                yield _flag(words, aliases)
            spelled, has_value, value = word.partition("=")
            words = [spelled, value] if has_value else [word]
        else:
            words.append(word)
    if words:
        yield _flag(words, aliases)


def adds_up(flag: Flag) -> bool:
    return flag.name in _ADDING


def _flag(words: Sequence[str], aliases: Mapping[str, str]) -> Flag:
    """`--no-x` is a way to say `--x`; llama-server reads `--ctx_size` as `--ctx-size`."""
    spelled = words[0].replace("_", "-") if words[0].startswith("--") else words[0]
    return Flag(aliases.get(spelled, spelled.lstrip("-")).removeprefix("no-"), tuple(words))


def _is_flag(word: str) -> bool:
    """`-1` and `-0.5` are values."""
    return len(word) > 1 and word.startswith("-") and not word[1].isdigit() and word[1] != "."
