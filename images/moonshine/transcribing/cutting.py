"""Cuts a stream of sound into pieces that the model can take, each where it is quietest."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

RATE: Final = 16_000
# Moonshine takes up to 64 s, but writes at most 192 tokens: half a minute of ordinary speech.
LONGEST_S: Final = 30
_LONGEST: Final = LONGEST_S * RATE
# A pause is looked for in the last third, so that no piece is so short that the model lacks what was said before.
_EARLIEST: Final = _LONGEST * 2 // 3
_FRAME: Final = RATE // 50
_PAUSE_FRAMES: Final = 10  # 0.2 s: longer than the gap inside a word


@dataclass(frozen=True, slots=True)
class Piece:
    """`start` and the length of `samples` in samples of RATE; pieces follow each other without a gap."""

    start: int
    samples: Samples

    @property
    def start_s(self) -> float:
        return self.start / RATE

    @property
    def end_s(self) -> float:
        return (self.start + len(self.samples)) / RATE


def pieces(sound: Iterable[Samples]) -> Iterator[Piece]:
    """Holds one piece and one chunk of `sound` at a time, however long that is."""
    start = 0
    kept = np.empty(0, np.float32)
    for chunk in sound:
        kept = np.concatenate((kept, chunk))
        while len(kept) > _LONGEST:
            cut = quietest(kept[:_LONGEST], _EARLIEST)
            yield Piece(start, kept[:cut])
            kept, start = kept[cut:], start + cut
    if len(kept):
        yield Piece(start, kept)


def quietest(samples: Samples, earliest: int) -> int:
    """The middle of the quietest fifth of a second from `earliest` on; the last one of several that are equal."""
    tail = samples[earliest:]
    frames = tail[: len(tail) // _FRAME * _FRAME].reshape(-1, _FRAME)
    loudness = np.square(frames, dtype=np.float64).mean(axis=1)
    pauses = np.convolve(loudness, np.ones(_PAUSE_FRAMES), mode="valid")
    first = len(pauses) - 1 - int(np.argmin(pauses[::-1]))
    return earliest + (first + _PAUSE_FRAMES // 2) * _FRAME
