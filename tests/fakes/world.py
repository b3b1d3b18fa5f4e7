"""The real supervisor on a fake engine: everything a slot's life needs, in one place, on the loop's time."""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hal0.config.root import RootConfig
from hal0.engine.base import ImageProgress
from hal0.errors import Hal0Error
from hal0.events.bus import Bus
from hal0.providers.base import Provider
from hal0.slots.effects import Effects
from hal0.slots.jobs import Job, Jobs
from hal0.slots.plan import Place
from hal0.slots.ports import PortLeases
from hal0.slots.slot import Slot
from hal0.slots.store import SlotStore
from hal0.slots.supervisor import Supervisor
from hal0.slots.tools import Tools
from hal0.slots.watchers import Watchers
from hal0.vocab import Capability, Phase, ProviderName
from hal0.wire.jobs import JobView
from tests.factories import INSTANCE
from tests.fakes.engine import FAKE_IMAGE, FakeEngine
from tests.fakes.provider import FakeHealth
from tests.vloop import LoopClock, until


@dataclass(frozen=True, slots=True)
class FakeModel:
    id: str
    files: tuple[Path, ...]
    size_bytes: int = 1_000_000
    context_length: int | None = 4096
    capabilities: frozenset[Capability] = frozenset({Capability.CHAT, Capability.COMPLETION})
    mmproj: Path | None = None
    demo: bool = False


@dataclass
class FakeModels:
    """A registry of whatever the test puts in."""

    known: dict[str, FakeModel] = field(default_factory=dict)
    version: int = 0

    def add(self, folder: Path, *names: str) -> None:
        for name in names:
            path = folder / f"{name}.gguf"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"GGUF")
            self.known[name] = FakeModel(name, (path,))
        self.version += 1

    def require(self, model_id: str) -> FakeModel:
        if model_id not in self.known:
            raise Hal0Error("model.not_found", f"cannot find model {model_id}")
        return self.known[model_id]

    def fold(self, name: str) -> str:
        return name

    def scan(self) -> None:
        self.version += 1


class FakeImages:
    """The one image is always there; `missing` makes it gone."""

    def __init__(self) -> None:
        self.missing = False

    async def ensure(self, key: str, on_progress: Callable[[ImageProgress], None]) -> str:
        if self.missing:
            raise Hal0Error("image.missing", f"cannot find image {key}")
        return FAKE_IMAGE.id


@dataclass
class World:
    """A supervisor and its surroundings. `restart` is a new hal0 process on the same disk and engine."""

    folder: Path
    ports: range
    engine: FakeEngine
    models: FakeModels = field(default_factory=FakeModels)
    images: FakeImages = field(default_factory=FakeImages)
    slots: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.models.add(self.folder / "models", "one", "two", "bad")

    @contextlib.asynccontextmanager
    async def hal0(self, **slots: Mapping[str, Any]) -> AsyncIterator["Running"]:
        """One process of hal0, from boot to its end; leaving kills it as SIGKILL would (nothing is said goodbye to)."""
        config = RootConfig.model_validate({"slots": {"primary": {"model": "one"}, **self.slots, **slots}})
        clock = LoopClock()
        store = SlotStore(self.folder / "slots")
        supervisor: Supervisor
        bus = Bus(lambda: supervisor.snapshot_events())
        provider = FakeHealth(self.engine)
        providers: dict[ProviderName, Provider] = dict.fromkeys(ProviderName, provider)
        place = Place(INSTANCE)
        jobs = Jobs(self.folder / "jobs.json", bus, clock)
        tools = Tools(
            effects=Effects(self.engine, self.images, self.models, store, place),
            store=store,
            ports=PortLeases(self.ports),
            jobs=jobs,
            watchers=Watchers(self.engine, None, clock),  # type: ignore[arg-type]
            clock=clock,
            place=place,
        )
        supervisor = Supervisor(config, self.engine, self.models, providers, tools, bus)  # type: ignore[arg-type]
        await supervisor.start()
        try:
            yield Running(self, supervisor, tools, provider)
        finally:
            await supervisor.close()
            await store.aclose()


@dataclass
class Running:
    world: World
    supervisor: Supervisor
    tools: Tools
    provider: FakeHealth

    @property
    def primary(self) -> Slot:
        return self.supervisor.slot("primary")

    def phase(self, slot: str = "primary") -> Phase:
        return self.supervisor.slot(slot).life.phase

    async def reaches(self, phase: Phase, slot: str = "primary", *, within_s: float = 60.0) -> None:
        await until(lambda: self.phase(slot) is phase, within_s=within_s)

    async def done(self, job: Job) -> JobView:
        return await job.wait()

    async def load(self, slot: str = "primary", model: str | None = None) -> JobView:
        return await self.done(await self.supervisor.load(slot, model))


def without_file(model: FakeModel) -> FakeModel:
    """The same model after somebody deleted its file."""
    return replace(model, files=(model.files[0].with_name("gone.gguf"),))
