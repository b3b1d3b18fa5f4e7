"""How long a slot keeps a request, by those that it answered lately: what a full line can promise."""

import statistics
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from hal0.observe.decisions import DecisionRecord
from hal0.vocab import SlotName

_LATELY: Final = 32
# Records are only read where somebody has to wait; all who come within this time are told by the same reading.
_FRESH_S: Final = 1.0


class Pace:
    """`records` are the last decisions, oldest first; `time` is the event loop's."""

    def __init__(self, records: Iterable[DecisionRecord], time: Callable[[], float]) -> None:
        self._records = records
        self._time = time
        self._known: dict[SlotName, tuple[float, float | None]] = {}

    def service_s(self, slot: SlotName) -> float | None:
        """Median seconds of its last answers, without their wait; None when it has given none."""
        now = self._time()
        read_at, service_s = self._known.get(slot, (-_FRESH_S, None))
        if now - read_at >= _FRESH_S:
            took = deque((_took_s(it) for it in self._records if _is_answer(it, slot)), maxlen=_LATELY)
            service_s = statistics.median(took) if took else None
            self._known[slot] = now, service_s
        return service_s


def _is_answer(it: DecisionRecord, slot: SlotName) -> bool:
    """Whoever only looks at an engine says nothing about its work."""
    return it.target == slot and it.status == 200 and it.method == "POST"


def _took_s(it: DecisionRecord) -> float:
    return (it.total_ms - it.held_ms) / 1000
