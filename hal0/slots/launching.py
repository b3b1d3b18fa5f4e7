"""The moment before a launch: what is to be created has a generation, a name and a port, and they are on disk."""

from collections.abc import Awaitable, Callable

from hal0.errors import Hal0Error
from hal0.slots import failure as failures
from hal0.slots import happenings as h
from hal0.slots.berths import Berths
from hal0.slots.present import Present
from hal0.slots.warmup import jitter
from hal0.vocab import Role


class Launching:
    """`fold` is told what came of it, `save` writes the record."""

    def __init__(
        self,
        present: Present,
        berths: Berths,
        fold: Callable[[h.Happening], None],
        save: Callable[[], Awaitable[bool]],
    ) -> None:
        self._it = present
        self._berths = berths
        self._fold = fold
        self._save = save

    async def prepare(self) -> bool:
        """True when the launch may begin; when not, the slot knows why."""
        if not self._reserve():
            return False
        if await self._save():
            return True
        before = self._it.life
        self._it.learn(**{"next" if before.overlaps else "current": None})
        self._berths.give_back(before, self._it.life)
        self._fail(Hal0Error("state.write_failed", "cannot start the container: the slot's record cannot be written"))
        return False

    def _reserve(self) -> bool:
        it, beside = self._it, self._it.life.overlaps
        try:
            container = self._berths.reserve(it.life, it.config, Role.NEXT if beside else Role.CURRENT)
        except Hal0Error as err:
            if beside:  # without a second port the present container has to leave first
                self._fold(h.Crowded(err.message))
            else:
                self._fail(err)
            return False
        self._fold(h.Beside(h.Reserved(container)) if beside else h.Reserved(container))
        return True

    def _fail(self, error: Hal0Error) -> None:
        failed = h.Failed(failures.of_error(error, self._it.now), jitter())
        self._fold(h.Beside(failed) if self._it.life.overlaps else failed)
