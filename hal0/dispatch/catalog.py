"""GET /v1/models out of the routing table: what the slots serve, what is on disk besides, what upstreams list."""

from typing import Final

from hal0.dispatch.surface import ANSWERS
from hal0.dispatch.table import Entry, Table, is_loaded
from hal0.slots.handle import Serves, SlotSnapshot
from hal0.upstreams.listing import Listed
from hal0.upstreams.snapshot import UpstreamSnapshot
from hal0.vocab import Capability
from hal0.wire.openai import ModelsView, ModelView

OWNER: Final = "hal0"
DEMO_OWNER: Final = "hal0-demo"

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


def models(table: Table, *, here: bool = False) -> ModelsView:
    """Every model once: a slot that has it up wins over one that would load it, and both over an upstream.

    `here` leaves the upstreams out: two hal0 that list each other's models must not list their own again.
    """
    views: dict[str, ModelView] = {}
    for slot in sorted(table.slots.values(), key=lambda slot: (not slot.routable, not is_loaded(slot), slot.name)):
        for serves in slot.serves:
            views.setdefault(serves.model, _served(slot, serves, table.entries.get(serves.model)))
    for entry in table.entries.values():
        views.setdefault(entry.id, _on_disk(entry))
    for upstream in () if here else sorted(table.upstreams.values(), key=lambda it: (-it.priority, it.name)):
        for model in upstream.models or ():
            views.setdefault(model.id, _elsewhere(upstream, model))
    return ModelsView(data=list(views.values()))


class ModelList:
    """The list as bytes, rendered once per table: upstreams may list thousands, and clients ask all the time."""

    def __init__(self) -> None:
        self._of: Table | None = None
        self._bytes: dict[bool, bytes] = {}

    def json_bytes(self, table: Table, *, here: bool) -> bytes:
        if table is not self._of:
            self._of = table
            self._bytes.clear()
        if here not in self._bytes:
            self._bytes[here] = models(table, here=here).json_bytes()
        return self._bytes[here]


def find(table: Table, name: str) -> ModelView | None:
    """The model of this id, or what the slot of this name or alias serves."""
    by_id = {view.id: view for view in models(table).data}
    slot = table.slots[table.addresses[name]] if name in table.addresses else None
    return by_id.get(slot.serves[0].model if slot and slot.serves else name)


def _served(slot: SlotSnapshot, serves: Serves, entry: Entry | None) -> ModelView:
    own = [entry.capability for entry in slot.serves if entry.model == serves.model]
    able = dict.fromkeys(c for capability in own for c in (capability, *_texts(capability)))
    return _view(
        serves.model,
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
    model: str,
    *,
    created: int,
    demo: bool,
    status: str,
    capabilities: tuple[Capability, ...],
    context: int | None,
    slot: str | None = None,
    upstream: str | None = None,
) -> ModelView:
    return ModelView(
        id=model,
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
