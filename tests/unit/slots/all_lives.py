"""Random lives beside the other tests: a share for every processor, using what those leave idle."""

import os
from typing import Final

from tests.beside import Beside


class Lives:
    """`count` lives, begun."""

    def __init__(self, count: int) -> None:
        self._count: Final = count
        shares = os.cpu_count() or 1
        self._shares: Final = [
            Beside("tests.unit.slots.seeds", str(share), str(count), str(shares)) for share in range(shares)
        ]

    def told(self) -> None:
        """Wait for their end; AssertionError with the story of the first life that broke a promise."""
        told = [share.told() for share in self._shares]
        assert sum(int(text.rpartition("lived ")[2]) for text in told) == self._count, told

    def end(self) -> None:
        """Nobody asks any more."""
        for share in self._shares:
            share.end()
