"""How much memory a slot will need, and why: from the model's own figures, or from what it used last time. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, Protocol

from hal0.hardware.pools import RAM, PoolKey
from hal0.vocab import Capability

# Tensors are aligned and some are repacked: 2 % over the file's size (the promise's own figure).
_WEIGHTS: Final = 1.02
# llama.cpp computes in batches of 512 tokens: the output layer of such a batch alone is 297 MiB for a vocabulary of
# 152 000 words (512 x 152 000 x 4 bytes), the activations are the rest. A model smaller than that has smaller layers.
_BUFFERS: Final = 384 * 2**20
_BATCH: Final = 512
# The attention mask is kept once as f32 and once as f16, for each token of a batch and each of the context.
_MASK_BYTES: Final = 6
# The engine's program and libraries with a device open, without any model.
_ENGINE: Final = 128 * 2**20
# Prompts that the engine keeps in host memory for later: the provider's own limit. No more than one full context is
# expected of them until the slot's history says so.
_PROMPTS: Final = 2**30
# Bytes per element of the cache types of llama-server: blocks of 32 elements with their scales. The rest is f16.
_CACHE_TYPES: Final = {"f32": 4.0, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32, "q4_1": 20 / 32, "q4_0": 18 / 32}
_CACHE_FLAGS: Final = (
    frozenset({"-ctk", "--cache-type-k"}),
    frozenset({"-ctv", "--cache-type-v"}),
)
_F16: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What an estimate needs of a model (`models.entry.ModelEntry`). Sizes in bytes.

    `size_bytes` includes the projector that is loaded with it. `cache_bytes_per_token` is at f16 over all blocks;
    None: it has none, or nobody knows. `encoder`: it embeds or ranks, so a whole context is one batch and no prompt is
    kept.
    """

    size_bytes: int
    cache_bytes_per_token: int | None
    encoder: bool = False


NO_WEIGHTS: Final = Weights(size_bytes=0, cache_bytes_per_token=None)


class Model(Protocol):
    """What `weights_of` reads of a registry entry."""

    @property
    def size_bytes(self) -> int: ...
    @property
    def mmproj_bytes(self) -> int: ...
    @property
    def cache_bytes_per_token(self) -> int | None: ...
    @property
    def capabilities(self) -> frozenset[Capability]: ...


@dataclass(frozen=True, slots=True)
class Term:
    """One part of a sum, in words for people."""

    name: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What one load really took, as it is remembered: prediction against fact, in bytes.

    `spec` says what was loaded (`plan.spec_hash`, or any word for model, context, device and flags); `actual_bytes`
    is the peak in the pool of the weights, `host_bytes` the peak in RAM besides (0 when the pool is RAM). `places` are
    the peaks of both, and of a GPU's other kind of memory, by the pools' names.
    """

    spec: str
    predicted_bytes: int
    actual_bytes: int
    host_bytes: int
    at: float
    places: tuple[Term, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """`bytes` in `pool` and `host_bytes` in RAM besides; `terms` add up to both together.

    `predicted_bytes` is what the model's figures alone say of `bytes`: to be remembered beside the fact (`Used`).
    """

    pool: PoolKey
    bytes: int
    host_bytes: int = 0
    terms: tuple[Term, ...] = ()
    predicted_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        return self.bytes + self.host_bytes


NOTHING: Final = Need(pool=RAM, bytes=0)


def weights_of(model: Model) -> Weights:
    """From a registry entry."""
    return Weights(
        size_bytes=model.size_bytes + model.mmproj_bytes,
        cache_bytes_per_token=model.cache_bytes_per_token,
        encoder=not model.capabilities & {Capability.CHAT, Capability.COMPLETION},
    )


def estimate(
    weights: Weights,
    *,
    pool: PoolKey,
    context: int,
    extra_args: Sequence[str] = (),
    spec: str = "",
    history: Iterable[Used] = (),
) -> Need:
    """What a load will take; `context` in tokens, for all requests together.

    The number of parallel requests costs nothing by itself: they share one cache of `context` tokens (the provider
    starts the engine with a unified cache). The most that `history` knows of the same `spec` is believed before any
    figure.
    """
    cache = int((weights.cache_bytes_per_token or 0) * context * cache_scale(extra_args))
    batch = context if weights.encoder else min(_BATCH, context)
    buffers = min(_BUFFERS, weights.size_bytes) + batch * context * _MASK_BYTES
    device = (
        Term("weights", int(weights.size_bytes * _WEIGHTS)),
        Term(f"context of {context} tokens", cache),
        Term("buffers", buffers),
    )
    host = (Term("engine", _ENGINE), Term("earlier prompts", 0 if weights.encoder else min(_PROMPTS, cache)))
    predicted = _sum(device) + (_sum(host) if pool == RAM else 0)
    most = max((used for used in history if used.spec == spec and used.actual_bytes > 0), key=_most, default=None)
    if most is not None:
        return Need(
            pool=pool,
            bytes=most.actual_bytes,
            host_bytes=0 if pool == RAM else most.host_bytes,
            terms=(Term("the most that it used so far", most.actual_bytes + (0 if pool == RAM else most.host_bytes)),),
            predicted_bytes=predicted,
        )
    return Need(
        pool=pool,
        bytes=predicted,
        host_bytes=0 if pool == RAM else _sum(host),
        terms=tuple(term for term in (*device, *host) if term.bytes),
        predicted_bytes=predicted,
    )


def peak(before: Used, now: Used) -> Used:
    """The most of two looks at the same load, in each place."""
    most = {place.name: place for place in sorted((*before.places, *now.places), key=lambda place: place.bytes)}
    return replace(
        before,
        actual_bytes=max(before.actual_bytes, now.actual_bytes),
        host_bytes=max(before.host_bytes, now.host_bytes),
        places=tuple(most[name] for name in sorted(most)),
    )


def within(need: Need, limit_bytes: int) -> Need:
    """With no more RAM than the slot's container is given (`memory_limit`)."""
    in_ram = need.bytes if need.pool == RAM else need.host_bytes
    if in_ram <= limit_bytes:
        return need
    terms = (*need.terms, Term("over the slot's memory_limit", limit_bytes - in_ram))
    if need.pool == RAM:
        return replace(need, bytes=limit_bytes, terms=terms)
    return replace(need, host_bytes=limit_bytes, terms=terms)


def cache_scale(extra_args: Sequence[str]) -> float:
    """The size of the key-value cache against f16, from the engine's flags; 1 without any."""
    words = [part for word in extra_args for part in word.split("=", 1)]
    sizes = []
    for flags in _CACHE_FLAGS:
        given = [value for flag, value in pairwise(words) if flag in flags]
        sizes.append(_CACHE_TYPES.get(given[-1], _F16) if given else _F16)
    return sum(sizes) / (len(sizes) * _F16)


def _sum(terms: Iterable[Term]) -> int:
    return sum(term.bytes for term in terms)


def _most(used: Used) -> int:
    return used.actual_bytes
