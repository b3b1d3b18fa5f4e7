"""In which order upstreams that list the same model are asked: priority first, then chance by weight. Pure."""

from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeVar

Chance = Callable[[], float]
"""A number from [0, 1), another one at each call."""

# Chance may answer 0, which has no logarithm and must not decide for ever.
_LEAST: Final = 2.0**-53


class Weighed(Protocol):
    @property
    def priority(self) -> int: ...

    @property
    def weight(self) -> int: ...


W = TypeVar("W", bound=Weighed)


def ordered(candidates: Sequence[W], chance: Chance) -> list[W]:
    """Every candidate once. Within one priority the first is drawn by weight, then the next of the rest, and so on.

    (Drawing without replacement is sorting by u ** (1 / weight), u uniform.)
    """
    if len(candidates) < 2:
        return list(candidates)
    drawn = [
        (-each.priority, -(max(chance(), _LEAST) ** (1.0 / each.weight)), at) for at, each in enumerate(candidates)
    ]
    return [candidates[at] for _, _, at in sorted(drawn)]
