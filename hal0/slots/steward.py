"""The one owner of the memory ledger: what is there, what slots hold of it, and who may come in."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, Protocol, TypeAlias

from hal0.hardware.cpu import Cpu
from hal0.hardware.memory import Memory
from hal0.hardware.pools import pools
from hal0.hardware.snapshot import Machine
from hal0.slots.budget import fits_together
from hal0.slots.ledger import Holding, Ledger
from hal0.slots.need import Need
from hal0.vocab import SlotName

Measure: TypeAlias = Callable[[], Awaitable[Machine]]

_LOOK_EVERY_S: Final = 3.0  # as the tick: reading a dozen small files takes some milliseconds of a thread
_UNKNOWN: Final = Machine(cpu=Cpu(), memory=Memory(0, 0))  # nobody has looked yet: nothing is refused for it


class House(Protocol):
    """Whose memory it is: all slots, as the supervisor has them."""

    def needs(self, slots: Iterable[SlotName], machine: Machine) -> Mapping[SlotName, Need]:
        """What these would take, each with the model it has or would load; slots without one are left out."""
        ...

    def holdings(self, machine: Machine) -> Iterable[Holding]:
        """What every slot holds at this moment."""
        ...


class Steward:
    """`measure` reads the machine's memory; `own_cgroup` as in `hardware.pools`."""

    def __init__(self, measure: Measure, *, own_cgroup: bool = True) -> None:
        self._measure = measure
        self._own_cgroup = own_cgroup
        self._machine = _UNKNOWN
        self.house: House

    async def look(self) -> Machine:
        """Measure now; what is asked without looking rests on it until the next time."""
        self._machine = await self._measure()
        return self._machine

    async def keep_looking(self) -> None:
        """Measure again and again; runs for ever."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            await self.look()

    def fits_together(self, slots: frozenset[SlotName]) -> bool:
        """Could these be loaded at the same time? From what was measured last."""
        return fits_together(self.house.needs(slots, self._machine), self._ledger())

    def _ledger(self) -> Ledger:
        machine = self._machine
        return Ledger(pools(machine, own_cgroup=self._own_cgroup), tuple(self.house.holdings(machine)))
