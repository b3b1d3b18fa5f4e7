"""A card's row as others see it: the slot behind it, what there is to choose, and where slot and card differ. Pure."""

from collections.abc import Iterator, Sequence

from hal0.capabilities.cards import Child, Choice
from hal0.config.slots import SlotConfig
from hal0.models.entry import ModelEntry
from hal0.vocab import Device
from hal0.wire.capabilities import CandidateView, ChildView, ChoiceView, DriftView
from hal0.wire.slots import LiveView, SlotView

ABSENT = "absent"


def standing(
    child: Child,
    config: SlotConfig | None,
    slot: SlotView | None,
    offered: Sequence[Choice],
    models: Sequence[ModelEntry],
    live: LiveView | None = None,
) -> ChildView:
    """`config` and `slot` are None before the first enable of a slot that is made by it."""
    return ChildView(
        name=child.name,
        capability=child.capability,
        path=child.path,
        slot=child.slot,
        switch=not child.rides,
        enabled=config is not None and config.load_on_request and slot is not None and slot.model is not None,
        state=slot.state if slot else ABSENT,
        message=_message(child, config, slot),
        provider=config.provider if config else None,
        device=slot.device if slot else None,
        model=_model(child, slot),
        memory_bytes=slot.memory_bytes if slot else None,
        in_flight=slot.in_flight if slot else 0,
        live=live,
        port=slot.port if slot else None,
        choices=[_choice(choice) for choice in offered],
        models=[CandidateView(model=it.id, size_bytes=it.size_bytes, installed=True) for it in models],
        drift=list(_drift(config, slot)) if config and slot and not child.rides else [],
    )


def _message(child: Child, config: SlotConfig | None, slot: SlotView | None) -> str:
    if config is None or slot is None:
        return "not turned on yet"
    if not config.load_on_request and slot.state == "offline":
        return "turned off"
    served = any(it.capability is child.capability for it in slot.serves)
    return slot.message if served or not child.rides else "the engine does not offer it"


def _model(child: Child, slot: SlotView | None) -> str | None:
    """A row that rides along has a model of its own beside the slot's."""
    if slot is None:
        return None
    served = next((it.model for it in slot.serves if it.capability is child.capability), None)
    return served if child.rides else served or slot.model


def _choice(choice: Choice) -> ChoiceView:
    fault = choice.fault
    return ChoiceView(
        provider=choice.provider,
        device=choice.device,
        image=choice.image,
        ready=fault is None,
        code=fault.code if fault else None,
        reason=fault.message if fault else "",
    )


def _drift(config: SlotConfig, slot: SlotView) -> Iterator[DriftView]:
    """What the configuration says and the slot does not do; what hal0 chooses by itself cannot drift."""
    if config.model is not None and slot.model is not None and config.model != slot.model:
        yield DriftView(key="model", card=config.model, slot=slot.model)
    if config.device is not Device.AUTO and slot.device is not config.device:
        yield DriftView(key="device", card=config.device, slot=slot.device)
    if slot.stale is not None:
        yield DriftView(key="container", card="as configured now", slot=slot.stale)
