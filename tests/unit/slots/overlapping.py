"""What stories of swaps by overlap are told with: moments of a swap, and an eye for gaps in the service."""

import asyncio
from typing import Any, Final

from hal0.slots.record import SwapStep
from hal0.slots.slot import Slot
from tests.fakes.engine import Program
from tests.fakes.world import Running
from tests.unit.slots.rough import RoughEngine
from tests.vloop import until

SLOW: Final = Program(ready_after_s=5)


class Gaps:
    """Watches a slot: `seen` is every moment in which no request could have gone in."""

    def __init__(self, slot: Slot) -> None:
        self.seen: list[Any] = []
        self.models: list[str | None] = []
        self._slot = slot
        self._task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            snapshot = self._slot.snapshot()
            if not snapshot.routable:
                self.seen.append(snapshot)
            if self.models[-1:] != [snapshot.model]:
                self.models.append(snapshot.model)
            await self._slot.changed()

    async def __aenter__(self) -> "Gaps":
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(0)
        self._task.cancel()
        await asyncio.wait([self._task])


def step(hal0: Running) -> SwapStep | None:
    swap = hal0.primary.life.facts.swap
    return swap.step if swap is not None else None


async def warming(hal0: Running, engine: RoughEngine, program: Program = SLOW) -> Any:
    """`one` serves, `two` warms beside it; the swap's job."""
    await hal0.load()
    engine.plan(program)
    job = await hal0.supervisor.swap("primary", "two")
    await until(lambda: step(hal0) is SwapStep.WARMING, within_s=5)
    return job
