"""One slot makes way for another: the order that dispatch gives when two do not fit into memory together."""

import asyncio
from collections.abc import Iterable

from hal0.errors import Hal0Error
from hal0.slots import failure as failures
from hal0.slots import verbs
from hal0.slots.claims import may_leave
from hal0.slots.happenings import Life, Wished
from hal0.slots.slot import Slot
from hal0.slots.verbs import Asked
from hal0.vocab import By, Phase, Want
from hal0.wire.jobs import JobKind


async def make_way(slot: Slot, by: By) -> None:
    """Have it unloaded for another slot; nothing happens when it serves, is pinned, or is not ready anyway."""

    def leave(life: Life, now: float) -> Wished | None:
        if not may_leave(slot.shown()):  # looked at in its turn: nobody comes in between this and the wish
            return None
        return verbs.wish(Asked(JobKind.UNLOAD, None, by), life, now)[0]

    await slot.wish(leave)


async def switch(load: Slot, leavers: Iterable[Slot]) -> None:
    """Returns when `load` is ready; raises why it is not. Leavers that are pinned or answer stay."""
    await asyncio.gather(*(make_way(slot, By.EVICTED) for slot in leavers))
    await load.wish(verbs.requested)
    while not load.snapshot().routable:
        _raise_end(load)
        await load.changed()


def _raise_end(slot: Slot) -> None:
    """Raise when the load that was asked for has ended without the slot being ready."""
    it = slot.shown()
    if it.life.desired.want is Want.UNLOADED:
        raise Hal0Error("slot.load_cancelled", f"slot {slot.name}: the load was cancelled")
    facts, resting = it.life.facts, it.life.phase is Phase.ERROR and it.now < it.life.facts.retry_at
    if resting and facts.fault is not None and facts.fault.settled:
        raise failures.error_of(facts.fault, slot.name)
