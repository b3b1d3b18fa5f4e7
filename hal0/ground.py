"""What stands before any slot: this host and how its podman is reached, and where slots live on it.

Apart from the rest of the composition because podman's service takes a sixth of a second to start: meanwhile the
daemon imports everything else.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from hal0 import paths as places
from hal0.access.place import keyless_off, read_rootless_network
from hal0.config.engine import EngineConfig
from hal0.engine import nested
from hal0.engine.checks import Check, checks
from hal0.engine.host import HostFacts, read_facts
from hal0.engine.place import read_place
from hal0.engine.podman import PodmanEngine
from hal0.engine.probe import HostProbe
from hal0.engine.service import PodmanService, Source, candidates
from hal0.hardware.gpu import device_nodes
from hal0.home import Home
from hal0.lib.clock import Clock, SteadyClock
from hal0.slots.plan import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What stands before any slot: this host, podman, and where slots live."""

    clock: Clock
    facts: HostFacts
    service: PodmanService
    probe: HostProbe
    engine: PodmanEngine
    place: Place
    keyless_off: str | None
    own_cgroup: bool  # slots live under the limits of hal0's own cgroup

    def checks(self) -> list[Check]:
        status = self.service.status
        return checks(
            self.facts,
            version=status.version,
            source=status.source,
            problem=status.problem,
            probed=self.probe.result,
        )


@asynccontextmanager
async def open_ground(home: Home, config: EngineConfig, environ: Mapping[str, str]) -> AsyncIterator[Ground]:
    """Read this host, and find podman or start it. A podman that is absent is told (`checks`), never raised.

    Leaving ends the podman service that hal0 started itself; containers stay up.
    """
    facts = await asyncio.to_thread(read_facts, environ, uid=os.getuid())
    run_dir = home.paths.run_dir
    podman = PodmanService(
        facts,
        environ,
        run_dir=run_dir,
        own_socket=places.socket_path(run_dir, "engine.sock", instance=home.instance),
        sockets=candidates(config.socket, environ),
    )
    async with podman as service:
        ground = await _ground(home, facts, service)
        try:
            yield ground
        finally:
            await ground.engine.aclose()


async def _ground(home: Home, facts: HostFacts, service: PodmanService) -> Ground:
    clock = SteadyClock(asyncio.get_running_loop())
    where, mountinfo = await asyncio.to_thread(read_place)
    # A podman that hal0 started itself shares hal0's files and its loopback, container or not.
    container = nested.inside_container(where)
    beside = container is not None and service.status.source is not Source.OWN
    bounds = nested.bounds_from_mountinfo(mountinfo)
    probe = HostProbe(facts, home.paths.run_dir / "host.json", instance=home.instance)
    engine = PodmanEngine(
        service.socket,
        profiles=probe,
        clock=clock,
        translate=(lambda path: nested.translate(path, bounds)) if beside else (lambda path: path),
        hint=service.hint,
    )
    addressing = nested.addressing(replace(where, own_network=where.own_network and beside), instance=home.instance)
    place = Place(
        instance=home.instance,
        network=None if addressing.published else addressing.network,
        devices=await asyncio.to_thread(device_nodes),
    )
    rootless = await asyncio.to_thread(read_rootless_network)
    closed = keyless_off(container=container, own_network=where.own_network, rootless=rootless)
    return Ground(
        clock=clock,
        facts=facts,
        service=service,
        probe=probe,
        engine=engine,
        place=place,
        keyless_off=closed,
        own_cgroup=not beside,
    )
