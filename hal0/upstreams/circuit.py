"""When an upstream that fails is left alone, and when it is tried again: a circuit breaker, pure."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

# A single failure may be the network's; five in a row are the upstream's.
_FAILURES: Final = 5
# Long enough for a server to restart, and never so long that somebody has to tell hal0 that it is back.
_FIRST_S: Final = 10.0
_LONGEST_S: Final = 300.0


class Current(StrEnum):
    """CLOSED lets everything through, OPEN nothing, HALF_OPEN one request to see whether it is over."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class Circuit:
    """`failures` in a row; `until` (the clock's seconds) while it is not closed; `trial`: one request is finding out.

    `pause_s` is how long the last opening lasted, if no answer came whole since.
    """

    failures: int = 0
    until: float | None = None
    pause_s: float = 0.0
    trial: bool = False

    def current(self, now: float) -> Current:
        if self.until is None:
            return Current.CLOSED
        return Current.HALF_OPEN if now >= self.until else Current.OPEN

    def passes(self, now: float) -> bool:
        """Whether a request may go now."""
        match self.current(now):
            case Current.CLOSED:
                return True
            case Current.OPEN:
                return False
            case Current.HALF_OPEN:
                return not self.trial

    def begun(self, now: float) -> "Circuit":
        """A request that passed is on its way; maybe `answered`, it ends in `failed`, `succeeded` or `abandoned`."""
        return replace(self, trial=True) if self.current(now) is Current.HALF_OPEN else self

    def failed(self, now: float) -> "Circuit":
        """Of requests that were under way together only the first opens it: the others say nothing new."""
        if self.current(now) is Current.OPEN:
            return replace(self, failures=self.failures + 1)
        failures = self.failures + 1
        if self.until is None and failures < _FAILURES:
            return replace(self, failures=failures)
        pause_s = min(self.pause_s * 2, _LONGEST_S) or _FIRST_S
        return Circuit(failures, now + pause_s, pause_s)

    def answered(self) -> "Circuit":
        """The head of an answer is enough to let others through, and does not say yet that the rest will come."""
        return replace(self, until=None, trial=False)

    def succeeded(self) -> "Circuit":
        """The answer is whole. One that began before the circuit opened says nothing of what failed since."""
        return _CLOSED if self.until is None else self

    def abandoned(self) -> "Circuit":
        """The request ended without telling anything about the upstream: its client left."""
        return replace(self, trial=False)


_CLOSED: Final = Circuit()
