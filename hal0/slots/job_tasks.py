"""Jobs that one task each works on: one per key at a time, given up with their job, interrupted when hal0 ends."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

from hal0.lib.aio import cancelled
from hal0.slots.jobs import Job, Jobs

Key = TypeVar("Key")


class JobTasks(Generic[Key]):
    """`closing`: hal0 ends, and what is cancelled now was interrupted."""

    def __init__(self, jobs: Jobs) -> None:
        self.closing = False
        self._jobs = jobs
        self._under_way: dict[Key, tuple[Job, asyncio.Task[None]]] = {}

    def get(self, key: Key) -> Job | None:
        """The job under way."""
        known = self._under_way.get(key)
        return None if known is None else known[0]

    def start(self, key: Key, job: Job, doing: str, work: Coroutine[Any, Any, None]) -> Job:
        """Have the job end as `work` does; `doing` as for `Jobs.ending`. There is none under way for this key."""
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._see_through(job, doing, work), name=doing)
        self._under_way[key] = (job, task)
        task.add_done_callback(lambda _: self._under_way.pop(key))

        def give_up() -> None:
            loop.call_soon(task.cancel)  # a task that is cancelled before its first step never ends its job

        job.on_cancel = give_up
        return job

    async def aclose(self) -> None:
        """End what is under way and wait for it."""
        self.closing = True
        await asyncio.sleep(0)  # see `give_up`
        for _, task in list(self._under_way.values()):
            await cancelled(task)

    async def _see_through(self, job: Job, doing: str, work: Coroutine[Any, Any, None]) -> None:
        with self._jobs.ending(job, doing, lambda: self.closing):
            await work
