"""The one owner of the memory ledger: what is there, what slots hold of it, and who may come in.

The ledger is made anew for every load, from memory as it is measured then and from what slots are doing. All that
is kept beside it is what was just promised to a load, which counts only while the load asks (`claims`): nothing has to
be given back by somebody who might die first.
"""

import asyncio
import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final, Protocol, TypeAlias, assert_never

from hal0.errors import Hal0Error
from hal0.hardware.pools import MemoryPool, pools
from hal0.hardware.snapshot import Machine
from hal0.lib.aio import Signal
from hal0.lib.clock import Clock
from hal0.slots.arbiter import npu_refusal
from hal0.slots.budget import RECOVERY_S, Evict, Fits, Refuse, Wait, admit, fits_together, memory_back
from hal0.slots.claims import used_of
from hal0.slots.fit import Fit, fit_of
from hal0.slots.gpus import Gpus, Tenants
from hal0.slots.ledger import Holding, Known, Ledger, Standing, offered
from hal0.slots.measuring import UNKNOWN
from hal0.slots.need import Need, Used
from hal0.slots.shown import Shown
from hal0.slots.store import SlotStore
from hal0.vocab import SlotName

Tell: TypeAlias = Callable[[str], None]
Weigh: TypeAlias = Callable[[Machine], Need]

_LOOK_EVERY_S: Final = 3.0  # as the tick: reading a dozen small files takes some milliseconds of a thread
_ASK_AGAIN_S: Final = 1.0  # freed memory comes back without a word


class Measure(Protocol):
    async def __call__(self, *, anew: bool) -> Machine:
        """The machine's memory, always and soon. `anew`: what takes a moment to find out is found out anew."""
        ...


class House(Tenants, Protocol):
    """Whose memory it is: all slots, as the supervisor has them."""

    def memory_limit(self) -> int | None:
        """Bytes of RAM that slots may take together, when the operator has said so."""
        ...

    def need(self, slot: SlotName, machine: Machine, model: str | None = None) -> Need | None:
        """What a load of `model` takes (None: of the slot's present wish); None: it has no model, or is not there."""
        ...

    def holdings(self, machine: Machine, promised: Mapping[SlotName, Need]) -> Iterable[Holding]:
        """What every slot holds at this moment, with what was `promised` to those that still ask."""
        ...

    def unasked(self, slot: SlotName) -> int | None:
        """The slot's priority, when nobody has asked for it since hal0 began; None: somebody has."""
        ...

    def coming(self, over: int, machine: Machine) -> Iterable[Holding]:
        """What those slots will take that matter more, are on their way up, and have not asked for room yet."""
        ...

    def reserved(self, slots: Collection[SlotName], machine: Machine) -> Iterable[Holding]:
        """What these will take."""
        ...

    def on_npu(self, slot: SlotName) -> bool: ...

    async def make_way(self, slots: Iterable[SlotName]) -> None:
        """Have these unloaded as evicted; whoever may not leave any more when asked stays."""
        ...

    def room_made(self, *, anew: bool) -> None:
        """Slots that were refused may try again: somebody has left, or (`anew`) the rules have changed."""
        ...


