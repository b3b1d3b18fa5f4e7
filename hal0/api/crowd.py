"""How many connections clients may hold: they may not take the open files that hal0 needs to reach its slots."""

import resource
from collections.abc import Callable, Collection
from typing import Final, Protocol

# Far beyond the thousand streams that hal0 is made for.
_MOST: Final = 8192
# Of the open files one half is the clients'; the other is for the way on, one a request, and for all else.
_SHARE: Final = 2


class Member(Protocol):
    """One connection."""

    @property
    def quiet_since(self) -> float | None:
        """None: a request is under way, or it is not to be ended for another reason."""

    def leave(self) -> None:
        """End it now."""


class Crowd:
    """Makes room where there is none: who has been quiet longest goes, whose request is under way never does.

    `inherited` are the connections that are aiohttp's by now.
    """

    def __init__(self, inherited: Callable[[], Collection[Member]], *, most: int | None = None) -> None:
        self._inherited = inherited
        self._most = most or _most()

    def admits(self, newcomer: Member, fronts: Collection[Member]) -> bool:
        """Whether there is room for it, which is of `fronts`; room is made by ending another that is quiet."""
        inherited = self._inherited()
        if len(fronts) + len(inherited) <= self._most:
            return True
        for members in (inherited, fronts):
            quiet = [
                (since, member)
                for member in members
                if member is not newcomer and (since := member.quiet_since) is not None
            ]
            if quiet:
                min(quiet, key=lambda pair: pair[0])[1].leave()
                return True
        return False


def _most() -> int:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if files == resource.RLIM_INFINITY else min(_MOST, files // _SHARE)
