"""The one effect task of a slot: started with a step number, ended before the next begins."""

import asyncio
from collections.abc import Callable

from hal0.lib.aio import cancelled
from hal0.slots.happenings import Happening
from hal0.slots.orders import Order, carry_out
from hal0.slots.tools import Tools


class Hands:
    """`report(happening, step)` gets progress and exactly one end; a step that is not `step` any more is stale."""

    def __init__(self, tools: Tools, report: Callable[[Happening, int], None]) -> None:
        self._tools = tools
        self._report = report
        self._task: asyncio.Task[None] | None = None
        self.step = 0

    def start(self, order: Order) -> None:
        self.step += 1
        name = f"slot-{order.subject.slot}-{order.effect}"
        self._task = asyncio.create_task(self._run(order, self.step), name=name)

    async def stop(self) -> None:
        """Cancel the effect under way and wait for its end; what it still says is stale."""
        task, self._task = self._task, None
        if task is not None:
            self.step += 1
            await cancelled(task)

    async def _run(self, order: Order, step: int) -> None:
        def progress(happening: Happening) -> None:
            self._report(happening, step)

        progress(await carry_out(self._tools, order, progress))
