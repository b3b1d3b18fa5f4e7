"""The routing table: slots, models and upstreams as they are now, indexed the way `resolve` asks."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final, Protocol

from hal0.slots.handle import Slots, SlotSnapshot
from hal0.upstreams.listing import Listed
from hal0.upstreams.snapshot import Hop, KnownUpstreams, UpstreamSnapshot
from hal0.vocab import Capability, ModelId, Phase, SlotName, Want

PRIMARY: Final = SlotName("primary")
# Words people use for the chat slot, until a slot has them as its name or alias.
_CHAT_WORDS: Final = ("chat", "agent")


class Entry(Protocol):
    """A model on disk, as far as dispatch needs it."""

    @property
    def id(self) -> str: ...

    @property
    def created(self) -> int: ...

    @property
    def context_length(self) -> int | None: ...

    @property
    def capabilities(self) -> frozenset[Capability]: ...

    @property
    def demo(self) -> bool: ...


class Binding(Protocol):
    """Who answers for a model id, by the operator's word: a slot, or an upstream under its own name for the model."""

    @property
    def slot(self) -> str | None: ...

    @property
    def upstream(self) -> str | None: ...

    @property
    def model(self) -> str | None:
        """Its name at the upstream; None: the id."""
        ...


class Registry(Protocol):
    """The models on disk. `fold` turns a spelling such as `name:QUANT`, or an alias, into the id it means."""

    @property
    def version(self) -> int: ...

    def entries(self) -> Sequence[Entry]: ...

    def bindings(self) -> Mapping[ModelId, Binding]: ...

    def fold(self, name: str) -> str: ...


@dataclass(frozen=True, slots=True)
class Table:
    """`addresses`: word -> slot. `loaded`, `bound`: model id -> the slots that have it up, or would load it.

    `bindings`: model id -> who is to answer for it. `entries`: model id -> what is on disk. `listed`: model id -> the
    upstreams that list it, and its name there. `tags`: a name that only a slot's provider knows -> the slot.
    `cold`: the upstreams whose lists nobody knows yet. `fronts`: the slots that stand for a model of an upstream.
    """

    slots: Mapping[SlotName, SlotSnapshot]
    addresses: Mapping[str, SlotName]
    loaded: Mapping[str, tuple[SlotName, ...]]
    bound: Mapping[str, tuple[SlotName, ...]]
    bindings: Mapping[str, Binding]
    entries: Mapping[str, Entry]
    tags: Mapping[str, SlotName]
    upstreams: Mapping[str, UpstreamSnapshot]
    listed: Mapping[str, tuple[Hop, ...]]
    cold: tuple[str, ...]
    fronts: Mapping[SlotName, Hop]

    def cold_for(self, model: str) -> tuple[str, ...]:
        """Those of the cold upstreams that may list this model."""
        return tuple(name for name in self.cold if self.upstreams[name].may_list(model))


def is_loaded(slot: SlotSnapshot) -> bool:
    """Up, or on its way up by somebody's wish."""
    return slot.routable or (slot.want is Want.LOADED and slot.phase not in (Phase.OFFLINE, Phase.ERROR))


def build(
    slots: Iterable[SlotSnapshot],
    entries: Iterable[Entry] = (),
    upstreams: Collection[UpstreamSnapshot] = (),
    fronts: Mapping[str, Hop] = MappingProxyType({}),
    bindings: Mapping[str, Binding] = MappingProxyType({}),
) -> Table:
    """The table for these slots, these models on disk, these upstreams, the slots that stand for them, and bindings."""
    by_name = {slot.name: slot for slot in slots}
    known = {upstream.name: upstream for upstream in upstreams}
    standing = {name: _standing(fronts[name], known) for name in by_name if name in fronts}
    return Table(
        slots=by_name,
        addresses=_addresses(by_name.values()),
        loaded=_by_model((slot for slot in by_name.values() if is_loaded(slot)), standing),
        bound=_by_model(by_name.values(), standing),
        bindings=bindings,
        entries={entry.id: entry for entry in entries},
        tags={tag: slot.name for slot in by_name.values() for tag in slot.provider.tags},
        upstreams=known,
        listed=_listed(tuple(upstreams)),
        cold=tuple(upstream.name for upstream in upstreams if upstream.models is None),
        fronts=standing,
    )


def _addresses(slots: Collection[SlotSnapshot]) -> dict[str, SlotName]:
    addresses = {alias: slot.name for slot in slots for alias in slot.aliases}
    for slot in slots:  # a name beats an alias
        addresses[slot.name] = slot.name
        addresses[f"hal0/{slot.name}"] = slot.name
    if addresses.get(PRIMARY) == PRIMARY:
        for word in _CHAT_WORDS:
            addresses.setdefault(word, PRIMARY)
    return addresses


def _by_model(slots: Iterable[SlotSnapshot], fronts: Mapping[SlotName, Hop]) -> dict[str, tuple[SlotName, ...]]:
    found: dict[str, list[SlotName]] = {}
    for slot in slots:
        if slot.name in fronts:  # it has no container; its model is found in its upstream's list
            continue
        for model in dict.fromkeys(serves.model for serves in slot.serves):
            found.setdefault(model, []).append(slot.name)
    return {model: tuple(names) for model, names in found.items()}


@lru_cache(maxsize=1)
def _listed(upstreams: tuple[UpstreamSnapshot, ...]) -> Mapping[str, tuple[Hop, ...]]:
    """Slots change far more often than the thousands of models that upstreams may list."""
    found: dict[str, list[Hop]] = {}
    for upstream in upstreams:
        for model in upstream.models or ():
            found.setdefault(model.id, []).append(upstream.hop(model))
    return MappingProxyType({model: tuple(hops) for model, hops in found.items()})


def bound_hop(upstream: UpstreamSnapshot, model: str) -> Hop:
    """The way to a model by its name there; what the upstream says of it counts, if it says anything."""
    theirs = _theirs(upstream, model)
    known = (listed for listed in upstream.models or () if listed.theirs == theirs)
    return upstream.hop(next(known, Listed(theirs, theirs)))


def _standing(hop: Hop, upstreams: Mapping[str, UpstreamSnapshot]) -> Hop:
    upstream = upstreams.get(hop.upstream)
    return hop if upstream is None else hop._replace(model=_theirs(upstream, hop.model))


def _theirs(upstream: UpstreamSnapshot, model: str) -> str:
    """A model's name there. People also write the one that is listed here, which begins with the upstream's prefix."""
    models = upstream.models or ()
    if not upstream.prefix or not model.startswith(upstream.prefix) or any(it.theirs == model for it in models):
        return model
    return next((it.theirs for it in models if it.id == model), model)


class TableSource:
    """Builds the table anew only when slots, registry or upstreams say that something changed."""

    def __init__(self, slots: Slots, registry: Registry, upstreams: KnownUpstreams) -> None:
        self._slots = slots
        self._registry = registry
        self._upstreams = upstreams
        self._versions: tuple[int, int, int] | None = None
        self._table = build(())

    def current(self) -> Table:
        versions = (self._slots.version, self._registry.version, self._upstreams.version)
        if versions != self._versions:
            snapshots = [handle.snapshot() for handle in self._slots.all()]
            self._table = build(
                snapshots,
                self._registry.entries(),
                self._upstreams.snapshots(),
                self._upstreams.fronts(),
                {str(model): binding for model, binding in self._registry.bindings().items()},
            )
            self._versions = versions
        return self._table


Busy = Callable[[SlotName], int]
"""In-flight requests of a slot at this moment; the only fact of a decision that changes faster than the table."""
