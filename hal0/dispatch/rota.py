"""Whose turn it is, carried out: looks at how the slots stand, asks for loads and switches, lets waiters look again.

Every look reads anew how things are; only the turn that has begun is kept. While nobody waits for a turn there is no
task, and nothing is asked for a request whose slot is ready.
"""

import asyncio
import functools
import logging
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from hal0.dispatch.handover import Handovers
from hal0.dispatch.line import Line
from hal0.dispatch.schedule import plan
from hal0.dispatch.shares import Key, Shares
from hal0.dispatch.turns import Rules, Seat, Seats, Standing, Turn, seat_of
from hal0.errors import Hal0Error
from hal0.lib.aio import cancelled
from hal0.lib.clock import Clock
from hal0.slots.handle import SlotHandle, Slots, SlotSnapshot
from hal0.vocab import SlotName

log = logging.getLogger(__name__)

# Under traffic something changes all the time: looks are this far apart, and take a twentieth of the time at most.
_CALM_S: Final = 0.025
_LOOK_SHARE: Final = 20.0


class Rota:
    """`lines`: who waits at the gate. `closed`: slots whose turn is over, so that nobody may go in."""

    def __init__(self, slots: Slots, lines: Mapping[SlotName, Line], clock: Clock, rules: Rules) -> None:
        self._slots = slots
        self._lines = lines
        self._clock = clock
        self._handovers = Handovers(0.0)
        self._turn: Turn | None = None
        self._switching: asyncio.Task[None] | None = None
        self._begins: Mapping[SlotName, float] = {}
        self._look_at = math.inf
        self._shares = Shares()
        self._wishes: dict[SlotName, tuple[float, Key]] = {}
        self._asked: dict[SlotName, SlotSnapshot] = {}
        self._changed = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self.closed: frozenset[SlotName] = frozenset()
        self.apply(rules)

    def apply(self, rules: Rules) -> None:
        """These are in force, also for whoever waits already."""
        self._rules, self._handovers.longest_s = rules, rules.max_wait_s / 2
        self._changed.set()

    def turn_in_s(self, slot: SlotName) -> float | None:
        """When the turn of a slot is expected; None: it waits for none."""
        begins = self._begins.get(slot, 0.0 if slot in self.closed else None)
        return None if begins is None else max(begins - self._clock.now(), 0.0)

    def ask(self, handle: SlotHandle) -> None:
        """Somebody in its line waits for its load: begin it, or have it wait for its turn."""
        snapshot = handle.snapshot()
        if self._asked.get(handle.name) is not snapshot:
            self._asked[handle.name] = snapshot
            self._look()

    def wish(self, slot: SlotName, since: float, key: Key) -> None:
        """Somebody who asked was sent away until the load is done: the slot gets its turn all the same."""
        if slot in self._begins and since < self._wishes.get(slot, (math.inf, key))[0]:
            self._wishes[slot] = since, key

    def left(self, slot: SlotName) -> None:
        """Nobody stands in its line any more."""
        self._asked.pop(slot, None)
        self._changed.set()

    async def close(self) -> None:
        for task in (self._watching, self._switching):
            if task is not None:
                await cancelled(task)

    # -- a look -------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        now = self._clock.now()
        handles = {handle.name: handle for handle in self._slots.all()}
        seats = {slot: self._seat(handle, now) for slot, handle in handles.items()}
        callers = {slot: self._callers(slot) for slot, seat in seats.items() if seat.oldest is not None}
        shares = self._shares.of({slot: who for slot, who in callers.items() if seats[slot].standing is Standing.AWAY})
        seats |= {slot: replace(seats[slot], share=share) for slot, share in shares.items()}
        under_way = self._turn if self._switching is not None else None
        rules = replace(self._rules, fits=functools.cache(self._rules.fits))  # the same question comes many times
        made = plan(_switched(seats, under_way), None if under_way else self._turn, rules, now)
        for slot in made.loads:
            self._wishes.pop(slot, None)
            handles[slot].request_load()
        self._turn = under_way or made.turn
        self._begins, self._look_at = made.begins, made.look_at
        if self._turn is not None:
            self._begins = {**self._begins, self._turn.slot: now}
            self._handovers.begin(self._turn.slot, now)
            if made.switch:
                self._shares.turn(seats[self._turn.slot].share, callers[self._turn.slot])
                self._switching = asyncio.create_task(self._switch(self._turn))
        self._close_to(self._turn.leaving if self._turn is not None else frozenset())
        if self._watching is None and self._begins:
            self._watching = asyncio.create_task(self._watch())

    def _seat(self, handle: SlotHandle, now: float) -> Seat:
        slot, snapshot, line = handle.name, handle.snapshot(), self._lines.get(handle.name)
        waiting = [line.oldest()] if line else []
        wished = self._wishes.get(slot)
        seat = seat_of(
            snapshot,
            handle.in_flight,
            min(waiting if wished is None else [*waiting, wished[0]], default=None),
            self._handovers.expected_s(snapshot),
            now,
        )
        self._handovers.see(slot, seat, its_turn=self._turn is not None and self._turn.slot == slot)
        arrived = seat.standing is Standing.COMING or (seat.standing is Standing.HERE and slot not in self.closed)
        if arrived or seat.oldest is None:
            self._wishes.pop(slot, None)
        return seat

    def _callers(self, slot: SlotName) -> Mapping[Key, float]:
        """Who waits for it, and since when."""
        wished = self._wishes.get(slot)
        callers = {} if wished is None else {wished[1]: wished[0]}
        for place in self._lines.get(slot, ()):
            callers[place.key] = min(place.waiter.arrived, callers.get(place.key, math.inf))
        return callers

    def _close_to(self, slots: frozenset[SlotName]) -> None:
        changed, self.closed = slots ^ self.closed, slots
        for slot in changed:
            for place in self._lines.get(slot, ()):
                place.wake()

    # -- what takes time ----------------------------------------------------------------------------------------------

    async def _switch(self, turn: Turn) -> None:
        """Order it. Whoever waits for it learns why it is not possible."""
        try:
            await self._slots.switch(turn.slot, turn.leaving)
        except Hal0Error as error:
            self._refuse(turn.slot, error)
        except Exception:  # the task's outermost line: nobody may wait for a switch that has ended
            log.exception("a switch to slot %s failed by a mistake of hal0's", turn.slot)
            self._refuse(turn.slot, Hal0Error("system.internal", f"cannot load slot {turn.slot}: a mistake of hal0's"))
        finally:
            self._turn = self._switching = None
            self._changed.set()

    def _refuse(self, slot: SlotName, error: Hal0Error) -> None:
        self._wishes.pop(slot, None)
        for place in self._lines.get(slot, ()):
            place.refusal = error
            place.wake()

    async def _watch(self) -> None:
        """Look again whenever something has changed, or time alone has, until nobody waits for a turn any more."""
        watches: dict[SlotName, asyncio.Task[None]] = {}
        loop, calm_s = asyncio.get_running_loop(), _CALM_S
        try:
            while self._begins:
                for handle in self._slots.all():
                    if handle.name not in watches:
                        watches[handle.name] = asyncio.create_task(self._follow(handle))
                try:
                    async with asyncio.timeout(
                        None if self._look_at == math.inf else self._look_at - self._clock.now()
                    ):
                        await self._changed.wait()
                except TimeoutError:
                    pass
                await asyncio.sleep(calm_s)
                self._changed.clear()
                began = loop.time()
                self._look()
                calm_s = max(_CALM_S, (loop.time() - began) * _LOOK_SHARE)
        except Exception:  # the task's outermost line: the next request that asks begins anew
            log.exception("turns are not followed any more by a mistake of hal0's")
            self._turn, self._begins = None, {}
            self._close_to(frozenset())
        finally:
            self._watching = None
            for task in watches.values():
                task.cancel()

    async def _follow(self, handle: SlotHandle) -> None:
        while True:
            self._changed.set()  # before it is first waited for, and after: nothing in between is missed
            await handle.changed()


def _switched(seats: Seats, turn: Turn | None) -> Seats:
    """As it is once a switch is ordered, whether or not its slots know already."""
    if turn is None:
        return seats
    seen = dict(seats)
    for slot in turn.leaving & seats.keys():
        if seats[slot].standing is Standing.HERE:
            seen[slot] = replace(seats[slot], standing=Standing.LEAVING)
    if turn.slot in seats and seats[turn.slot].standing is Standing.AWAY:
        seen[turn.slot] = replace(seats[turn.slot], standing=Standing.COMING)
    return seen
