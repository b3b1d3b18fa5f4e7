"""What a new configuration asks for, key by key: nothing now, a live change, a slot's reload, hal0's restart."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from hal0.config.base import ConfigModel
from hal0.config.root import RootConfig
from hal0.config.slots import SlotConfig
from hal0.vocab import Device, ProviderName, SlotName


class Effect(StrEnum):
    NOTHING = "nothing"  # counts from the next start or load on
    LIVE = "live"  # applied at once, no stream is touched
    RELOAD = "reload"  # the slot's container is replaced
    RESTART = "restart"  # only a restart of hal0 can apply it


@dataclass(frozen=True, slots=True)
class Change:
    """One changed key (dotted). `slot` is set where the change belongs to one; None values: the table was not there."""

    key: str
    effect: Effect
    old: Any
    new: Any
    slot: SlotName | None = None


# What a running container was started with. Everything else in a slot is hal0's own behaviour.
RELOADS: Final = frozenset(
    {
        *("provider", "upstream", "device", "gpu_index", "image", "port", "context_size", "parallel"),
        *("memory_limit", "extra_args", "env"),
    }
)
# The model in the file is the seed of the first load; `autoload` counts when hal0 starts.
LATER: Final = frozenset({"model", "autoload"})
# Sockets are opened once.
RESTARTS: Final = frozenset({"server.host", "server.port", "engine.socket", "engine.start_service"})

_LLAMACPP_KEYS: Final = frozenset({Device.VULKAN, Device.ROCM, Device.CUDA, Device.CPU})


def diff(old: RootConfig, new: RootConfig) -> list[Change]:
    """Every difference and what it takes, sections in the file's order. Pure.

    Slots are compared with their profiles applied, so that a changed profile shows as the changes of its slots.
    A RELOAD of a slot that is not loaded costs nothing; one whose container would come out the same may be left out.
    """
    changes = list(_slots(old, new))
    for section in RootConfig.model_fields:
        before, after = getattr(old, section), getattr(new, section)
        if section in {"profiles", "upstreams"}:
            changes += _tables(section, before, after)
        elif section == "images":
            changes += _images(before, after, new)
        elif section != "slots":
            changes += _fields(section, before, after)
    return changes


def _slots(old: RootConfig, new: RootConfig) -> Iterator[Change]:
    for name in dict.fromkeys([*old.slots, *new.slots]):
        slot, key = SlotName(name), f"slots.{name}"
        if name not in old.slots or name not in new.slots:
            yield Change(key, Effect.LIVE, old.slots.get(name), new.slots.get(name), slot)
            continue
        before, after = old.effective(name), new.effective(name)
        for field in SlotConfig.model_fields:
            a, b = getattr(before, field), getattr(after, field)
            if a != b:
                yield Change(f"{key}.{field}", _slot_effect(field), a, b, slot)


def _slot_effect(field: str) -> Effect:
    if field in RELOADS:
        return Effect.RELOAD
    return Effect.NOTHING if field in LATER else Effect.LIVE


def _tables(section: str, before: dict[str, Any], after: dict[str, Any]) -> Iterator[Change]:
    for name in dict.fromkeys([*before, *after]):
        if before.get(name) != after.get(name):
            yield Change(f"{section}.{name}", Effect.LIVE, before.get(name), after.get(name))


def _fields(section: str, before: ConfigModel, after: ConfigModel) -> Iterator[Change]:
    for field in type(after).model_fields:
        a, b, key = getattr(before, field), getattr(after, field), f"{section}.{field}"
        if a != b:
            yield Change(key, Effect.RESTART if key in RESTARTS else Effect.LIVE, a, b)


def _images(before: ConfigModel, after: ConfigModel, new: RootConfig) -> Iterator[Change]:
    for change in _fields("images", before, after):
        key = change.key.removeprefix("images.")
        users = [SlotName(name) for name in new.slots if _may_use(new.effective(name), key)]
        if not users:
            yield Change(change.key, Effect.NOTHING, change.old, change.new)
        for slot in users:
            yield Change(change.key, Effect.RELOAD, change.old, change.new, slot)


def _may_use(slot: SlotConfig, image_key: str) -> bool:
    """Whether the slot's image can be the one of this key; `auto` can be any of llama.cpp's."""
    if slot.image is not None:
        return False
    if slot.provider is ProviderName.LLAMACPP:
        return image_key in _LLAMACPP_KEYS and slot.device in {Device.AUTO, image_key}
    return slot.provider.value == image_key
