"""When a process that lives counts as dead: silence is not enough while it works. Pure.

Without a request under way three failed probes are enough. With one, an engine may be far too busy to answer a probe;
then it is dead only if it has not used its processor for a minute either.
"""

from dataclasses import dataclass
from typing import Final

from hal0.slots.warmup import LIVENESS_FAILURES

STILL_S: Final = 60.0
# Less processor time than this between two probes is the kernel's own bookkeeping, not work.
_GROWTH_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Pulse:
    """What the probes have told since the last answer. `cpu_s` is processor time used, in seconds."""

    misses: int = 0
    cpu_s: float | None = None
    still_since: float | None = None

    def missed(self, cpu_s: float | None, now: float) -> "Pulse":
        """One more probe without an answer; a processor time that nobody can tell counts as growth."""
        grew = cpu_s is None or self.cpu_s is None or cpu_s - self.cpu_s > _GROWTH_S
        still_since = now if grew or self.still_since is None else self.still_since
        return Pulse(self.misses + 1, cpu_s, still_since)

    def dead(self, now: float, *, quiet: bool) -> bool:
        """`quiet`: no request is under way."""
        if self.misses < LIVENESS_FAILURES:
            return False
        return quiet or (self.still_since is not None and now - self.still_since >= STILL_S)
