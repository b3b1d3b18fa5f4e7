"""The composition root: every object of the daemon is built here, once, in order, and closed in reverse.

The only module that names concrete adapters; everybody else gets what it needs through its constructor.
"""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import ClientSession, TCPConnector, web

from hal0 import __version__
from hal0 import paths as places
from hal0.access.parts import open_access
from hal0.api.build import build_app
from hal0.capabilities.orchestrator import Orchestrator, World
from hal0.capabilities.prober import Prober
from hal0.capabilities.switching import Switching
from hal0.config.live import LiveConfig
from hal0.config.models import ModelsConfig
from hal0.dispatch.dispatcher import Dispatcher
from hal0.dispatch.surface import SPELLINGS
from hal0.engine import build
from hal0.engine.images import ImageService
from hal0.engine.manifest import images_root, read_manifest
from hal0.engine.podman import PodmanEngine
from hal0.errors import Hal0Error
from hal0.events.bus import Bus, Snapshot
from hal0.ground import Ground
from hal0.hardware import survey
from hal0.hardware.advice import Podman
from hal0.home import Home
from hal0.lib.aio import cancelled, told_if_broken
from hal0.lib.clock import Clock
from hal0.models.registry import Registry
from hal0.models.tags import Tag
from hal0.observe.past import Past, Seen, open_past
from hal0.providers.catalog import PROVIDERS
from hal0.providers.flm import FLM
from hal0.providers.flm_book import TagBook
from hal0.pulls.bringing import Bringing
from hal0.pulls.later import PullsLater
from hal0.services import About, Services
from hal0.slots.custom import CustomSlots
from hal0.slots.effects import Effects
from hal0.slots.fitting import Fitting
from hal0.slots.gauge import Gauge
from hal0.slots.handle import Slots, busy, endpoints_of
from hal0.slots.jobs import Jobs
from hal0.slots.measuring import Measuring
from hal0.slots.ports import PortLeases
from hal0.slots.starts import Starts
from hal0.slots.steward import Steward
from hal0.slots.store import SlotStore
from hal0.slots.supervisor import Supervisor
from hal0.slots.tools import Tools
from hal0.slots.watchers import Watchers
from hal0.upstreams.link import Link
from hal0.upstreams.session import new_session
from hal0.upstreams.tables import UpstreamTables
from hal0.upstreams.upstreams import Upstreams
from hal0.vocab import SLOT_PORTS

if TYPE_CHECKING:
    from hal0.capabilities.setup import Setup
    from hal0.pulls.pulls import Pulls


@asynccontextmanager
async def create_app(
    home: Home, live: LiveConfig, environ: Mapping[str, str], ground: Ground
) -> AsyncIterator[web.Application]:
    """The application, ready to be served: slots adopted. Leaving stops hal0, not its containers."""
    paths, clock = home.paths, ground.clock
    async with AsyncExitStack() as stack:
        images = await _images(stack, ground.engine, paths, clock, live)
        registry, tags = await asyncio.to_thread(_models, paths, live.root.models, ground, images)
        sources: list[Snapshot] = []
        bus = Bus(lambda: [event for source in sources for event in source()])
        jobs = await _jobs(paths, bus, clock)
        store = SlotStore(paths.slots_dir)
        stack.push_async_callback(store.aclose)
        pulls = _pulls(stack, registry, jobs, clock, live, environ)
        bring = Bringing(pulls.booted, lambda: live.root.models.pull_on_request)
        starts = Starts(images, registry, store, ground.place, _fitting(images, live), bring)
        steward = _steward(stack, ground, store)
        tools = _tools(ground, starts, store, steward, jobs, await _probe_session(stack), slot_ports(environ))
        supervisor = Supervisor(live.root, ground.engine, registry, PROVIDERS, tools, bus)
        upstreams = await _upstreams(stack, live, environ, clock, bus, instance=home.instance)
        sources += [supervisor.snapshot_events, jobs.snapshot_events, upstreams.snapshot_events]
        past = await _past(stack, paths, live, bus, clock, supervisor)
        dispatcher = Dispatcher(
            supervisor, registry, upstreams, past.decisions, clock, live.root.dispatch, paths.spool_dir
        )
        _keep_told(stack, live, dispatcher)
        await supervisor.start()
        stack.push_async_callback(supervisor.close)
        custom, upstream_tables = _edits(stack, live, supervisor, store)
        works = (live.follow(supervisor.apply), upstreams.keep_fresh(), jobs.keep_saving())
        _run(stack, *works, past.feed.follow(), past.lag.watch(), past.figures.keep_looking(), tags.keep_up(bus))
        _run(stack, ground.probe.warm(ground.engine.transport))  # now, so that the first load need not
        about, prober = _about(home, live.root.server.port, clock), _prober(ground, registry, paths, clock)
        world = _world(live, supervisor, registry, images, prober, past, bus, about)
        capabilities = _capabilities(stack, live, sources, world, Switching(custom, supervisor, jobs))
        services = Services(
            about=about,
            config=lambda: live.root,
            config_problem=lambda: live.problem,
            clock=clock,
            supervisor=supervisor,
            custom=custom,
            dispatcher=dispatcher,
            past=past,
            upstreams=upstreams,
            upstream_tables=upstream_tables,
            registry=registry,
            pulls=pulls,
            prober=prober,
            capabilities=capabilities,
            setup=_setup(stack, world, capabilities, prober, jobs, pulls),
            jobs=jobs,
            bus=bus,
            access=await stack.enter_async_context(open_access(paths, clock)),
            images=images,
            service=lambda: ground.service.status,
            checks=ground.checks,
            keyless_off=ground.keyless_off,
        )
        yield build_app(services)


