"""The composition root: every object of the daemon is built here, once, in order, and closed in reverse.

The only module that names concrete adapters; everybody else gets what it needs through its constructor.
"""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from aiohttp import ClientSession, TCPConnector, web

from hal0 import __version__
from hal0 import paths as places
from hal0.access.place import keyless_off, read_rootless_network
from hal0.api.build import build_app
from hal0.config.live import LiveConfig
from hal0.config.models import ModelsConfig
from hal0.dispatch.dispatcher import Dispatcher
from hal0.engine import nested
from hal0.engine.checks import checks
from hal0.engine.host import read_facts
from hal0.engine.images import ImageService
from hal0.engine.manifest import images_root, read_manifest
from hal0.engine.place import read_place
from hal0.engine.podman import PodmanEngine
from hal0.engine.probe import HostProbe
from hal0.engine.service import PodmanService, Source, candidates
from hal0.events.bus import Bus, Snapshot
from hal0.hardware.gpu import dri_nodes
from hal0.home import Home
from hal0.lib.aio import cancelled
from hal0.lib.clock import SteadyClock
from hal0.models.registry import Registry
from hal0.observe.decisions import Decisions
from hal0.providers.catalog import PROVIDERS
from hal0.services import About, Services
from hal0.slots.effects import Effects
from hal0.slots.jobs import Jobs
from hal0.slots.plan import Place
from hal0.slots.ports import PortLeases
from hal0.slots.store import SlotStore
from hal0.slots.supervisor import Supervisor
from hal0.slots.tools import Tools
from hal0.slots.watchers import Watchers
from hal0.vocab import SLOT_PORTS, Device


@asynccontextmanager
async def create_app(home: Home, live: LiveConfig, environ: Mapping[str, str]) -> AsyncIterator[web.Application]:
    """The application, ready to be served: podman found, slots adopted. Leaving stops hal0, not its containers."""
    config, paths = live.root, home.paths
    clock = SteadyClock(asyncio.get_running_loop())
    async with AsyncExitStack() as stack:
        facts = await asyncio.to_thread(read_facts, environ, uid=os.getuid())
        where, mountinfo = await asyncio.to_thread(read_place)
        rootless = await asyncio.to_thread(read_rootless_network)
        service = await stack.enter_async_context(
            PodmanService(
                facts,
                environ,
                run_dir=paths.run_dir,
                own_socket=places.socket_path(paths.run_dir, "engine.sock", instance=home.instance),
                sockets=candidates(config.engine.socket, environ),
            )
        )
        probe = HostProbe(facts, paths.run_dir / "host.json", instance=home.instance)
        inside = nested.inside_container(where) is not None
        bounds = nested.bounds_from_mountinfo(mountinfo)
        engine = PodmanEngine(
            service.socket,
            profiles=probe,
            clock=clock,
            translate=(lambda path: nested.translate(path, bounds)) if inside else (lambda path: path),
            hint=service.hint,
        )
        stack.push_async_callback(engine.aclose)
        registry = await asyncio.to_thread(_registry, paths, config.models)
        store = SlotStore(paths.slots_dir)
        stack.push_async_callback(store.aclose)
        session = await stack.enter_async_context(
            # Probes are few and far between: a kept connection would only be a chance to meet a closed one.
            ClientSession(connector=TCPConnector(force_close=True))
        )
        addressing = nested.addressing(
            # A podman that hal0 started itself publishes ports on hal0's own loopback, container or not.
            replace(where, own_network=where.own_network and service.status.source is not Source.OWN),
            instance=home.instance,
        )
        nodes = await asyncio.to_thread(dri_nodes)
        place = Place(
            instance=home.instance,
            network=None if addressing.published else addressing.network,
            devices={Device.VULKAN: nodes.paths} if nodes.renders else {},
            groups=nodes.groups,
        )
        sources: list[Snapshot] = []
        bus = Bus(lambda: [event for source in sources for event in source()])
        jobs = Jobs(paths.jobs_file, bus, clock)
        await asyncio.to_thread(jobs.load)
        root = images_root()
        images = ImageService(
            engine,
            await asyncio.to_thread(read_manifest, root),
            root=root,
            record_file=paths.state_dir / "images.json",
            clock=clock,
        )
        tools = Tools(
            effects=Effects(engine, images, registry, store, place),
            store=store,
            ports=PortLeases(slot_ports(environ)),
            jobs=jobs,
            watchers=Watchers(engine, session, clock),
            clock=clock,
            place=place,
        )
        supervisor = Supervisor(config, engine, registry, PROVIDERS, tools, bus)
        sources += [supervisor.snapshot_events, jobs.snapshot_events]
        decisions = Decisions()
        dispatcher = Dispatcher(supervisor, registry, decisions, clock, config.dispatch, paths.spool_dir)
        stack.push_async_callback(dispatcher.close)
        await supervisor.start()
        stack.push_async_callback(supervisor.close)
        for name, work in (("config", live.follow(supervisor.apply)), ("jobs", jobs.keep_saving())):
            stack.push_async_callback(cancelled, asyncio.create_task(work, name=name))
        about = About(
            version=__version__,
            instance=home.instance,
            boot=secrets.token_hex(4),
            pid=os.getpid(),
            started_at=clock.now(),
            url=f"http://127.0.0.1:{config.server.port}",
            socket=places.socket_path(paths.run_dir, "hal0.sock", instance=home.instance),
            paths=paths,
        )
        yield build_app(
            Services(
                about=about,
                config=lambda: live.root,
                clock=clock,
                supervisor=supervisor,
                dispatcher=dispatcher,
                registry=registry,
                jobs=jobs,
                bus=bus,
                images=images,
                service=lambda: service.status,
                checks=lambda: checks(
                    facts,
                    version=service.status.version,
                    source=service.status.source,
                    problem=service.status.problem,
                    probed=probe.result,
                ),
                keyless_off=keyless_off(
                    container=nested.inside_container(where),
                    own_network=where.own_network,
                    rootless=rootless,
                ),
            )
        )


def slot_ports(environ: Mapping[str, str]) -> range:
    """The seeds' 8081-8099; HAL0_SLOT_PORTS=FIRST-LAST moves them, for a second instance or a test beside it."""
    text = environ.get("HAL0_SLOT_PORTS")
    if not text:
        return SLOT_PORTS
    first, _, last = text.partition("-")
    return range(int(first), int(last) + 1)


def _registry(paths: places.Paths, config: ModelsConfig) -> Registry:
    store = Path(config.store) if config.store else paths.models_dir
    registry = Registry(store, tuple(Path(root) for root in config.roots), paths.registry_file)
    registry.scan()
    return registry
