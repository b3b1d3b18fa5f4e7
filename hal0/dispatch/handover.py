"""How long it takes from the decision that it is a slot's turn until the slot is ready, by what was seen lately."""

from collections import deque
from typing import Final

from hal0.dispatch.turns import Seat, Standing
from hal0.slots.handle import SlotSnapshot
from hal0.vocab import SlotName

_KEPT: Final = 5
# Late is worse than early: the next one is expected to take a quarter and a second more than any of the last. Of the
# first only the load is known, so there is more to be cautious about: the last requests, and the stop.
_CAUTION: Final = 1.25
_CAUTION_S: Final = 1.0
_UNSEEN_S: Final = 5.0


class Handovers:
    """`longest_s`: what is never exceeded; one long answer that was waited for says nothing about the next time."""

    def __init__(self, longest_s: float) -> None:
        self.longest_s = longest_s
        self._begun: dict[SlotName, float] = {}
        self._took: dict[SlotName, deque[float]] = {}

    def expected_s(self, slot: SlotSnapshot) -> float:
        took = self._took.get(slot.name)
        worst, more_s = (max(took), _CAUTION_S) if took else (slot.expected_load_s or 0.0, _UNSEEN_S)
        return min(worst * _CAUTION + more_s, self.longest_s)

    def begin(self, slot: SlotName, now: float) -> None:
        """It is its turn, now or already."""
        self._begun.setdefault(slot, now)

    def see(self, slot: SlotName, seat: Seat, *, its_turn: bool) -> None:
        """How it stands; a handover ends when it is here, or comes to nothing."""
        begun = self._begun.get(slot)
        if begun is None or its_turn or seat.standing is Standing.COMING:
            return
        del self._begun[slot]
        if seat.standing is Standing.HERE:
            self._took.setdefault(slot, deque(maxlen=_KEPT)).append(seat.since - begun)
