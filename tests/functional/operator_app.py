"""The whole HTTP surface over real sockets: hal0's own runner, the real supervisor, a fake engine, models on disk."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
import tomlkit

from hal0.access.parts import access_parts
from hal0.api.build import build_app
from hal0.api.runner import serving
from hal0.capabilities.orchestrator import Orchestrator
from hal0.capabilities.orchestrator import World as Surroundings
from hal0.capabilities.prober import Prober
from hal0.capabilities.setup import Setup
from hal0.capabilities.switching import Switching
from hal0.config.live import LiveConfig
from hal0.config.load import load
from hal0.dispatch.dispatcher import Dispatcher
from hal0.dispatch.surface import SPELLINGS
from hal0.engine.checks import Check, CheckState
from hal0.engine.images import ImageService
from hal0.engine.manifest import ImageEntry
from hal0.engine.service import ServiceStatus, Source
from hal0.hardware.advice import Podman
from hal0.lib.aio import cancelled
from hal0.models import demo
from hal0.models.registry import Registry
from hal0.observe.past import Past, Seen, open_past
from hal0.paths import Paths
from hal0.providers.catalog import PROVIDERS
from hal0.pulls.bringing import Bringing, OnProgress
from hal0.pulls.later import PullsLater
from hal0.pulls.pulls import Pulls
from hal0.services import About, Services
from hal0.slots.custom import CustomSlots
from hal0.slots.handle import endpoints_of
from hal0.upstreams.link import Link
from hal0.upstreams.session import new_session
from hal0.upstreams.tables import UpstreamTables
from hal0.upstreams.upstreams import Upstreams
from hal0.vocab import By, Device
from tests.factories import INSTANCE
from tests.fakes.engine import FakeEngine
from tests.fakes.world import Running, World
from tests.vloop import EPOCH

BOOT = "b007"
IMAGES = {
    "vulkan": ImageEntry(
        key="vulkan",
        ref="r.example/vulkan",
        digest="sha256:" + "d" * 64,
        containerfile=None,
        target=None,
        devices=(Device.VULKAN,),
    ),
    "rocm": ImageEntry(
        key="rocm", ref="r.example/rocm", digest=None, containerfile=None, target=None, devices=(Device.ROCM,)
    ),
}


@cache
def demo_bytes() -> bytes:
    return demo.build()


class DiskModels(Registry):
    """A real registry; every model that a World asks for is the demonstration model under another name."""

    def __init__(self, folder: Path, *, empty: bool) -> None:
        super().__init__(folder / "models", (), folder / "registry.toml")
        self._empty = empty

    def add(self, folder: Path, *names: str) -> None:
        for name in () if self._empty else names:
            path = folder / f"{name}.gguf"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(demo_bytes())
        self.scan()


class StoppedClock:
    """For the history's thread, which has no event loop to ask: the day on which the others begin."""

    def now(self) -> float:
        return EPOCH


@dataclass
class Operator:
    """A served hal0. `api` speaks over the Unix socket, `tcp` over loopback."""

    running: Running
    services: Services
    port: int
    socket: Path
    api: aiohttp.ClientSession
    tcp: aiohttp.ClientSession
    checks: list[Check] = field(default_factory=list)

    @property
    def engine(self) -> FakeEngine:
        return self.running.world.engine

    async def call(self, method: str, path: str, body: Any = None, **options: Any) -> tuple[int, Any]:
        """Status and JSON of a call over the Unix socket."""
        async with self.api.request(method, path, json=body, **options) as response:
            return response.status, await response.json()

    async def over_tcp(self, method: str, path: str, body: Any = None, **options: Any) -> tuple[int, Any]:
        async with self.tcp.request(method, path, json=body, **options) as response:
            return response.status, await response.json(content_type=None)


