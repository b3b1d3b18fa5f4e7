"""A house of slots that load and unload in their own time, and the real gate before them, on the loop's time."""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final

from hal0.config.dispatch import DispatchConfig
from hal0.dispatch.gate import Gate
from hal0.dispatch.pace import Pace
from hal0.dispatch.trace import Trace
from hal0.errors import Hal0Error
from hal0.providers.base import Endpoint
from hal0.slots.handle import SlotFailure
from hal0.vocab import FailureClass, Phase, SlotName, Want
from tests.fakes.slots import READY, FakeSlot, FakeSlots, snapshot
from tests.vloop import LoopClock

BOUND_S: Final = 30.0  # max_wait_s
LOAD_S: Final = 3.0
STOP_S: Final = 1.0
HOLDING: Final = (Phase.WARMING, Phase.READY, Phase.UNLOADING)  # memory; who starts still waits for it
PERMANENT: Final = SlotFailure(FailureClass.PERMANENT, "model.checksum", "the file is cut short", 0.0, settled=True)
CROWDED: Final = SlotFailure(FailureClass.PERMANENT, "slot.memory_budget", "no room", 0.0, settled=True)


@dataclass
class Answer:
    """How a request went: `code` of its refusal (None: served), its wait in seconds, and what the trace says."""

    slot: str
    code: str | None
    waited_s: float
    trace: Trace
    error: Hal0Error | None = None


class House(FakeSlots):
    """Everything that is asked of slots happens as the supervisor does it: stops, then loads, when there is room."""

    def __init__(self, fits: Callable[[frozenset[SlotName]], bool], *names: str, **config: Any) -> None:
        super().__init__(*(snapshot(name, expected_load_s=LOAD_S) for name in names))
        self.fits = fits
        self.clock = LoopClock()
        self.gate = Gate(self, self.clock, DispatchConfig(**config), Pace((), lambda: 0.0))
        self.failing: set[str] = set()
        self.loads: list[str] = []
        self.order: list[str] = []
        self.answers: list[Answer] = []
        for slot in self.all():
            slot.on_load = self._wished

    # -- what users do ------------------------------------------------------------------------------------------------

    async def ask(
        self,
        name: str,
        takes_s: float = 1.0,
        *,
        key: str | None = None,
        hold_s: float = 600.0,
        patience_s: float | None = None,
    ) -> Answer:
        """One request, as the dispatcher carries it out."""
        handle, came = self[name], self.clock.now()
        trace = Trace("r", came, came, "POST", "/v1/chat/completions", key)
        try:
            admitted = self.gate.straight(handle, handle.snapshot())
            if admitted is None:
                admitted = await self.gate.enter(handle, trace, hold_s=hold_s, patience_s=patience_s)
        except Hal0Error as error:
            answer = Answer(name, error.code, self.clock.now() - came, trace, error)
        else:
            answer = Answer(name, None, self.clock.now() - came, trace)
            self.order.append(name)
            try:
                await asyncio.sleep(takes_s)
            finally:
                admitted.serving.end()
        self.answers.append(answer)
        return answer

    def send(self, name: str, *whens: float, takes_s: float = 1.0, **more: Any) -> list["asyncio.Task[Answer]"]:
        """One request at each of these moments, in seconds from now."""

        async def later(when: float) -> Answer:
            await asyncio.sleep(when)
            return await self.ask(name, takes_s, **more)

        return [asyncio.create_task(later(when)) for when in whens]

    # -- what the supervisor does -------------------------------------------------------------------------------------

    async def switch(self, load: SlotName, unload: Collection[SlotName]) -> None:
        self.switched.append((load, set(unload)))
        await asyncio.sleep(0)
        if self.stuck is not None:
            raise self.stuck
        for name in unload:
            if not self[name].in_flight and not self[name].snapshot().pinned:
                self.unload(name)
        self[load].request_load()

    def unload(self, name: str) -> None:
        """An operator's as well; streams are not waited for: the test sees to that."""
        self[name].become(phase=Phase.UNLOADING, want=Want.UNLOADED, endpoint=None, ready_at=None)
        asyncio.get_running_loop().call_later(STOP_S, self._offline, name)

    def crash(self, name: str) -> None:
        """It ends, and is started again at once."""
        now, slot = self.clock.now(), self[name]
        failure = SlotFailure(FailureClass.TRANSIENT, "slot.exited", "killed", now, settled=False)
        slot.become(phase=Phase.ERROR, endpoint=None, failure=failure, ready_at=None)
        asyncio.get_running_loop().call_later(STOP_S, self._wished, slot)

    def _offline(self, name: str) -> None:
        self[name].become(phase=Phase.OFFLINE)
        for slot in self.all():
            if slot.snapshot().phase is Phase.STARTING:
                self._admit(slot.name)

    def _wished(self, slot: FakeSlot) -> None:
        slot.become(phase=Phase.STARTING, want=Want.LOADED, failure=None)
        self._admit(slot.name)

    def _admit(self, name: str) -> None:
        """Load it if there is room; else wait for those who leave, and fail when nobody does."""
        holders = [slot for slot in self.all() if slot.name != name and slot.snapshot().phase in HOLDING]
        if self.fits(frozenset({SlotName(name), *(slot.name for slot in holders)})):
            self._start(name)
        elif all(slot.snapshot().phase is not Phase.UNLOADING for slot in holders):
            self[name].failed(CROWDED)

    def _start(self, name: str) -> None:
        now = self.clock.now()
        self[name].become(phase=Phase.WARMING, want=Want.LOADED, failure=None, load_started_at=now)
        self.loads.append(name)
        asyncio.get_running_loop().call_later(LOAD_S, self._ready, name)

    def _ready(self, name: str) -> None:
        slot = self[name]
        if slot.snapshot().phase is not Phase.WARMING:
            return  # somebody thought better of it
        if name in self.failing:
            slot.failed(PERMANENT)
            return
        holders = frozenset(other.name for other in self.all() if other.snapshot().phase in HOLDING)
        assert self.fits(holders), holders
        slot.become(**READY, endpoint=Endpoint("127.0.0.1", 1, ""), ready_at=self.clock.now(), load_started_at=None)


def alone(slots: frozenset[SlotName]) -> bool:
    return len(slots) <= 1


def pairs_but(*enemies: str) -> Callable[[frozenset[SlotName]], bool]:
    """Everybody fits together, but these do not."""
    return lambda slots: len(slots & set(enemies)) <= 1


def house(*names: str, fits: Callable[[frozenset[SlotName]], bool] = alone, **config: Any) -> House:
    return House(fits, *(names or ("a", "b")), **{"max_wait_s": BOUND_S, "min_residency_s": 2.0, **config})


async def answers(*asking: list["asyncio.Task[Answer]"]) -> list[Answer]:
    return [await one for some in asking for one in some]