class Steward:
    """`measure` reads the machine's memory; `own_cgroup` as in `hardware.pools`. `settle` comes before questions."""

    def __init__(self, measure: Measure, clock: Clock, store: SlotStore, *, own_cgroup: bool = True) -> None:
        self._measure = measure
        self._clock = clock
        self._own_cgroup = own_cgroup
        self._machine = UNKNOWN
        self._promised: dict[SlotName, Need] = {}
        self._one_by_one = asyncio.Lock()
        self._changed = Signal()
        self._recovery = Recovery()
        self._known: Known | None = None  # forgotten whenever a slot changes or memory is measured
        self.gpus = Gpus(store, clock)
        self.house: House

    def settle(self, house: House) -> None:
        self.house = self.gpus.house = house

    def changed(self) -> None:
        """A slot has changed: who waits for memory asks again."""
        self._known = None
        self._changed.notify()

    def used(self, it: Shown) -> Used | None:
        """What the slot's present load has taken, as far as can be told."""
        return used_of(it, it.model, self._machine)

    async def look(self, *, anew: bool = False) -> None:
        """Measure now; what is asked without looking rests on it until the next time. `anew` as in `Measure`."""
        before, self._machine = self._machine, await self._measure(anew=anew)
        if [gpu.address for gpu in before.gpus] != [gpu.address for gpu in self._machine.gpus]:
            self.house.room_made(anew=True)  # its driver may have hung when hal0 began
        self._known = None
        if self._recovery.saw(self._pools(), self._holdings(), self._clock.now()):
            self.house.room_made(anew=False)
        await self.gpus.look(self._machine)

    async def keep_looking(self) -> None:
        """Measure again and again; runs for ever."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            await self.look()

    def fits_together(self, slots: frozenset[SlotName]) -> bool:
        """Could these be loaded at the same time? From what was measured last."""
        known = self._now_known()
        needs = {slot: need for slot in slots if (need := known.need(slot)) is not None}
        parts = ({slot: needs[slot] for slot in part & needs.keys()} for part in self.gpus.apart(slots))
        return all(fits_together(part, known.ledger) for part in parts)

    def barred(self, slot: SlotName) -> Hal0Error | None:
        """gpu.image_mode when images keep the slot from being loaded. From what was measured last."""
        return self.gpus.barred(slot, self._now_known)

    def _now_known(self) -> Known:
        if self._known is None:
            self._known = Known(self._ledger(), functools.cache(lambda slot: self.house.need(slot, self._machine)))
        return self._known

    async def hope(self, slot: SlotName, model: str) -> None:
        """Before anything is unloaded for `model` in this slot: raises slot.memory_budget when it can never fit.

        What holds the memory only now, because it answers or loads, is no reason: the load waits for that.
        """
        await self.look(anew=True)
        need = self.house.need(slot, self._machine, model)
        verdict = None if need is None else admit(slot, need, self._ledger(), self._clock.now())
        if isinstance(verdict, Refuse) and not verdict.blocked_by:
            raise verdict.error

    async def fit(self, slot: SlotName, weighs: Sequence[Weigh], beside: Collection[SlotName] = ()) -> list[Fit]:
        """Would each of these fit into the slot now? Memory is measured for the question, and none is kept for it.

        `beside`: with those slots loaded, which then do not leave for it.
        """
        await self.look(anew=True)
        ledger, now = self._beside(self._ledger(), beside), self._clock.now()
        return [fit_of(slot, weigh(self._machine), ledger, now) for weigh in weighs]

    async def make_room(self, slot: SlotName, tell: Tell, *, beside: bool = False) -> Need | None:
        """Return when there is room for the slot's load, which is promised to it from then on; others may leave for it.

        `tell` is told, at least every second, what is waited for. None: the load needs nothing. `beside`: it is to run
        beside the slot's own container (swap by overlap); then nobody leaves, and nothing is waited for.

        Raises slot.memory_budget, slot.npu_exclusive or gpu.image_mode.
        """
        self._promised.pop(slot, None)
        try:
            while (waits_for := await self._ask(slot, beside=beside)) is not None:
                tell(waits_for)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_ASK_AGAIN_S):
                        await self._changed.wait()
        except BaseException:
            self._promised.pop(slot, None)
            raise
        return self._promised.get(slot)

    async def _ask(self, slot: SlotName, *, beside: bool) -> str | None:
        """One decision at a time, so that no two loads get the same bytes. What is waited for; None: come in."""
        async with self._one_by_one:
            await self.look(anew=True)
            need = self.house.need(slot, self._machine)
            if need is None:
                return None
            if (leaver := self._leaver_of_npu(slot)) is not None:
                return f"waiting for the NPU: {leaver} is being unloaded"
            over = self.house.unasked(slot)
            ledger = self._ledger() if over is None else self._with_coming(over)
            if (waits_for := await self.gpus.ask(slot, need, ledger)) is not None:
                return waits_for
            verdict = admit(slot, need, ledger, self._clock.now(), beside=beside, over=over)
            if isinstance(verdict, Refuse):
                raise verdict.error
            if beside and not isinstance(verdict, Fits):
                text = f"cannot run two containers of slot {slot} at once: there is no memory for both"
                raise Hal0Error("slot.memory_budget", text)
            self._promised[slot], self._known = need, None
            match verdict:
                case Fits():
                    return None
                case Wait(leaving):
                    return _waiting(leaving)
                case Evict(victims):
                    await self.house.make_way(victims)
                    return _waiting(victims)
                case _:
                    assert_never(verdict)

    def _leaver_of_npu(self, slot: SlotName) -> SlotName | None:
        """Who is about to leave the NPU, which `slot` wants. Raises slot.npu_exclusive when somebody stays on it."""
        if not self.house.on_npu(slot):
            return None
        others = [h for h in self._holdings() if h.slot != slot and self.house.on_npu(h.slot)]
        refusal = npu_refusal(slot, (h.slot for h in others if h.standing is not Standing.LEAVING))
        if refusal is not None:
            raise refusal
        return next((h.slot for h in others), None)

    def _pools(self) -> tuple[MemoryPool, ...]:
        return offered(pools(self._machine, own_cgroup=self._own_cgroup), self.house.memory_limit())

    def _holdings(self) -> tuple[Holding, ...]:
        return tuple(self.house.holdings(self._machine, self._promised))

    def _ledger(self) -> Ledger:
        return Ledger(self._pools(), (*self._holdings(), *self._recovery.leaving()))

    def _beside(self, ledger: Ledger, slots: Collection[SlotName]) -> Ledger:
        """As it would be with these loaded, for good."""
        outgoing = (Standing.LEAVING, Standing.STUCK)
        held = {h.slot for h in ledger.holdings if h.slot in slots and h.standing not in outgoing}
        staying = (replace(h, pinned=True) if h.slot in held else h for h in ledger.holdings)
        coming = self.house.reserved(frozenset(slots) - held, self._machine)
        return replace(ledger, holdings=(*staying, *(replace(h, pinned=True) for h in coming)))

    def _with_coming(self, over: int) -> Ledger:
        """As it will be: who was left over from before a boot makes no room among those that matter more."""
        ledger = self._ledger()
        held = {holding.slot for holding in ledger.holdings}
        coming = (holding for holding in self.house.coming(over, self._machine) if holding.slot not in held)
        return replace(ledger, holdings=(*ledger.holdings, *coming))


class Recovery:
    """GPU memory of slots that have left: it takes the driver a while to give it back."""

    def __init__(self) -> None:
        self._pools: tuple[MemoryPool, ...] = ()
        self._held: dict[SlotName, Holding] = {}
        self._gone: dict[SlotName, tuple[Holding, tuple[MemoryPool, ...], float]] = {}

    def saw(self, now_free: tuple[MemoryPool, ...], holdings: Iterable[Holding], now: float) -> bool:
        """Memory was measured, and these held it; answers whether somebody has left since the last time."""
        held = {h.slot: h for h in holdings if h.standing is not Standing.RESERVED}
        left = {slot: holding for slot, holding in self._held.items() if slot not in held}
        for slot, holding in left.items():
            self._gone[slot] = (replace(holding, standing=Standing.LEAVING), self._pools, now)
        self._gone = {
            slot: (holding, before, since)
            for slot, (holding, before, since) in self._gone.items()
            if now - since < RECOVERY_S and slot not in held and not memory_back(holding, before, now_free)
        }
        self._pools, self._held = now_free, held
        return bool(left)

    def leaving(self) -> Iterable[Holding]:
        return (holding for holding, _before, _since in self._gone.values())


def _waiting(leaving: tuple[SlotName, ...]) -> str:
    names = " and ".join(dict.fromkeys(leaving))
    return f"waiting for memory: {names} {'is' if len(set(leaving)) == 1 else 'are'} being unloaded"
