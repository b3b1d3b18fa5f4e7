"""The digest of a file, read piece by piece: everything else goes on meanwhile."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from hal0.lib.aside import in_a_thread

_PIECE_BYTES: Final = 8 << 20


async def sha256_of(path: Path, tell: Callable[[int], None] = lambda _bytes: None) -> str:
    """In hex; `tell` hears how many bytes were read with each piece. Raises OSError. Who gives up waits for no disk."""
    made, at = hashlib.sha256(), 0

    def more() -> int:
        with path.open("rb") as content:
            content.seek(at)
            piece = content.read(_PIECE_BYTES)
        made.update(piece)
        return len(piece)

    while read := await in_a_thread(more):
        at += read
        tell(read)
    return made.hexdigest()
