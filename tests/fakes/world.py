"""The real supervisor on a fake engine: everything a slot's life needs, in one place, on the loop's time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hal0.config.defaults import ModelDefaults
from hal0.config.root import RootConfig
from hal0.config.slots import SlotConfig
from hal0.engine.base import Engine, ImageProgress
from hal0.errors import Hal0Error
from hal0.events.bus import Bus
from hal0.hardware.cards import Gpu, Vendor
from hal0.hardware.cpu import Cpu
from hal0.hardware.memory import Memory
from hal0.hardware.snapshot import Machine
from hal0.providers.base import Provider
from hal0.slots.adopt import LABEL_SLOT
from hal0.slots.effects import Effects
from hal0.slots.gauge import Gauge
from hal0.slots.jobs import Job, Jobs
from hal0.slots.plan import Place
from hal0.slots.ports import PortLeases
from hal0.slots.record import load
from hal0.slots.slot import Slot
from hal0.slots.starts import Bring, Starts
from hal0.slots.steward import Steward
from hal0.slots.store import Remembered, SlotStore
from hal0.slots.supervisor import Supervisor
from hal0.slots.tools import Tools
from hal0.slots.watchers import Watchers
from hal0.vocab import Capability, Device, Phase, ProviderName
from hal0.wire.jobs import JobView
from tests.factories import INSTANCE
from tests.fakes.engine import FAKE_IMAGE, FakeEngine
from tests.fakes.provider import FakeHealth, FakePainter
from tests.vloop import LoopClock, until


@dataclass(frozen=True, slots=True)
class FakeModel:
    id: str
    files: tuple[Path, ...]
    size_bytes: int = 1_000_000
    context_length: int | None = 4096
    format: str = "gguf"
    architecture: str = "llama"
    directory: Path | None = None
    capabilities: frozenset[Capability] = frozenset({Capability.CHAT, Capability.COMPLETION})
    mmproj: Path | None = None
    mmproj_bytes: int = 0
    cache_bytes_per_token: int | None = None
    demo: bool = False
    riders: Mapping[Capability, str] = field(default_factory=dict)
    defaults: ModelDefaults | None = None


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
        self.id: str | None = FAKE_IMAGE.id

    async def ensure(self, key: str, on_progress: Callable[[ImageProgress], None]) -> str:
        if self.missing:
            raise Hal0Error("image.missing", f"cannot find image {key}")
        return FAKE_IMAGE.id

    async def local(self, key: str) -> str | None:
        return None if self.missing else self.id


class MortalStore(SlotStore):
    """Files on the real disk until the process is killed: then nothing is written any more."""

    alive = True

    def kill(self) -> None:
        self.alive = False

    async def _write(self, path: Path, data: bytes) -> None:
        if not self.alive:
            raise asyncio.CancelledError
        await super()._write(path, data)


@dataclass
class Disk:
    """A disk in memory that outlives processes. Only what has landed is there; `full` refuses, `slow_s` delays."""

    files: dict[Path, bytes] = field(default_factory=dict)
    full: bool = False
    slow_s: float = 0.002
    seen: Callable[[Path, bytes], None] = lambda _path, _data: None


class DiskStore(MortalStore):
    """The slots' files on a `Disk`, in the order asked for, as the one writer thread has it."""

    def __init__(self, slots_dir: Path, disk: Disk) -> None:
        super().__init__(slots_dir)
        self.disk = disk
        self._free_at = 0.0

    async def _write(self, path: Path, data: bytes) -> None:
        if not self.alive:
            raise asyncio.CancelledError
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._free_at = max(self._free_at, loop.time()) + self.disk.slow_s
        loop.call_at(self._free_at, self._land, path, data, done)  # also when the caller leaves
        await done

    def _land(self, path: Path, data: bytes, done: "asyncio.Future[None]") -> None:
        full = self.disk.full
        if self.alive and not full:
            self.disk.files[path] = data
            self.disk.seen(path, data)
        if done.done():
            return
        if not self.alive:
            done.cancel()
        elif full:
            done.set_exception(Hal0Error("state.write_failed", f"cannot write {path}: no space left on device"))
        else:
            done.set_result(None)

    def _read(self, slot: str) -> Remembered:
        def text(name: str) -> str:
            return self.disk.files.get(self.directory(slot) / name, b"").decode().strip()

        data = self.disk.files.get(self.directory(slot) / "state.json")
        known = {file for file in self.disk.files if file.parent == self.directory(slot)}
        secrets = {int(file.suffix[1:]): text(file.name) for file in known if file.stem == "secret"}
        gpu = self.disk.files.get(self.directory(slot) / "gpu.json")
        model = text("override.env").partition("=")[2] or None
        return Remembered(load(data) if data else None, secrets, model, gpu=gpu)


