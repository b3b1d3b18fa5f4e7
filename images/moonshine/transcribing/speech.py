"""What the routes ask of an engine and of a decoder, and what these may answer instead."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from transcribing.cutting import Piece, Samples
from transcribing.transcript import Segment


class GoneError(Exception):
    """Whoever asked has left."""


class NotSoundError(Exception):
    """The file cannot be decoded; the text says why."""


class Speech(Protocol):
    """An engine; both methods block, and are called in one thread."""

    def load(self) -> None:
        """Raises serving's UnusableError."""
        ...

    def heard(self, piece: Piece, gone: threading.Event) -> Segment:
        """Raises GoneError soon after `gone` is set."""
        ...


# A file as chunks of samples at cutting.RATE, read on as they are asked for. Raises NotSoundError.
Decoder = Callable[[Path], Iterator[Samples]]
