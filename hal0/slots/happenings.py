"""Everything that can happen to a slot, as values.

A happening is a fact, never an order: `learning` says what is known after it, `state.decide` what follows.
"""

from dataclasses import dataclass
from typing import TypeAlias

from hal0.hardware.footprint import Footprint
from hal0.slots.need import Need
from hal0.slots.record import Container, Desired, Failure, Progress, Swap
from hal0.slots.state import Facts
from hal0.vocab import Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """A slot at one moment: what is wanted, where it is, what is known."""

    desired: Desired
    phase: Phase
    facts: Facts

    @property
    def overlaps(self) -> bool:
        """The current container serves, and what is done is done for a next one beside it."""
        return self.phase is Phase.READY and self.facts.swap is not None and self.facts.swap.overlaps


@dataclass(frozen=True, slots=True)
class Wished:
    """Somebody wants something (else). `again` forgets earlier failures: an operator's verb or a config change."""

    desired: Desired
    swap: Swap | None = None
    restart: bool = False
    again: bool = True
    drain_s: float | None = None  # how long open streams may finish this time; None: as configured


@dataclass(frozen=True, slots=True)
class Fetched:
    """Image and model files are here."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """There is memory for the load, and it is kept for it; `extend_to` is the deadline of the launch."""

    need: Need
    extend_to: float


@dataclass(frozen=True, slots=True)
class RoomMade:
    """Memory may be free that was not: what waits for it need not wait longer.

    `anew`: the rules have changed, so that also those may try again who could not have hoped before.
    """

    anew: bool = False


@dataclass(frozen=True, slots=True)
class Reserved:
    """A launch began: this generation's name and port are taken, and on disk before anything is created."""

    container: Container


@dataclass(frozen=True, slots=True)
class Created:
    """Podman has made the container; it does not run yet."""


@dataclass(frozen=True, slots=True)
class Launched:
    """The container was started; `secret` is what its engine must be shown."""

    container: Container
    secret: str


@dataclass(frozen=True, slots=True)
class Clashed:
    """Somebody else took the port (or the name) between lease and start; the container is gone again, or `stuck`."""

    stuck: Container | None = None


@dataclass(frozen=True, slots=True)
class Advanced:
    """Progress within a phase. `extend_to` moves the deadline (a pull that moves has no total limit)."""

    progress: Progress
    extend_to: float | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """The engine says that it is ready; whether that is so may be still to be proved."""


@dataclass(frozen=True, slots=True)
class BecameReady:
    """The engine answered and lists its model."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt under way failed: an effect, a probe or a deadline says why."""

    failure: Failure
    jitter: float


@dataclass(frozen=True, slots=True)
class Died:
    """The current container's process is gone. `failure` is provisional: the evidence is still to be read."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Buried:
    """The dead container is removed (or `stuck`); its exit code and log say why it ended."""

    failure: Failure
    jitter: float
    stuck: Container | None = None


@dataclass(frozen=True, slots=True)
class Drained:
    """No request is left in the current container."""


@dataclass(frozen=True, slots=True)
class Retired:
    """The current container is gone. With `stuck` podman would not remove it: it is quarantined.

    `log_tail` is what it had said, when it was stopped because of a fault.
    """

    stuck: Container | None = None
    log_tail: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineTrouble:
    """A drain, retire or burial could not be carried out; it will be tried again. `message` says why."""

    message: str


@dataclass(frozen=True, slots=True)
class EngineBack:
    """The engine answers again: what waited for it need not wait longer."""


@dataclass(frozen=True, slots=True)
class Strayed:
    """A container of this slot that the slot does not know: a create whose answer was lost, or somebody's copy."""

    container: Container


@dataclass(frozen=True, slots=True)
class Left:
    """A leaving container is gone."""

    name: str


@dataclass(frozen=True, slots=True)
class Stayed:
    """A leaving container would not go; it will be tried again."""

    name: str


@dataclass(frozen=True, slots=True)
class Judged:
    """The current container was compared with what would be started now: `stale` says why it differs, if it does."""

    stale: str | None


@dataclass(frozen=True, slots=True)
class Measured:
    """A sample of the current container's memory: bytes of RAM, and what its processes hold where that is told."""

    memory_bytes: int
    footprint: Footprint | None = None


@dataclass(frozen=True, slots=True)
class Beside:
    """Something happened to the next container, or on the way to it, while the current one serves."""

    what: "Happening"


@dataclass(frozen=True, slots=True)
class Crowded:
    """There is no room for a second container: the current one has to leave first. `why` is for people."""

    why: str


@dataclass(frozen=True, slots=True)
class Turned:
    """The next container has taken the current one's place."""


@dataclass(frozen=True, slots=True)
class StayedHealthy:
    """It has been ready for long enough: earlier failures are history."""


Happening: TypeAlias = (
    Wished
    | Fetched
    | Admitted
    | RoomMade
    | Reserved
    | Created
    | Launched
    | Clashed
    | Advanced
    | Answered
    | BecameReady
    | Failed
    | Died
    | Buried
    | Drained
    | Retired
    | EngineTrouble
    | EngineBack
    | Strayed
    | Left
    | Stayed
    | Judged
    | Measured
    | Beside
    | Crowded
    | Turned
    | StayedHealthy
)
