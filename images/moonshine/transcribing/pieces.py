"""The tokenizer that lies beside a model of Moonshine's newer library: `tokenizer.bin`, one piece after the other."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from serving.app import UnusableError

_BLANK: Final = "\u2581"  # how a space is written inside a piece
_SPECIAL: Final = re.compile(rb"<unk>|</?s>|<<ST_[0-9]+>>")


class Pieces:
    """Turns token ids into text; it knows no other direction."""

    def __init__(self, file: Path) -> None:
        """Raises UnusableError for a file that is cut short."""
        data, at = file.read_bytes(), 0
        self._pieces: list[bytes] = []
        while at < len(data):
            length, at = data[at], at + 1
            if length >= 128 and at < len(data):
                length, at = length + 128 * data[at] - 128, at + 1
            self._pieces.append(b"" if _SPECIAL.fullmatch(piece := data[at : at + length]) else piece)
            at += length
        if at != len(data) or not self._pieces:
            raise UnusableError(f"cannot load the model: {file.name} is no list of pieces, or is cut short")

    def decode(self, tokens: Sequence[int]) -> str:
        """Ids beyond the list say nothing."""
        whole = b"".join(self._pieces[token] for token in tokens if 0 <= token < len(self._pieces))
        return whole.decode(errors="replace").replace(_BLANK, " ").removeprefix(" ")