def _run(stack: AsyncExitStack, *works: Coroutine[Any, Any, None]) -> None:
    """Until the stack is left."""
    for work in works:
        task = asyncio.create_task(work, name=getattr(work, "__qualname__", None))
        task.add_done_callback(told_if_broken)
        stack.push_async_callback(cancelled, task)


async def _jobs(paths: places.Paths, bus: Bus, clock: Clock) -> Jobs:
    jobs = Jobs(paths.jobs_file, bus, clock)
    await asyncio.to_thread(jobs.load)
    return jobs


async def _images(
    stack: AsyncExitStack, engine: PodmanEngine, paths: places.Paths, clock: Clock, live: LiveConfig
) -> ImageService:
    root = images_root()
    manifest = await asyncio.to_thread(read_manifest, root)
    await build.sweep(paths.state_dir)

    images = ImageService(
        engine,
        manifest,
        root=root,
        record_file=paths.state_dir / "images.json",
        clock=clock,
        instead_of=_instead_of(live),
    )
    stack.push_async_callback(images.aclose)
    return images


def _models(
    paths: places.Paths, config: ModelsConfig, ground: Ground, images: ImageService
) -> tuple[Registry, TagBook]:
    """What is on disk, and FLM's names for its models, as far as they were known before."""
    registry = _registry(paths, config)

    def learn(tags: tuple[Tag, ...]) -> None:
        FLM.know(tag.name for tag in tags)
        registry.know_tags(tags)  # last: its new version has the routing table built anew

    book = TagBook(ground.engine, images, paths.state_dir / "flm.json", learn, instance=ground.place.instance)
    book.recall()
    return registry, book


async def _past(
    stack: AsyncExitStack, paths: places.Paths, live: LiveConfig, bus: Bus, clock: Clock, slots: Slots
) -> Past:
    seen = Seen(bus, lambda: live.root.dispatch, SPELLINGS, lambda: endpoints_of(slots), lambda: busy(slots))
    return await stack.enter_async_context(open_past(paths.history_file, seen, clock))


async def _upstreams(
    stack: AsyncExitStack, live: LiveConfig, environ: Mapping[str, str], clock: Clock, bus: Bus, *, instance: str
) -> Upstreams:
    session = await stack.enter_async_context(new_session())
    upstreams = Upstreams(
        live.root, lambda name, config: Link(name, config, session, environ, instance=instance), clock, bus
    )
    stack.push_async_callback(upstreams.close)
    live.on_change(upstreams.apply)
    return upstreams


def _edits(
    stack: AsyncExitStack, live: LiveConfig, supervisor: Supervisor, store: SlotStore
) -> tuple[CustomSlots, UpstreamTables]:
    """What changes the configuration files on an operator's behalf."""
    custom, tables = CustomSlots(live, supervisor, store), UpstreamTables(live, supervisor.apply)
    stack.push_async_callback(custom.close)
    stack.push_async_callback(tables.close)
    return custom, tables


def _keep_told(stack: AsyncExitStack, live: LiveConfig, dispatcher: Dispatcher) -> None:
    """Of every configuration that comes into force, until the stack is left."""
    live.on_change(lambda root: dispatcher.apply(root.dispatch))
    stack.push_async_callback(dispatcher.close)


def _tools(
    ground: Ground,
    starts: Starts,
    store: SlotStore,
    steward: Steward,
    jobs: Jobs,
    session: ClientSession,
    ports: range,
) -> Tools:
    clock = ground.clock
    return Tools(
        starts=starts,
        effects=Effects(ground.engine, starts, store, ground.place),
        store=store,
        ports=PortLeases(ports),
        steward=steward,
        jobs=jobs,
        watchers=Watchers(ground.engine, session, clock, Gauge()),
        clock=clock,
        place=ground.place,
    )


