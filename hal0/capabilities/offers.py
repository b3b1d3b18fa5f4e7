"""Which model of the catalog is the best for a task in so much memory. Pure.

recommend(capability, most_bytes, on_gpu) -> Offer, None when nothing fits
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from hal0.hardware.pools import RAM
from hal0.models.catalog import CatalogEntry, entries
from hal0.slots.need import estimate, weights_of
from hal0.slots.plan import CONTEXT_CAP, CONTEXT_DEFAULT
from hal0.vocab import Capability, ProviderName

# Contexts to try, in tokens. A better model is worth a shorter one, but not one that a conversation outgrows at once.
_CONTEXTS: Final = (CONTEXT_CAP, 16_384, 8_192)
_LAST_CONTEXT: Final = 4_096
# What is embedded or ranked is a page, not a book, and encoders read all of it at once.
_PAGE_CONTEXTS: Final = (8_192, 4_096, 2_048)
_LAST_PAGE: Final = 1_024
_TALKS: Final = frozenset({Capability.CHAT, Capability.COMPLETION, Capability.VISION})


@dataclass(frozen=True, slots=True)
class Offer:
    """A model of the catalog, as it would be loaded: with so many tokens of context, in so much memory.

    `memory_bytes` is all that it takes then, the engine included. `context_size` is what its slot has to be configured
    with for that; None: it is what hal0 takes by itself.
    """

    entry: CatalogEntry
    context: int
    memory_bytes: int
    context_size: int | None

    @property
    def id(self) -> str:
        return self.entry.id

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def purpose(self) -> str:
        return self.entry.purpose

    @property
    def license(self) -> str:
        return self.entry.license

    @property
    def size_bytes(self) -> int:
        return self.entry.size_bytes


def recommend(capability: Capability, most_bytes: int, on_gpu: bool) -> Offer | None:
    """The best one that is recommended for this and takes no more than `most_bytes`.

    Without a GPU only those that are fast enough on a processor. With a context shorter than its usual one rather than
    a worse model; with a short one rather than none.
    """
    able = [it for it in entries() if it.recommended_for is capability and (on_gpu or it.on_cpu)]
    for contexts in _ladder(chats=capability in _TALKS):
        for entry in reversed(able):
            if (offer := _within(entry, contexts, most_bytes)) is not None:
                return offer
    return None


def fitted(entry: CatalogEntry, most_bytes: int) -> Offer | None:
    """The model with the longest context with which it takes no more than this; None: it does not fit."""
    ladder = _ladder(chats=bool(entry.capabilities & _TALKS))
    return next((it for contexts in ladder if (it := _within(entry, contexts, most_bytes)) is not None), None)


def least(entry: CatalogEntry) -> Offer:
    """The model with the shortest context that is worth having."""
    return offer_of(entry, _LAST_CONTEXT if entry.capabilities & _TALKS else _LAST_PAGE)


def offer_of(entry: CatalogEntry, most_context: int = CONTEXT_CAP) -> Offer:
    """The model with a context of no more tokens than this, nor than it was trained on."""
    usual = min(entry.context_length or CONTEXT_DEFAULT, CONTEXT_CAP)
    context = min(usual, most_context) if entry.provider is ProviderName.LLAMACPP else usual
    need = estimate(weights_of(entry), pool=RAM, context=context)
    return Offer(entry, context, need.total_bytes, context if context < usual else None)


def _within(entry: CatalogEntry, contexts: Iterable[int], most_bytes: int) -> Offer | None:
    offers = (offer_of(entry, context) for context in contexts)
    return next((offer for offer in offers if offer.memory_bytes <= most_bytes), None)


def _ladder(*, chats: bool) -> Iterator[tuple[int, ...]]:
    yield _CONTEXTS if chats else _PAGE_CONTEXTS
    yield (_LAST_CONTEXT if chats else _LAST_PAGE,)
