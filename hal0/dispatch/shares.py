"""Whose turn comes first among slots that do not fit together: callers have equal shares, however many slots they want.

As in a `Line`, everybody goes by the number of their own turns before this one. The count of who was away starts where
the others are: nothing is saved up. Pure but for what it remembers of the turns there have been.
"""

import math
from collections.abc import Collection, Mapping
from typing import TypeAlias

from hal0.vocab import SlotName

Key: TypeAlias = str | None
Waiting: TypeAlias = Mapping[SlotName, Mapping[Key, float]]
"""Slot -> who waits for its turn, and since when."""


class Shares:
    def __init__(self) -> None:
        self._had: dict[Key, int] = {}
        self._now = 0  # the share of the last turn

    def of(self, waiting: Waiting) -> dict[SlotName, float]:
        """The share of each slot: that of the caller whose turn is the next of all who wait for it."""
        wanted: dict[Key, list[tuple[float, SlotName]]] = {}
        for slot, callers in waiting.items():
            for key, since in callers.items():
                wanted.setdefault(key, []).append((since, slot))
        shares: dict[SlotName, float] = dict.fromkeys(waiting, math.inf)
        for key, slots in wanted.items():
            for share, (_, slot) in enumerate(sorted(slots), max(self._had.get(key, 0), self._now)):
                shares[slot] = min(shares[slot], share)
        return shares

    def turn(self, share: float, callers: Collection[Key]) -> None:
        """It is the turn of a slot with this share, for these callers."""
        self._now = max(self._now, 0 if share == math.inf else int(share))
        had = {key: max(self._had.get(key, 0), self._now) + 1 for key in callers}
        self._had = {key: count for key, count in (self._had | had).items() if count > self._now}
