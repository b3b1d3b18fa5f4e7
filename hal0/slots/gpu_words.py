"""What happens to a GPU's arbiter, and what it has done about it: the words of `slots.arbiter`. Pure."""

from dataclasses import dataclass
from typing import TypeAlias

from hal0.errors import Hal0Error
from hal0.vocab import SlotName


@dataclass(frozen=True, slots=True)
class ImagesWanted:
    """A request for images, or a load of the slot. `fits`: beside what is loaded (`budget.admit` evicts nobody).

    `llm`: the slots of this GPU that are loaded or loading, are not pinned, and would leave.
    """

    llm: tuple[SlotName, ...]
    fits: bool


@dataclass(frozen=True, slots=True)
class LlmWanted:
    """A request for, or a load of, a language model on this GPU that is not loaded."""

    slot: SlotName
    fits: bool


@dataclass(frozen=True, slots=True)
class ImageDone:
    """An image request has ended."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A slot is ready."""

    slot: SlotName


@dataclass(frozen=True, slots=True)
class Left:
    """A slot is offline and its memory is back."""

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
    """Time passes; `busy`: images are under way, also those that were started in ComfyUI's own page."""

    busy: bool


@dataclass(frozen=True, slots=True)
class Pin:
    on: bool


@dataclass(frozen=True, slots=True)
class Restore:
    """The operator wants the llm set back now."""

    force: bool = False


@dataclass(frozen=True, slots=True)
class Booted:
    """hal0 has started; these slots are loaded or loading."""

    loaded: frozenset[SlotName]


Report: TypeAlias = Arrived | Left | Failed | Forgotten
Event: TypeAlias = Report | ImagesWanted | LlmWanted | ImageDone | Tick | Pin | Restore | Booted


@dataclass(frozen=True, slots=True)
class Save:
    """Write the state before anything that follows: a restart in between must know the set."""


@dataclass(frozen=True, slots=True)
class Free:
    """Tell the image engine to give its models up (ComfyUI's POST /free); best effort."""


@dataclass(frozen=True, slots=True)
class Unload:
    """Drain, then unload; each ends in `Left` or `Failed`."""

    slots: tuple[SlotName, ...]


@dataclass(frozen=True, slots=True)
class Load:
    """Load, or join the load under way; each ends in `Arrived` or `Failed`."""

    slots: tuple[SlotName, ...]


@dataclass(frozen=True, slots=True)
class Proceed:
    """Whoever asked goes on to the slot's own gate."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Whoever asked waits, and asks again when the state has changed."""


@dataclass(frozen=True, slots=True)
class Deny:
    error: Hal0Error


Action: TypeAlias = Save | Free | Unload | Load | Proceed | Hold | Deny