class FitsAnywhere:
    """A machine with every device and every flag; `faults` are what it has not, by device or image."""

    def __init__(self) -> None:
        self.faults: dict[str, Hal0Error] = {}

    async def check(self, config: SlotConfig, image: str, device: Device) -> None:
        for name in (device, image):
            if name in self.faults:
                raise self.faults[name]


@dataclass
class World:
    """A supervisor and its surroundings. Entering `hal0` again is a new process on the same disk and engine."""

    folder: Path
    ports: range
    engine: FakeEngine
    models: FakeModels = field(default_factory=FakeModels)
    images: FakeImages = field(default_factory=FakeImages)
    slots: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    disk: Disk | None = None  # None: real files below `folder`
    ram_bytes: int = 64 * 2**30
    gtt_bytes: int = 0  # of it, what an APU may borrow for slots with `device = "vulkan"`; 0: there is none
    memory_limit: int | None = None
    idle_restore_min: int = 60
    adapter: Engine | None = None  # what hal0 is given instead of `engine` itself: another way to the same containers
    polite: bool = False  # leave as SIGTERM does: what is due is still written
    fits: FitsAnywhere = field(default_factory=FitsAnywhere)
    gauge: Gauge = field(default_factory=Gauge)  # asked about the processes that a program names
    bring: Bring | None = None  # fetches models that are not here

    on_gpu: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self.models.add(self.folder / "models", "one", "two", "bad")

    async def measure(self, *, anew: bool = True) -> Machine:
        """A machine of `ram_bytes`, with an APU or without; what containers take is not available."""
        taken = sum(container.program.memory_bytes for container in self.engine.running)
        memory = Memory(self.ram_bytes, max(self.ram_bytes - taken, 0))
        return Machine(cpu=Cpu(), memory=memory, gpus=(self._apu(),) if self.gtt_bytes else ())

    def _apu(self) -> Gpu:
        mine = [c for c in self.engine.running if c.spec.labels[LABEL_SLOT] in self.on_gpu]
        return Gpu(
            index=0,
            vendor=Vendor.AMD,
            name="Radeon 8060S",
            driver="amdgpu",
            pci_id="1002:1586",
            address="0000:c5:00.0",
            apu=True,
            gtt_total=self.gtt_bytes,
            gtt_used=sum(c.program.memory_bytes for c in mine),
        )

    def config(self, **slots: Mapping[str, Any]) -> RootConfig:
        engine: dict[str, Any] = {"idle_restore_min": self.idle_restore_min}
        engine |= {} if self.memory_limit is None else {"memory_limit": self.memory_limit}
        tables = {"primary": {"model": "one"}, **self.slots, **slots}
        self.on_gpu = {name for name, table in tables.items() if table.get("device") == "vulkan"}
        return RootConfig.model_validate({"engine": engine, "slots": tables})

    @contextlib.asynccontextmanager
    async def hal0(self, **slots: Mapping[str, Any]) -> AsyncIterator["Running"]:
        """One process of hal0, from boot to its end; leaving kills it: the disk keeps what has landed."""
        config = self.config(**slots)
        clock = LoopClock()
        slots_dir = self.folder / "slots"
        store = MortalStore(slots_dir) if self.disk is None else DiskStore(slots_dir, self.disk)
        supervisor: Supervisor
        bus = Bus(lambda: supervisor.snapshot_events())  # noqa: PLW0108  bound later
        engine = self.adapter or self.engine
        provider = FakeHealth(self.engine)
        providers: dict[ProviderName, Provider] = dict.fromkeys(ProviderName, provider)
        providers[ProviderName.COMFYUI] = FakePainter(self.engine)
        place = Place(INSTANCE)
        jobs = Jobs(self.folder / "jobs.json", bus, clock)
        starts = Starts(self.images, self.models, store, place, self.fits, self.bring)
        tools = Tools(
            starts=starts,
            effects=Effects(engine, starts, store, place),
            store=store,
            ports=PortLeases(self.ports),
            steward=Steward(self.measure, clock, store),
            jobs=jobs,
            watchers=Watchers(engine, None, clock, self.gauge),  # type: ignore[arg-type]
            clock=clock,
            place=place,
        )
        supervisor = Supervisor(config, engine, self.models, providers, tools, bus)  # type: ignore[arg-type]
        try:
            await supervisor.start()
            yield Running(self, supervisor, tools, provider)
        finally:
            if not self.polite:
                store.kill()
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
