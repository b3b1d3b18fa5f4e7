"""All slots as the steward sees them: what they need and hold of memory, and how they are asked to leave."""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping

from hal0.config.root import RootConfig
from hal0.hardware.snapshot import Machine
from hal0.slots import claims, verbs
from hal0.slots import failure as failures
from hal0.slots.changeover import make_way
from hal0.slots.happenings import RoomMade
from hal0.slots.ledger import Holding
from hal0.slots.need import Need
from hal0.slots.shown import Shown
from hal0.slots.slot import Slot, Wish
from hal0.vocab import By, Device, SlotName

log = logging.getLogger(__name__)


class Household:
    """Implements `steward.House` and `gpus.Tenants` over the supervisor's own table of slots."""

    def __init__(
        self, slots: Mapping[SlotName, Slot], facts: claims.FactsOf, config: Callable[[], RootConfig], *, began: float
    ) -> None:
        """`began`: when this hal0 did; what was wished before that is not somebody's wish of now."""
        self._slots = slots
        self._facts = facts
        self._config = config
        self._began = began

    def memory_limit(self) -> int | None:
        return self._config().engine.memory_limit

    def need(self, slot: SlotName, machine: Machine, model: str | None = None) -> Need | None:
        found = self._slots.get(slot)
        return None if found is None else claims.wanted_of(found.shown(), self._facts, machine, model)

    def holdings(self, machine: Machine, promised: Mapping[SlotName, Need]) -> Iterable[Holding]:
        for name, slot in self._slots.items():
            if claims.rests(slot.life):
                continue
            yield from claims.holdings_of(slot.shown(), self._facts, machine, promised.get(name))

    def unasked(self, slot: SlotName) -> int | None:
        found = self._slots.get(slot)
        return None if found is None else claims.unasked(found.shown(), self._began)

    def coming(self, over: int, machine: Machine) -> Iterable[Holding]:
        for slot in self._slots.values():
            if slot.config.priority > over and claims.is_coming(slot.life):
                yield from claims.reserved(slot.shown(), self._facts, machine)

    def reserved(self, slots: Collection[SlotName], machine: Machine) -> Iterable[Holding]:
        for name in slots:
            yield from claims.reserved(self._slots[name].shown(), self._facts, machine)

    def on_npu(self, slot: SlotName) -> bool:
        found = self._slots.get(slot)
        return found is not None and found.shown().device is Device.NPU  # as `auto` turns out, too

    def shown(self) -> Mapping[SlotName, Shown]:
        return {name: slot.shown() for name, slot in self._slots.items()}

    def idle_restore_s(self) -> float:
        return self._config().engine.idle_restore_min * 60

    async def send_away(self, slots: Iterable[SlotName]) -> None:
        await self._wish(slots, verbs.sent_away)

    async def call_back(self, slots: Iterable[SlotName]) -> None:
        await self._wish(slots, verbs.called_back)

    async def _wish(self, slots: Iterable[SlotName], wish: Wish) -> None:
        """Who cannot be asked now is asked again."""
        found = [slot for name in slots if (slot := self._slots.get(name)) is not None]
        for answer in await asyncio.gather(*(slot.wish(wish) for slot in found), return_exceptions=True):
            if isinstance(answer, Exception):
                log.info("a slot cannot be asked now: %s", answer)

    async def make_way(self, slots: Iterable[SlotName]) -> None:
        found = [slot for name in slots if (slot := self._slots.get(name)) is not None]
        for answer in await asyncio.gather(*(make_way(slot, By.EVICTED) for slot in found), return_exceptions=True):
            if isinstance(answer, Exception):
                log.info("a slot cannot make way now: %s", answer)

    def room_made(self, *, anew: bool) -> None:
        for slot in self._slots.values():
            if failures.waits_for_room(slot.life.facts.fault, anew=anew):
                slot.post(RoomMade(anew))
