"""What others see of one slot: snapshots, announcements, and the requests under way; it decides nothing."""

import asyncio
from collections.abc import Callable
from typing import Final

from hal0.lib.aio import Signal
from hal0.slots.handle import SlotSnapshot
from hal0.slots.routing import snapshot_of
from hal0.slots.serving import InFlight
from hal0.slots.shown import ModelFacts, Shown
from hal0.slots.tools import Owner

# Ready <-> serving flips with every request: within this time they are noted and announced together.
_FLIP_ANNOUNCE_S: Final = 0.05


class Face:
    """`look` gives the slot as it is now; `used` is told that requests came or went.

    `flipped` soon after that, and soon after they queue.
    """

    def __init__(
        self, look: Callable[[], Shown], owner: Owner, *, used: Callable[[], None], flipped: Callable[[], None]
    ) -> None:
        self._look = look
        self._owner = owner
        self._used = used
        self._flipped = flipped
        self._changed = Signal()
        self._snapshot: SlotSnapshot | None = None
        self._model: ModelFacts | None = None
        self._flip: asyncio.TimerHandle | None = None
        self._requeued: asyncio.TimerHandle | None = None
        self._announced: tuple[object, ...] = ()
        self._routed: tuple[object, ...] = ()
        self.in_flight = InFlight(self._count)
        self.queued = 0

    def snapshot(self, model: ModelFacts) -> SlotSnapshot:
        """The same object until something changes; what the registry knows of the model may change by itself."""
        if self._snapshot is None or self._model is not model:
            self._model = model
            self._snapshot = snapshot_of(self._look())
        return self._snapshot

    @property
    def quiet(self) -> bool:
        """No request is under way, and none stands at the gate."""
        return self.in_flight.count == 0 and self.queued == 0

    async def changed(self) -> None:
        await self._changed.wait()

    def outdated(self) -> None:
        """Something has changed; it will be announced when it is settled."""
        self._snapshot = None

    def announce(self) -> None:
        """Tell everyone what is new, if anything is."""
        it = self._look()
        seen = (it.life, it.state, it.unsaved, id(it.config), it.in_flight, it.queued, it.book)
        if seen == self._announced:
            return
        facts = it.life.facts
        routed = (it.life.desired, it.life.phase, facts.current, facts.launched, facts.fault, facts.swap, id(it.config))
        news, self._announced, self._routed = routed != self._routed, seen, routed
        self.outdated()
        self._changed.notify()
        self._owner.announce(it.name, routing=news)

    def _count(self) -> None:
        """With every request, twice: whatever can wait for the flip waits."""
        self._changed.notify()
        if self._flip is None:
            self._used()
            self._flip = asyncio.get_running_loop().call_later(_FLIP_ANNOUNCE_S, self._flip_now)

    def queue(self, count: int) -> None:
        """So many requests stand at the gate: no use of the slot, and nobody has to wake up for it at once."""
        self.queued = count
        if self._requeued is None:
            self._requeued = asyncio.get_running_loop().call_later(_FLIP_ANNOUNCE_S, self._queue_now)

    def _queue_now(self) -> None:
        self._requeued = None
        self.announce()
        self._flipped()

    def _flip_now(self) -> None:
        self._flip = None
        self._used()
        self.announce()
        self._flipped()

    def close(self) -> None:
        for timer in (self._flip, self._requeued):
            if timer is not None:
                timer.cancel()
        self._flip = self._requeued = None
