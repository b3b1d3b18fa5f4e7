"""When a process that lives counts as dead, or its port as lost: silence is not enough while it works. Pure.

Without a request under way three failed probes over ten seconds are enough. With one, an engine may be far too busy to
answer a probe; then it is dead only if it has not used its processor for a minute either. A port that leads nowhere is
another matter: work does not refuse connections.
"""

from dataclasses import dataclass
from typing import Final

from hal0.slots.warmup import LIVENESS_FAILURES

SILENT_S: Final = 10.0
STILL_S: Final = 60.0
PORT_LOST_S: Final = 5.0
# Less processor time than this between two probes is the kernel's own bookkeeping, not work.
_GROWTH_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Pulse:
    """What the probes have told since the last answer. `cpu_s` is processor time used; times are in seconds."""

    misses: int = 0
    cpu_s: float | None = None
    since: float | None = None  # the first miss
    still_since: float | None = None
    cut_off_since: float | None = None

    def missed(self, cpu_s: float | None, now: float, *, cut_off: bool = False) -> "Pulse":
        """One more probe without an answer; a processor time that nobody can tell counts as growth.

        `cut_off`: the port refused the connection, or the engine answers when it is asked past its port.
        """
        grew = cpu_s is None or self.cpu_s is None or cpu_s - self.cpu_s > _GROWTH_S
        return Pulse(
            self.misses + 1,
            cpu_s,
            since=_first(self.since, now),
            still_since=now if grew else _first(self.still_since, now),
            cut_off_since=_first(self.cut_off_since, now) if cut_off else None,
        )

    def dead(self, now: float, *, quiet: bool) -> bool:
        """`quiet`: no request is under way."""
        if self.misses < LIVENESS_FAILURES:
            return False
        if quiet and self.since is not None and now - self.since >= SILENT_S:
            return True
        return self.still_since is not None and now - self.still_since >= STILL_S

    def port_lost(self, now: float) -> bool:
        return self.cut_off_since is not None and now - self.cut_off_since >= PORT_LOST_S


def _first(before: float | None, now: float) -> float:
    return now if before is None else before
