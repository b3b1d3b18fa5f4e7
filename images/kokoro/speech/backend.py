"""What the server needs of a speech engine."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

RATE: Final = 24_000  # samples a second, of both engines
Samples: TypeAlias = NDArray[np.float32]  # shape [n], mono, -1 to 1


@dataclass(frozen=True, slots=True)
class Reference:
    """A voice to be cloned: a clip, as a file's bytes, and the words that are said in it."""

    audio: bytes
    text: str


@dataclass(frozen=True, slots=True)
class Spoken:
    """One piece of speech. Tokens are the model's own: phonemes or characters in, frames of sound out."""

    samples: Samples
    input_tokens: int
    output_tokens: int


class Speaker(Protocol):
    """A voice that was chosen."""

    @property
    def longest(self) -> int:
        """Characters that it says well in one breath."""
        ...

    def say(self, piece: str, speed: float) -> Spoken | None:
        """Blocking; None when nothing of the text can be spoken."""
        ...


class Backend(Protocol):
    """Everything but `load` is called after it."""

    @property
    def speeds(self) -> tuple[float, float]: ...

    def load(self) -> None:
        """Blocking. Raises serving.app.UnusableError for files that can never be used."""
        ...

    def voices(self) -> Mapping[str, str]:
        """What people read, by id."""
        ...

    def speaker(self, voice: str | None, reference: Reference | None, text: str) -> Speaker:
        """Blocking. `text` is all that will be said.

        Raises serving.errors.Refusal for a voice that is not there, cannot be cloned, or cannot read the text.
        """
        ...
