"""The one effect task of a slot: started with a step number, ended before the next begins."""

import asyncio
from collections.abc import Callable
from typing import Final

from hal0.lib.aio import cancelled
from hal0.slots.happenings import Happening
from hal0.slots.orders import Order, carry_out
from hal0.slots.state import Effect
from hal0.slots.tools import Tools

# What is fetched is written to disks and shares that may hang, and makes no container: nobody has to wait for its end.
_FETCH_ENDS_S: Final = 1.0


class Hands:
    """`report(happening, step)` gets progress and exactly one end; a step that is not `step` any more is stale."""

    def __init__(self, tools: Tools, report: Callable[[Happening, int], None]) -> None:
        self._tools = tools
        self._report = report
        self._task: asyncio.Task[None] | None = None
        self._fetches = False
        self._left: set[asyncio.Task[None]] = set()  # told to end, and not waited for any longer
        self.step = 0

    def start(self, order: Order) -> None:
        self.step += 1
        self._fetches = order.effect is Effect.FETCH
        name = f"slot-{order.subject.slot}-{order.effect}"
        self._task = asyncio.create_task(self._run(order, self.step), name=name)

    async def stop(self) -> None:
        """Cancel the effect under way and wait for its end; what it still says is stale."""
        task, self._task = self._task, None
        if task is None:
            return
        self.step += 1
        if not self._fetches:
            await cancelled(task)
            return
        task.cancel()
        self._left.add(task)
        task.add_done_callback(self._left.discard)
        await asyncio.wait([task], timeout=_FETCH_ENDS_S)

    async def _run(self, order: Order, step: int) -> None:
        def progress(happening: Happening) -> None:
            self._report(happening, step)

        if order.effect is Effect.FETCH and self._left:  # one that is still being put down is not taken up again
            await asyncio.wait(set(self._left))
        progress(await carry_out(self._tools, order, progress))
