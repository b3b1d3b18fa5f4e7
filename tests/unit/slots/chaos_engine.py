"""An engine that can be told to misbehave in every way at any moment, and what may run in its containers."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from hal0.engine.base import ContainerInfo, ContainerSpec, EngineEvent
from tests.fakes.engine import AmnesiacEngine, FlakyEngine, Program, StalledEngine

VERBS: Final = ("create", "start", "stop", "remove", "inspect", "containers", "logs")  # that may stall or fail
TAKING: Final = Program(memory_bytes=140 * 2**20)  # nearly all of what a small model is estimated to need
PROGRAMS: Final = tuple(
    replace(program, memory_bytes=TAKING.memory_bytes)
    for program in (
        Program(ready_after_s=5),
        Program(ready_after_s=None),
        Program(ready_after_s=None, dies_after_s=0.05, exit_code=137),
        Program(ready_after_s=None, dies_after_s=0.2, last_words=("cannot load model: junk",)),
        Program(dies_after_s=3),
        Program(ignores_sigterm=True),
        Program(stops_after_s=5),
        Program(broken="it lists no model"),
    )
)


class ChaosEngine(AmnesiacEngine, StalledEngine, FlakyEngine):
    """Stalls, refuses, forgets and falls silent when told to; every verb is first shown to `witness`."""

    def __init__(self) -> None:
        super().__init__()
        self.deaf = False
        self.witness: Callable[[str, str], None] = lambda _verb, _target: None
        self.starting: Callable[[ContainerSpec], None] = lambda _spec: None

    def _deliver(self, event: EngineEvent) -> None:
        if not self.deaf:
            super()._deliver(event)

    async def watch_exit(self, info: ContainerInfo) -> None:
        if self.deaf:
            await asyncio.get_running_loop().create_future()
        await super().watch_exit(info)

    async def _fault(self, verb: str, target: str) -> None:
        self.witness(verb, target)
        await StalledEngine._fault(self, verb, target)
        await FlakyEngine._fault(self, verb, target)

    def _next_program(self, spec: ContainerSpec) -> Program:
        self.starting(spec)
        return super()._next_program(spec)

    def calm(self) -> None:
        """Every fault is over, except that events may still be lost."""
        self.release()
        self._before.clear()
        self._after.clear()
        self._planned.clear()
        self.program = TAKING
        self.busy_ports.clear()