@asynccontextmanager
async def operator(
    paths: Paths,
    ports: range,
    *,
    engine: FakeEngine | None = None,
    config: dict[str, Any] | None = None,
    empty: bool = False,
    heartbeat_s: float = 10.0,
    also: Sequence[str] = (),
    images: Mapping[str, ImageEntry] = IMAGES,
    change: Callable[[Services], Services] = lambda services: services,
) -> AsyncIterator[Operator]:
    """`config` is hal0.toml beside the slots; `empty`: no model is installed; `also`: addresses to
    listen on beside loopback; `images` is the manifest; `change` replaces services."""
    folder = paths.state_dir
    folder.mkdir(parents=True)
    models = DiskModels(folder, empty=empty)
    world = await asyncio.to_thread(World, folder, ports[:19], engine or FakeEngine(), models)  # type: ignore[arg-type]
    slots: dict[str, Any] = {"primary": {} if empty else {"model": "one"}}
    live = await asyncio.to_thread(_live, paths, {**(config or {}), "slots": slots})
    world.bring = bring = _Later()
    async with new_session() as session, world.hal0(**slots) as running, AsyncExitStack() as stack:
        custom = CustomSlots(live, running.supervisor, running.tools.store)
        checks: list[Check] = [Check("podman", CheckState.OK, "podman 4.3.1 answers")]
        upstreams = Upstreams(
            live.root,
            lambda name, table: Link(name, table, session, {}, instance=INSTANCE),
            running.tools.clock,
            running.supervisor._bus,
        )
        live.on_change(upstreams.apply)
        tables = UpstreamTables(live, running.supervisor.apply)
        seen = Seen(
            running.supervisor._bus,
            lambda: live.root.dispatch,
            SPELLINGS,
            lambda: endpoints_of(running.supervisor),
        )
        past = await stack.enter_async_context(
            open_past(paths.history_file, seen, running.tools.clock, wall=StoppedClock())
        )
        services = change(_services(running, models, paths, live, checks, custom, upstreams, tables, past, images))
        bring.found = Bringing(services.pulls.booted, lambda: live.root.models.pull_on_request)
        await services.pulls.boot()
        stack.push_async_callback(cancelled, asyncio.create_task(past.feed.follow()))
        async with (
            serving(
                build_app(services, heartbeat_s=heartbeat_s),
                tcp=[(host, ports[20]) for host in ("127.0.0.1", *also)],
                unix=paths.run_dir / "hal0.sock",
                grace_s=5,
            ) as (port, *_),
            aiohttp.ClientSession("http://hal0", connector=aiohttp.UnixConnector(str(services.about.socket))) as api,
            aiohttp.ClientSession(f"http://127.0.0.1:{port}") as tcp,
        ):
            yield Operator(running, services, port, services.about.socket, api, tcp, checks)
        await _close(services)


async def _close(services: Services) -> None:
    await services.setup().aclose()
    await services.pulls.aclose()
    await services.capabilities.aclose()
    await services.custom.close()
    await services.upstream_tables.close()
    await services.upstreams.close()
    await services.dispatcher.close()


class _Later:
    """Pulls stand on what the slots' world has made, and slots on these."""

    found: Bringing

    async def __call__(self, model: str, by: By, tell: OnProgress) -> bool:
        return await self.found(model, by, tell)


def _live(paths: Paths, config: dict[str, Any]) -> LiveConfig:
    """The configuration from a real file."""
    paths.config_dir.mkdir(parents=True)
    paths.config_file.write_text(f"# mine\n{tomlkit.dumps(config)}")
    return LiveConfig(paths, load(paths), {}, {})


def _surroundings(
    running: Running, models: Registry, paths: Paths, live: LiveConfig, images: ImageService, prober: Prober
) -> Surroundings:
    return Surroundings(
        config=lambda: live.root,
        supervisor=running.supervisor,
        registry=models,
        providers=PROVIDERS,
        images=images,
        survey=prober.survey,
        live=lambda _slot: None,
        bus=running.supervisor._bus,
        socket=paths.run_dir / "hal0.sock",
    )


def _services(
    running: Running,
    models: Registry,
    paths: Paths,
    live: LiveConfig,
    checks: list[Check],
    custom: CustomSlots,
    upstreams: Upstreams,
    tables: UpstreamTables,
    past: Past,
    manifest: Mapping[str, ImageEntry],
) -> Services:
    tools, supervisor, clock = running.tools, running.supervisor, running.tools.clock
    images = ImageService(
        running.world.engine, manifest, root=paths.state_dir, record_file=paths.state_dir / "images.json", clock=clock
    )
    kept, machine = {"models": models.store}, paths.state_dir / "machine"
    prober = Prober(lambda: kept, Podman, clock, root=machine, ask=("false",))
    cards = _surroundings(running, models, paths, live, images, prober)
    orchestrator = Orchestrator(cards, Switching(custom, supervisor, tools.jobs))
    pulls = PullsLater(models.store, lambda: Pulls(models, tools.jobs, clock, lambda: live.root.models, {}))
    setup = Setup(cards, orchestrator, prober, tools.jobs, pulls.booted)
    return Services(
        about=About(
            version="0.1.0",
            instance=INSTANCE,
            boot=BOOT,
            pid=4711,
            started_at=clock.now() - 5,
            url="http://127.0.0.1:8080",
            socket=paths.run_dir / "hal0.sock",
            paths=paths,
        ),
        config=lambda: live.root,
        clock=clock,
        supervisor=supervisor,
        custom=custom,
        dispatcher=Dispatcher(
            supervisor, models, upstreams, past.decisions, clock, live.root.dispatch, paths.spool_dir
        ),
        past=past,
        upstreams=upstreams,
        upstream_tables=tables,
        registry=models,
        pulls=pulls,
        prober=prober,
        capabilities=orchestrator,
        setup=lambda: setup,
        jobs=tools.jobs,
        access=access_parts(paths, clock),
        bus=supervisor._bus,
        images=images,
        service=lambda: ServiceStatus(Path("/run/podman/podman.sock"), Source.ROOTFUL, "4.3.1", None, 0, None),
        checks=lambda: checks,
    )
