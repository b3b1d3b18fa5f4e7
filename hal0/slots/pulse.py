"""When a process that lives counts as dead, or its port as lost: silence is not enough while it works. Pure.

Without a request under way three failed probes over ten seconds are enough. With one, an engine may be far too busy to
answer a probe; then it is dead only if no byte of an answer has come for a minute, and it has not used its processor
either. One that answers probes may have stopped working: its requests tell (`Hush`). A port that leads nowhere is
another matter: work does not refuse connections.
"""

from dataclasses import dataclass, replace
from typing import Final

from hal0.slots.serving import Traffic
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
    answered: int = 0

    def missed(self, cpu_s: float | None, now: float, *, answered: int = 0, cut_off: bool = False) -> "Pulse":
        """One more probe without an answer; a processor time that nobody can tell counts as growth.

        `answered`: bytes that the engine has sent to anybody so far. `cut_off`: the port refused the connection, or the
        engine answers when it is asked past its port.
        """
        works = answered != self.answered or _grew(self.cpu_s, cpu_s)
        return Pulse(
            self.misses + 1,
            cpu_s,
            since=_first(self.since, now),
            still_since=now if works else _first(self.still_since, now),
            cut_off_since=_first(self.cut_off_since, now) if cut_off else None,
            answered=answered,
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


@dataclass(frozen=True, slots=True)
class Hush:
    """What requests tell of an engine that answers every probe: since the last byte of any answer.

    A request that gives up is no proof by itself: a long prompt on a slow machine takes its time. It is one when the
    processor has stood still for a minute, or when the request before it has waited in vain as well.
    """

    answered: int = 0
    since: float | None = None  # a request is open, and no byte has come
    cpu_s: float | None = None
    still_since: float | None = None
    gave_up_at: float | None = None  # the first one

    def seen(self, traffic: Traffic, now: float) -> "Hush":
        if traffic.answered != self.answered:
            return Hush(traffic.answered, now if traffic.open else None)
        gave_up_at = self.gave_up_at if traffic.gave_up_s is None else _first(self.gave_up_at, now)
        if not traffic.open:
            return Hush(self.answered, gave_up_at=gave_up_at)
        return replace(self, since=_first(self.since, now), gave_up_at=gave_up_at)

    def stalled(self, now: float) -> bool:
        """It is time to look at the processor."""
        return self.since is not None and now - self.since >= STILL_S

    def used(self, cpu_s: float | None, now: float) -> "Hush":
        """Its processor time by now."""
        works = _grew(self.cpu_s, cpu_s)
        return replace(self, cpu_s=cpu_s, still_since=now if works else _first(self.still_since, now))

    def dead(self, traffic: Traffic, now: float) -> bool:
        """`traffic` is new, and not `seen` yet."""
        if traffic.gave_up_s is None or traffic.answered != self.answered:
            return False
        still = self.still_since is not None and now - self.still_since >= STILL_S
        again = self.gave_up_at is not None and now - traffic.gave_up_s >= self.gave_up_at
        return still or again


def _grew(before: float | None, after: float | None) -> bool:
    """What nobody can tell counts as growth."""
    return before is None or after is None or after - before > _GROWTH_S


def _first(before: float | None, now: float) -> float:
    return now if before is None else before
