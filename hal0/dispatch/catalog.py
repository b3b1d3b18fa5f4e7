"""GET /v1/models out of the routing table: the slots by name, what they serve, what else is on disk or upstream."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from hal0.dispatch.surface import ANSWERS
from hal0.dispatch.table import Entry, Table, bound_hop, is_loaded
from hal0.slots.handle import Serves, SlotSnapshot
from hal0.upstreams.listing import Listed
from hal0.upstreams.snapshot import UpstreamSnapshot
from hal0.vocab import Capability, SlotName
from hal0.wire.openai import ModelView

OWNER: Final = "hal0"
DEMO_OWNER: Final = "hal0-demo"
# `wire.openai.ModelsView`, around its entries.
_HEAD, _TAIL = b'{"object":"list","data":[', b"]}"

_MODALITIES: Final = {
    Capability.CHAT: ("text",),
    Capability.COMPLETION: ("text",),
    Capability.EMBED: ("text",),
    Capability.RERANK: ("text",),
    Capability.VISION: ("text", "image"),
    Capability.STT: ("audio", "text"),
    Capability.TTS: ("text", "audio"),
    Capability.IMAGE: ("text", "image"),
}


def models(table: Table) -> list[ModelView]:
    """The slots that have a model, then every model that is here once: who has it up wins over who would load it."""
    views = {view.id: view for slot in table.slots.values() if (view := _named(table, slot)) is not None}
    for slot in sorted(table.slots.values(), key=lambda slot: (not slot.routable, not is_loaded(slot), slot.name)):
        for serves in slot.serves:
            views.setdefault(serves.model, _served(slot, serves, table.entries.get(serves.model)))
    for model, binding in table.bindings.items():
        own = table.slots.get(SlotName(binding.slot or ""))
        if own is not None and own.serves:
            views.setdefault(model, _served(own, own.serves[0], None, model))
    for entry in table.entries.values():
        views.setdefault(entry.id, _on_disk(entry))
    return list(views.values())


def find(table: Table, name: str) -> ModelView | None:
    """The slot of this name or alias, or the model of this id."""
    by_id = {view.id: view for view in models(table)}
    view = by_id.get(table.addresses.get(name, name))
    if view is None:
        view = next((view for view in _bound_elsewhere(table) if view.id == name), None)
    if view is not None or name not in table.listed:
        return view
    upstream = table.upstreams[max(table.listed[name], key=lambda hop: hop.priority).upstream]
    return next(_elsewhere(upstream, model) for model in upstream.models or () if model.id == name)


class ModelList:
    """The list as bytes. Upstreams may list thousands, and clients ask all the time: each upstream's part is rendered
    once while it says the same, the whole once per table."""

    def __init__(self) -> None:
        self._of: Table | None = None
        self._whole: dict[bool, bytes] = {}
        self._parts: dict[str, tuple[UpstreamSnapshot, Mapping[str, bytes]]] = {}

    def json_bytes(self, table: Table, *, here: bool) -> bytes:
        """What is here, then what upstreams list besides, by priority.

        `here` leaves the upstreams out: two hal0 that list each other's models must not list their own again.
        """
        if table is not self._of:
            self._of = table
            self._whole.clear()
        if here not in self._whole:
            found = {view.id: view.json_bytes() for view in models(table) if not here or view.upstream is None}
            if not here:
                found = {view.id: view.json_bytes() for view in _bound_elsewhere(table)} | found
            for upstream in () if here else sorted(table.upstreams.values(), key=lambda it: (-it.priority, it.name)):
                found = found | {name: text for name, text in self._part(upstream).items() if name not in found}
            self._whole[here] = _HEAD + b",".join(found.values()) + _TAIL
        return self._whole[here]

    def _part(self, upstream: UpstreamSnapshot) -> Mapping[str, bytes]:
        rendered = self._parts.get(upstream.name)
        if rendered is None or rendered[0] is not upstream:
            part = {model.id: _elsewhere(upstream, model).json_bytes() for model in upstream.models or ()}
            rendered = self._parts[upstream.name] = (upstream, part)
        return rendered[1]


def _named(table: Table, slot: SlotSnapshot) -> ModelView | None:
    """A slot under its name: it stays the same whatever model it is given. None: it has none."""
    hop = table.fronts.get(slot.name)
    if hop is not None:
        upstream = table.upstreams.get(hop.upstream)
        if upstream is None:
            return None
        models = upstream.models or ()
        known = next((it for it in models if it.theirs == hop.model), Listed(hop.model, hop.model))
        view = _elsewhere(upstream, replace(known, id=slot.name))
        return view.model_copy(update={"slot": slot.name, "model": hop.model})
    if not slot.serves:
        return None
    return _served(slot, slot.serves[0], table.entries.get(slot.serves[0].model), slot.name)


def _served(slot: SlotSnapshot, serves: Serves, entry: Entry | None, name: str | None = None) -> ModelView:
    """`name`: the slot's own, or an id that is bound to it, instead of its model's."""
    by_name = name == slot.name
    own = [entry.capability for entry in slot.serves if by_name or entry.model == serves.model]
    able = dict.fromkeys(c for capability in own for c in (capability, *_texts(capability)))
    return _view(
        name or serves.model,
        model=serves.model if by_name else None,
        created=entry.created if entry else 0,
        demo=slot.demo,
        status="loaded" if slot.routable else "loading" if is_loaded(slot) else "offline",
        slot=slot.name,
        capabilities=tuple(able),
        context=slot.context_size,
    )


def _texts(capability: Capability) -> tuple[Capability, ...]:
    """A model that chats also completes; whether it sees images only its own entry says."""
    return (Capability.COMPLETION,) if Capability.COMPLETION in ANSWERS.get(capability, ()) else ()


def _bound_elsewhere(table: Table) -> Iterator[ModelView]:
    """Ids that the operator has bound to a model of an upstream, whatever that one lists."""
    for model, binding in table.bindings.items():
        upstream = table.upstreams.get(binding.upstream or "")
        if upstream is not None:
            hop = bound_hop(upstream, binding.model or model)
            yield _elsewhere(upstream, Listed(model, hop.model, capabilities=hop.able))


def _on_disk(entry: Entry) -> ModelView:
    return _view(
        entry.id,
        created=entry.created,
        demo=entry.demo,
        status="available",
        capabilities=tuple(sorted(entry.capabilities)),
        context=entry.context_length,
    )


def _elsewhere(upstream: UpstreamSnapshot, model: Listed) -> ModelView:
    return _view(
        model.id,
        created=model.created,
        demo=False,
        status="available" if upstream.up else "offline",
        upstream=upstream.name,
        capabilities=tuple(sorted(model.capabilities)),
        context=model.context_length,
    )


def _view(
    name: str,
    *,
    model: str | None = None,
    created: int,
    demo: bool,
    status: str,
    capabilities: tuple[Capability, ...],
    context: int | None,
    slot: str | None = None,
    upstream: str | None = None,
) -> ModelView:
    return ModelView(
        id=name,
        model=model,
        created=created,
        owned_by=upstream or (DEMO_OWNER if demo else OWNER),
        status=status,
        slot=slot,
        upstream=upstream,
        capabilities=tuple(capabilities),
        modalities=tuple(dict.fromkeys(word for capability in capabilities for word in _MODALITIES[capability])),
        demo=demo,
        context_length=context,
        context_window=context,
        max_context_length=context,
        max_model_len=context,
    )
