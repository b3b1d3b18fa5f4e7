"""The moment before a launch: what is to be created has a generation, a name and a port, and they are on disk."""

from collections.abc import Awaitable, Callable
from typing import Final

from hal0.errors import Hal0Error
from hal0.hardware.sockets import listener_of
from hal0.lib.aside import Aside
from hal0.slots import failure as failures
from hal0.slots import happenings as h
from hal0.slots.berths import Berths
from hal0.slots.present import Present
from hal0.slots.warmup import jitter
from hal0.vocab import Role

_NAMED_S: Final = 0.5  # a look at every process; nobody waits longer for a name


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
        self._listeners = Aside(listener_of)

    async def prepare(self) -> bool:
        """True when the launch may begin; when not, the slot knows why."""
        try:
            self._reserve()
        except Hal0Error as err:
            if self._it.life.overlaps:  # without a second port the present container has to leave first
                self._fold(h.Crowded(err.message))
            else:
                self._fail(await self._named(err))
            return False
        if await self._save():
            return True
        before = self._it.life
        self._it.learn(**{"next" if before.overlaps else "current": None})
        self._berths.give_back(before, self._it.life)
        self._fail(Hal0Error("state.write_failed", "cannot start the container: the slot's record cannot be written"))
        return False

    def _reserve(self) -> None:
        """Raises slot.port_taken or slot.no_free_port."""
        it, beside = self._it, self._it.life.overlaps
        container = self._berths.reserve(it.life, it.config, Role.NEXT if beside else Role.CURRENT)
        self._fold(h.Beside(h.Reserved(container)) if beside else h.Reserved(container))

    def _fail(self, error: Hal0Error) -> None:
        failed = h.Failed(failures.of_error(error, self._it.now), jitter())
        self._fold(h.Beside(failed) if self._it.life.overlaps else failed)

    async def _named(self, error: Hal0Error) -> Hal0Error:
        """With the program that holds the port, where it can be seen."""
        port = error.details.get("port") if error.code == "slot.port_taken" else None
        holder = await self._listeners.within(_NAMED_S, port) if port is not None else None
        if holder is None:
            return error
        return Hal0Error(error.code, f"cannot use port {port}: {holder} listens there", details=error.details)
