"""The requests that wait for one slot: each caller's in order of arrival, the callers by turns."""

import asyncio
import bisect
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from hal0.dispatch.admission import Waiter, has_seen_load
from hal0.errors import Hal0Error
from hal0.slots.handle import SlotHandle, SlotSnapshot


@dataclass(slots=True, eq=False)
class Place:
    """One request at the gate. `key`: whose it is (None is a caller like any other); times are the clock's.

    `share` is the line's; `refusal` is why it need not wait any longer, `turn_s` how long it has waited for a turn.
    """

    waiter: Waiter
    key: str | None = None
    share: int = 0
    refusal: Hal0Error | None = None
    turn_s: float = 0.0
    _turn_from: float | None = None
    _for_room: bool = False
    _alarm: asyncio.Timeout | None = None

    def look(self, slot: SlotSnapshot, line: "Line", turn_in_s: float | None, now: float) -> None:
        """What it sees of its slot now; the hold begins anew when a wait for room becomes one for a load."""
        for_room = slot.routable and turn_in_s is None
        ahead = line.ahead(self)
        self.waiter = replace(
            self.waiter,
            ahead=ahead,
            behind=len(line) - ahead - 1,
            joined=not slot.routable and (self.waiter.joined or has_seen_load(slot)),
            turn_in_s=turn_in_s,
            held_from=now if self._for_room and not for_room else self.waiter.held_from,
        )
        self._for_room = for_room
        if turn_in_s is None:
            self.turn_over(now)
        elif self._turn_from is None:
            self._turn_from = now

    def turn_over(self, now: float) -> None:
        """It waits for no turn, or not any longer."""
        if self._turn_from is not None:
            self.turn_s += now - self._turn_from
            self._turn_from = None

    async def sleep(self, handle: SlotHandle, seconds: float | None) -> None:
        """Until the slot changes, the time is over, or somebody wakes it."""
        try:
            async with asyncio.timeout(seconds) as self._alarm:
                await handle.changed()
        except TimeoutError:
            return
        finally:
            self._alarm = None

    def wake(self) -> None:
        """Let it look again now."""
        if self._alarm is not None:
            self._alarm.reschedule(asyncio.get_running_loop().time())


class Line:
    """Everybody goes by the number of their own requests before them: nobody is behind all of somebody else's.

    The count of a newcomer starts where the line is: who was away has saved nothing up.
    """

    def __init__(self) -> None:
        self._places: list[Place] = []
        self._served = 0  # the share of the last one who went in

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Place]:
        return iter(self._places)

    def join(self, place: Place) -> None:
        own = next((other.share for other in reversed(self._places) if other.key == place.key), None)
        place.share = self._served if own is None else own + 1
        bisect.insort_right(self._places, place, key=lambda other: other.share)

    def leave(self, place: Place, *, served: bool) -> None:
        with suppress(ValueError):  # it was dismissed
            self._places.remove(place)
        if served:
            self._served = max(self._served, place.share)

    def ahead(self, place: Place) -> int:
        """How many go in before it."""
        return self._places.index(place)

    def gives_way(self, newcomer: Place) -> Place | None:
        """Who leaves a full line for the newcomer: the last of the caller with the most places, if its own are fewer.

        So nobody can keep others out by filling the line, and all of it is of use to somebody who is alone.
        """
        counts = Counter(place.key for place in self._places)
        last = max(self._places, key=lambda place: (counts[place.key], place.share))
        return last if counts[last.key] > counts[newcomer.key] else None

    def dismiss(self, place: Place, refusal: Hal0Error) -> None:
        """It waits no longer, and is told when it wakes up."""
        self._places.remove(place)
        place.refusal = refusal
        place.wake()

    def oldest(self) -> float:
        """When the longest waiting came."""
        return min(place.waiter.arrived for place in self._places)
