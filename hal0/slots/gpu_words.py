"""What happens to a GPU's arbiter, and what it has done about it: the words of `slots.arbiter`. Pure."""

from dataclasses import dataclass
from typing import TypeAlias

from hal0.errors import Hal0Error
from hal0.vocab import SlotName


@dataclass(frozen=True, slots=True)
class ImagesWanted:
    """The image slot is about to load. `fits`: beside the language models that are loaded on this GPU.

    `llm`: those of them that have to leave, when that is of any use; in the order in which they come back.
    """

    llm: tuple[SlotName, ...]
    fits: bool


@dataclass(frozen=True, slots=True)
class LlmWanted:
    """A language model on this GPU is about to load. `fits`: nobody has to leave for it."""

    slot: SlotName
    fits: bool


@dataclass(frozen=True, slots=True)
class Arrived:
    """A slot is ready."""

    slot: SlotName


@dataclass(frozen=True, slots=True)
class Left:
    """Nothing of a slot is on the GPU any more, and nothing of it is on its way there."""

    slot: SlotName


@dataclass(frozen=True, slots=True)
class Failed:
    """A load or an unload that was asked for here has failed for good."""

    slot: SlotName


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The operator unloaded, or removed, a slot: it does not come back."""

    slot: SlotName


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passes: what was ordered and is not under way is ordered again. `used_at`: when images were made last."""

    used_at: float


Report: TypeAlias = Arrived | Left | Failed | Forgotten
Event: TypeAlias = Report | ImagesWanted | LlmWanted | Tick


@dataclass(frozen=True, slots=True)
class Save:
    """Write the state before anything that follows: a restart in between must know the set."""


@dataclass(frozen=True, slots=True)
class Unload:
    """Drain, then unload, unless that is under way; each ends in `Left` or `Failed`."""

    slots: tuple[SlotName, ...]


@dataclass(frozen=True, slots=True)
class Load:
    """Load what was unloaded here, unless that is under way; each ends in `Arrived` or `Failed`."""

    slots: tuple[SlotName, ...]


@dataclass(frozen=True, slots=True)
class Proceed:
    """The load that asked goes on to admission."""


@dataclass(frozen=True, slots=True)
class Hold:
    """The load that asked waits, and asks again when something has changed."""


@dataclass(frozen=True, slots=True)
class Deny:
    error: Hal0Error


Action: TypeAlias = Save | Unload | Load | Proceed | Hold | Deny
