"""What is wrong with slots, or might be, as rows for `hal0ctl doctor`: each with the command that helps. Pure."""

from collections.abc import Iterable, Iterator
from typing import Final

from hal0.engine.checks import Check, CheckState
from hal0.errors import TABLE
from hal0.vocab import SlotState, Want
from hal0.wire.slots import SlotView

_SHOW: Final = "hal0ctl slot show NAME"
_HERE: Final = "hal0ctl doctor"


def checks(slots: Iterable[SlotView], *, engine_up: bool) -> list[Check]:
    """What needs a look, slot by slot; one row when none does. While podman is away that is said once, elsewhere."""
    slots = list(slots)
    found = [check for slot in slots for check in _of(slot, engine_up=engine_up)]
    loaded = sum(slot.desired.want is Want.LOADED for slot in slots)
    return found or [Check("slots", CheckState.OK, f"{len(slots)} configured, {loaded} loaded, nothing is wrong")]


def _of(slot: SlotView, *, engine_up: bool) -> Iterator[Check]:
    name = f"slot {slot.name}"
    if slot.state is SlotState.ERROR and (engine_up or not _is_podmans(slot)):
        yield Check(name, CheckState.FAIL, slot.message, _cure(slot))
    if slot.unsaved:
        fix = "free space on the state directory's disk, or make it writable"
        yield Check(name, CheckState.FAIL, "its state cannot be written to disk", fix)
    if slot.stale is not None:
        yield Check(name, CheckState.WARN, slot.stale, f"hal0ctl slot restart {slot.name}")
    for note in slot.notes:
        yield Check(name, CheckState.WARN if slot.fallback is not None else CheckState.OK, note)


def _is_podmans(slot: SlotView) -> bool:
    return slot.failure is not None and slot.failure.code.startswith("engine.")


def _cure(slot: SlotView) -> str:
    """The table's hint, for this slot; one that only leads back here is none."""
    hint = TABLE[slot.failure.code].hint if slot.failure is not None and slot.failure.code in TABLE else _HERE
    return (_SHOW if hint == _HERE else hint).replace("NAME", slot.name)
