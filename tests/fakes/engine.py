"""Container engines in memory, named for how they misbehave.

FakeEngine         well behaved: podman 4.3's median delays, effects that go on when the caller leaves
+-- SlowEngine     every verb takes many times as long
+-- DyingEngine    containers die by themselves a while after their start
+-- DeafEngine     no event is ever told, watch_exit never returns
+-- AmnesiacEngine loses containers without a word
+-- StalledEngine  chosen verbs hang until released
+-- FlakyEngine    chosen verbs fail as scripted, before or after they took effect
"""

import asyncio
from collections import deque

from hal0.engine.base import ContainerInfo, EngineEvent
from hal0.lib.clock import Clock
from tests.fakes.memory_engine import FAKE_IMAGE, Delays, FakeEngine
from tests.fakes.program import FakeContainer, Program

__all__ = [
    "FAKE_IMAGE",
    "AmnesiacEngine",
    "DeafEngine",
    "Delays",
    "DyingEngine",
    "FakeContainer",
    "FakeEngine",
    "FlakyEngine",
    "Program",
    "SlowEngine",
    "StalledEngine",
]


class SlowEngine(FakeEngine):
    """Every verb takes `factor` times as long, events too."""

    def __init__(self, *, factor: float = 20.0, clock: Clock | None = None) -> None:
        super().__init__(clock=clock, delays=Delays().times(factor))


class DyingEngine(FakeEngine):
    """Every container ends by itself `after_s` seconds after its start, the way `program` says."""

    def __init__(self, *, after_s: float = 5.0, exit_code: int = 137, clock: Clock | None = None) -> None:
        super().__init__(clock=clock)
        self.program = Program(dies_after_s=after_s, exit_code=exit_code)


class DeafEngine(FakeEngine):
    """Nothing is told: no events after the first RESYNC, and watch_exit waits for ever."""

    def _deliver(self, event: EngineEvent) -> None:
        return

    async def watch_exit(self, info: ContainerInfo) -> None:
        await asyncio.get_running_loop().create_future()


class AmnesiacEngine(FakeEngine):
    """Loses containers: `forget` makes one vanish, process and all, without an event."""

    def forget(self, container: FakeContainer) -> None:
        del self._made[container.id]
        container.on_exit = _unnoticed
        container.signal("SIGKILL")


def _unnoticed(_: FakeContainer) -> None:
    return


class StalledEngine(FakeEngine):
    """The verbs named by `stall` hang until `release`; cancelling the caller ends its wait."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        super().__init__(clock=clock)
        self._stalled: set[str] = set()
        self._released = asyncio.Event()

    def stall(self, *verbs: str) -> None:
        self._stalled.update(verbs)
        self._released.clear()

    def release(self) -> None:
        self._stalled.clear()
        self._released.set()

    async def _fault(self, verb: str, target: str) -> None:
        while verb in self._stalled:
            await self._released.wait()


class FlakyEngine(FakeEngine):
    """Verbs fail as scripted: each `fail` is used up by the verb's next calls, in order."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        super().__init__(clock=clock)
        self._before: dict[str, deque[Exception]] = {}
        self._after: dict[str, deque[Exception]] = {}

    def fail(self, verb: str, *errors: Exception, after: bool = False) -> None:
        """`after`: the verb takes effect and only its answer is lost (create, start, stop, kill, remove)."""
        (self._after if after else self._before).setdefault(verb, deque()).extend(errors)

    async def _fault(self, verb: str, target: str) -> None:
        if script := self._before.get(verb):
            raise script.popleft()

    async def _answer(self, verb: str, target: str) -> None:
        if script := self._after.get(verb):
            raise script.popleft()
