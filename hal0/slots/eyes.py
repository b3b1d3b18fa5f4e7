"""The watcher tasks of one slot: exactly the ones its phase and container need."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Final

from hal0.lib.aio import cancelled
from hal0.slots.happenings import Happening
from hal0.slots.record import Container
from hal0.slots.serving import Traffic
from hal0.slots.watchers import Watched, Watchers
from hal0.vocab import Phase, SlotName

log = logging.getLogger(__name__)

_STANDING: Final = ("end", "meter", "health")  # as long as there is a container to look at
_AGAIN_S: Final = 1.0  # after a mistake of hal0's: a slot that nobody watches would stand still, or die unnoticed

# What is said of a container that is not the current one any more, or of a phase that is over, is dropped by the
# receiver: a watcher may have spoken just before it was cancelled. A death has no phase.
Report = Callable[[Container, Phase | None, Happening], None]


class Eyes:
    def __init__(self, slot: SlotName, watchers: Watchers, report: Report, requests: Callable[[], Traffic]) -> None:
        self._slot = slot
        self._watchers = watchers
        self._report = report
        self._requests = requests
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._closing: set[asyncio.Task[None]] = set()  # told to end, not ended yet
        self._hurry = asyncio.Event()
        self._on: tuple[str, Phase] | None = None

    def look_at(self, watched: Watched | None, phase: Phase) -> None:
        """Watch it as `phase` asks for; None ends all watching."""
        wanted = (watched.container.name, phase) if watched is not None else None
        if wanted == self._on:
            return
        same = wanted is not None and self._on is not None and wanted[0] == self._on[0]
        self._on = wanted
        for role in [role for role in self._tasks if role in _STANDING]:
            if not (same and role != "health"):
                self._end(self._tasks.pop(role))
        if watched is None:
            return
        container = watched.container
        if "end" not in self._tasks:
            whenever = self._poster(container, None)
            self._stand("end", lambda: self._watchers.end(container, whenever))
            self._stand("meter", lambda: self._watchers.meter(watched, whenever))
        post = self._poster(container, phase)
        if phase is Phase.WARMING:
            self._stand("health", lambda: self._watchers.warm(watched, self._hurry, post))
        else:
            self._stand("health", lambda: self._watchers.live(watched, self._requests, self._hurry, post))

    def confirm(self, container: Container) -> None:
        """Something looked wrong: have a look, once at a time."""
        self._hurry.set()
        if "confirm" not in self._tasks:
            self.start("confirm", self._watchers.confirm(container, self._poster(container, None)))

    def busy(self, role: str) -> bool:
        return role in self._tasks

    def start(self, role: str, watching: Coroutine[None, None, None]) -> None:
        """Run `watching` as a task of this slot until it ends or the slot closes."""
        task = asyncio.create_task(watching, name=f"slot-{self._slot}-{role}")
        self._tasks[role] = task
        task.add_done_callback(lambda done: self._ended(role, done))

    def _stand(self, role: str, watching: Callable[[], Coroutine[None, None, None]]) -> None:
        self.start(role, self._until_told(role, watching))

    async def _until_told(self, role: str, watching: Callable[[], Coroutine[None, None, None]]) -> None:
        """Until it has said what it watches for; a mistake on the way begins it anew."""
        while True:
            try:
                return await watching()
            except Exception:  # whatever it was: the next look may go well, and none is worse
                log.exception("slot %s: watcher %s met a mistake of hal0's: it starts again", self._slot, role)
                await asyncio.sleep(_AGAIN_S)

    def _end(self, task: asyncio.Task[None]) -> None:
        """Without waiting: what it still says is stale."""
        task.cancel()
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _ended(self, role: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(role) is task and role not in _STANDING:
            del self._tasks[role]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("slot %s: watcher %s ended by a mistake of hal0's", self._slot, role, exc_info=error)

    def _poster(self, container: Container, phase: Phase | None) -> Callable[[Happening], None]:
        return lambda happening: self._report(container, phase, happening)

    async def close(self) -> None:
        self._on = None
        tasks, self._tasks = [*self._tasks.values(), *self._closing], {}
        for task in tasks:
            await cancelled(task)
