"""One slot makes way for another: the order that dispatch gives when two do not fit into memory together."""

import asyncio
from collections.abc import Iterable

from hal0.slots import verbs
from hal0.slots.claims import may_leave
from hal0.slots.happenings import Life, RoomMade, Wished
from hal0.slots.slot import Slot
from hal0.slots.verbs import Asked
from hal0.vocab import By
from hal0.wire.jobs import JobKind


async def make_way(slot: Slot, by: By) -> None:
    """Have it unloaded for another slot; nothing happens when it serves, is pinned, or is not ready anyway."""

    def leave(life: Life, now: float) -> Wished | None:
        if not may_leave(slot.shown()):  # looked at in its turn: nobody comes in between this and the wish
            return None
        return verbs.wish(Asked(JobKind.UNLOAD, None, by), life, now)[0]

    await slot.wish(leave)


async def switch(load: Slot, leavers: Iterable[Slot]) -> None:
    """Returns when everything is wished for: no leaver takes requests any more but those that stay."""
    await asyncio.gather(*(make_way(slot, By.EVICTED) for slot in leavers))
    load.post(RoomMade())
    await load.wish(verbs.requested)