def _world(
    live: LiveConfig,
    supervisor: Supervisor,
    registry: Registry,
    images: ImageService,
    prober: Prober,
    past: Past,
    bus: Bus,
    about: About,
) -> World:
    told, socket = past.figures.view, about.socket
    return World(lambda: live.root, supervisor, registry, PROVIDERS, images, prober.survey, told, bus, socket)


def _capabilities(
    stack: AsyncExitStack, live: LiveConfig, sources: list[Snapshot], world: World, switching: Switching
) -> Orchestrator:
    capabilities = Orchestrator(world, switching)
    sources.append(capabilities.snapshot_events)
    live.on_change(capabilities.configured)
    stack.push_async_callback(capabilities.aclose)
    _run(stack, capabilities.keep_telling())
    return capabilities


def _setup(
    stack: AsyncExitStack, world: World, cards: Orchestrator, prober: Prober, jobs: Jobs, pulls: PullsLater
) -> "Callable[[], Setup]":
    """Made at its first use: most starts of hal0 set nothing up."""

    @cache
    def make() -> "Setup":
        from hal0.capabilities.setup import Setup

        setup = Setup(world, cards, prober, jobs, pulls.booted)
        stack.push_async_callback(setup.aclose)
        return setup

    return make


def _steward(stack: AsyncExitStack, ground: Ground, store: SlotStore) -> Steward:
    measuring = Measuring(ground.clock)
    stack.push_async_callback(measuring.aclose)
    return Steward(measuring, ground.clock, store, own_cgroup=ground.own_cgroup)


def _fitting(images: ImageService, live: LiveConfig) -> Fitting:
    return Fitting(images.manifest, survey.read, _instead_of(live))


def _instead_of(live: LiveConfig) -> Callable[[str], str | None]:
    def instead_of(key: str) -> str | None:
        return live.root.images.instead_of(key)  # of the configuration in force now

    return instead_of


def _prober(ground: Ground, registry: Registry, paths: places.Paths, clock: Clock) -> Prober:
    """Looks where models and state are kept, and where podman keeps its images once it has said so."""

    def engine() -> Mapping[str, Any]:
        return ground.probe.result.engine if ground.probe.result is not None else {}

    def kept() -> Mapping[str, Path]:
        images = {"images": Path(root)} if (root := engine().get("graphroot")) else {}
        return {"models": registry.store, "state": paths.state_dir, **images}

    def podman() -> Podman:
        result = ground.probe.result
        return Podman(
            rootless=bool(engine().get("rootless")),
            storage=engine().get("storage") or "",
            starts=result is None or result.problem is None,
        )

    return Prober(kept, podman, clock, own_cgroup=ground.own_cgroup)


def _pulls(
    stack: AsyncExitStack, registry: Registry, jobs: Jobs, clock: Clock, live: LiveConfig, environ: Mapping[str, str]
) -> PullsLater:
    def make() -> "Pulls":
        from hal0.pulls.pulls import Pulls

        return Pulls(registry, jobs, clock, lambda: live.root.models, environ)

    pulls = PullsLater(registry.store, make)
    stack.push_async_callback(pulls.aclose)
    _run(stack, pulls.boot())
    return pulls


async def _probe_session(stack: AsyncExitStack) -> ClientSession:
    """For health probes: few and far between, so a kept connection would only be a chance to meet a closed one."""
    connector = TCPConnector(force_close=True, ssl=False)
    return await stack.enter_async_context(ClientSession(connector=connector))


def _about(home: Home, port: int, clock: Clock) -> About:
    return About(
        version=__version__,
        instance=home.instance,
        boot=secrets.token_hex(4),
        pid=os.getpid(),
        started_at=clock.now(),
        url=f"http://127.0.0.1:{port}",
        socket=places.socket_path(home.paths.run_dir, "hal0.sock", instance=home.instance),
        paths=home.paths,
    )


def slot_ports(environ: Mapping[str, str]) -> range:
    """The seeds' 8081-8099; HAL0_SLOT_PORTS=FIRST-LAST moves them, for a second instance or a test beside it."""
    text = environ.get("HAL0_SLOT_PORTS")
    if not text:
        return SLOT_PORTS
    first, _, last = text.partition("-")
    if not (first.isdecimal() and last.isdecimal() and 0 < int(first) <= int(last) < 65536):
        raise Hal0Error("config.invalid", f"cannot read HAL0_SLOT_PORTS={text!r}: write FIRST-LAST, such as 8081-8099")
    return range(int(first), int(last) + 1)


def _registry(paths: places.Paths, config: ModelsConfig) -> Registry:
    store = Path(config.store) if config.store else paths.models_dir
    roots = tuple(Path(root) for root in config.roots)
    registry = Registry(store, roots, paths.registry_file, allow_pickle=config.allow_pickle)
    registry.scan()
    return registry
