"""A store that hal0 pulls into from a hub that misbehaves, one process after the other."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hal0.config.models import ModelsConfig
from hal0.events.bus import Bus
from hal0.lib.clock import SteadyClock
from hal0.models import demo
from hal0.models.registry import Registry
from hal0.pulls import spans
from hal0.pulls.pulls import Pulls
from hal0.slots.jobs import Job, Jobs
from hal0.wire.jobs import JobState
from hal0.wire.pulls import PullRequest
from tests.fakes.hub import Hub, hub
from tests.vloop import until

GGUF = demo.build()
ROOT = Path(__file__).parents[2]
FILE = "tiny-Q4_K_M.gguf"
MODEL = "tiny-q4_k_m"


@dataclass
class Place:
    """One hal0's store; `hal0()` is a process that pulls into it."""

    folder: Path
    hub: Hub
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def store(self) -> Path:
        return self.folder / "store"

    async def in_place(self) -> list[str]:
        """Every file of the store that is not on its way."""
        return await asyncio.to_thread(self._in_place)

    def _in_place(self) -> list[str]:
        found = [path for path in self.store.rglob("*") if path.is_file()]
        return sorted(str(path.relative_to(self.store)) for path in found if ".pulls" not in path.parts)

    @asynccontextmanager
    async def hal0(self, **changes: Any) -> AsyncIterator[Pulls]:
        registry = await asyncio.to_thread(self.registry)
        clock = SteadyClock(asyncio.get_running_loop())
        jobs = Jobs(self.folder / "jobs.json", Bus(list), clock)
        await asyncio.to_thread(jobs.load)
        config = ModelsConfig(hf_endpoint=self.hub.endpoint, **self.config)
        options: dict[str, Any] = {"pause_s": (0.001, 0.002), "patience_s": 20.0, **changes}
        pulls = Pulls(registry, jobs, clock, lambda: config, {}, **options)
        await pulls.boot()
        try:
            yield pulls
        finally:
            await pulls.aclose()
            await jobs.save()

    def registry(self) -> Registry:
        found = Registry(self.store, (), self.folder / "registry.toml")
        found.scan()
        return found

    async def model(self) -> bytes:
        def read() -> bytes:
            return self.registry().require(MODEL).files[0].read_bytes()

        return await asyncio.to_thread(read)


@asynccontextmanager
async def pulling(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    """A hub with one model, which comes in four ranges although it is small."""
    monkeypatch.setattr(spans, "_WORTH_BYTES", len(GGUF) // 5)
    async with hub() as made:
        made.files[FILE] = GGUF
        yield Place(folder, made)


async def pulled(pulls: Pulls, model: str = "acme/tiny", **asked: Any) -> Job:
    job = await pulls.start(PullRequest(model=model, **asked))
    async with asyncio.timeout(20):
        await job.wait()
    return job


async def refused(pulls: Pulls, model: str = "acme/tiny", **asked: Any) -> dict[str, Any]:
    """The error of a pull that begins and fails."""
    job = await pulled(pulls, model, **asked)
    assert job.view.state is JobState.FAILED
    assert job.view.error is not None
    return job.view.error


async def partial(place: Place) -> list[Path]:
    return await asyncio.to_thread(lambda: sorted(place.store.glob(".pulls/*/*.part")))


async def begun(place: Place, pulls: Pulls, *, own: bool = True) -> Job:
    """A pull of which some has come, and no more does."""
    place.hub.held = True
    job = await pulls.start(PullRequest(model="acme/tiny"), own=own)
    await until(lambda: pulls.views()[0].pace.done_bytes, within_s=20)
    return job
