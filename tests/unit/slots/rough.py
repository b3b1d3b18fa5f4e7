"""An engine that hangs or fails when told to, and looks at what a disk in memory holds."""

import asyncio

from hal0.errors import Hal0Error
from hal0.slots.jobs import Job
from hal0.slots.record import SlotRecord, dump, load
from hal0.wire.jobs import JobState
from tests.fakes.engine import FlakyEngine, StalledEngine
from tests.fakes.world import World

REFUSED = Hal0Error("engine.failed", "cannot: it will not")
AWAY = Hal0Error("engine.unreachable", "cannot reach podman")


class RoughEngine(StalledEngine, FlakyEngine):
    async def _fault(self, verb: str, target: str) -> None:
        await StalledEngine._fault(self, verb, target)
        await FlakyEngine._fault(self, verb, target)


def on_disk(world: World, slot: str = "primary") -> SlotRecord:
    assert world.disk is not None
    return load(world.disk.files[world.folder / "slots" / slot / "state.json"])


def remember(world: World, past: SlotRecord) -> None:
    assert world.disk is not None
    world.disk.files[world.folder / "slots" / past.name / "state.json"] = dump(past)


async def ends(job: Job, within_s: float) -> JobState:
    async with asyncio.timeout(within_s):
        return (await job.wait()).state
