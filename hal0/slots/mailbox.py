"""The mailbox of a slot's actor: what happened and what was asked, in the order it came."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from hal0.errors import Hal0Error
from hal0.lib.clock import Clock
from hal0.slots.happenings import Beside, Happening, Life
from hal0.slots.state import NEVER
from hal0.vocab import Phase

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Message:
    """A happening; dropped when its step, container or phase is not the present one any more."""

    happening: Happening
    step: int | None = None
    container: str | None = None
    phase: Phase | None = None

    def is_of(self, life: Life, step: int) -> bool:
        """It is about what is so now, not about what is over."""
        whose = life.facts.next if isinstance(self.happening, Beside) else life.facts.current
        return (
            self.step in (None, step)
            and (self.container is None or (whose is not None and whose.name == self.container))
            and self.phase in (None, life.phase)
        )


@dataclass(frozen=True, slots=True)
class Call:
    """Something to do in turn. `refuse` is told instead when the actor ends first."""

    act: Callable[[], None]
    refuse: Callable[[Hal0Error], None] = lambda _error: None


Mail: TypeAlias = Message | Call


class Mailbox:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._queue: asyncio.Queue[Mail] = asyncio.Queue()

    def put(self, mail: Mail) -> None:
        self._queue.put_nowait(mail)

    async def in_turn(self, action: Callable[[], T]) -> T:
        """Have `action` done in turn and wait for its result; a caller who leaves does not take it back."""
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def act() -> None:
            try:
                result = action()
            except Hal0Error as err:
                refuse(err)
            else:
                if not answer.done():
                    answer.set_result(result)

        def refuse(error: Hal0Error) -> None:
            if not answer.done():
                answer.set_exception(error)

        self._queue.put_nowait(Call(act, refuse))
        return await answer

    async def next(self, wake_at: float) -> Mail | None:
        """The next mail; None when `wake_at` (the clock's time) comes first."""
        if wake_at == NEVER or not self._queue.empty():
            return await self._queue.get()
        try:
            async with asyncio.timeout(max(wake_at - self._clock.now(), 0.0)):
                return await self._queue.get()
        except TimeoutError:
            return None

    def refuse_all(self, error: Hal0Error) -> None:
        """Nobody reads any more: whoever waits for a turn is told; what happened is found out again at boot."""
        while not self._queue.empty():
            mail = self._queue.get_nowait()
            if isinstance(mail, Call):
                mail.refuse(error)
