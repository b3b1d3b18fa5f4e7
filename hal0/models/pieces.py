"""Whether a file is nothing but a tokenizer's pieces, as Moonshine's tools write them (`tokenizer.bin`). Blocking."""

from pathlib import Path
from typing import Final

from hal0.models.tensors import ContentError

# Each piece is its length and its bytes; from 128 on, the length has a second byte. The first stands for the unknown.
PIECES_MARK: Final = b"\x05<unk>"
_MAX_BYTES: Final = 16 << 20  # real ones have 250 kB


def check_pieces(path: Path) -> int:
    """How many there are. Raises ContentError, or OSError."""
    if path.stat().st_size > _MAX_BYTES:
        raise ContentError(f"cannot read {path}: a tokenizer of more than {_MAX_BYTES >> 20} MiB")
    data = path.read_bytes()
    at = count = 0
    while at < len(data):
        length, long = data[at], data[at] >= 128
        if long and at + 1 < len(data):
            length += 128 * data[at + 1] - 128
        at += 1 + long + length
        count += 1
    if at != len(data):
        raise ContentError(f"cannot read {path}: it is truncated, its last piece ends beyond it")
    return count
