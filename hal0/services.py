"""What the edges of hal0 may use: one frozen bundle, handed to the application by the composition root."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from aiohttp import web

from hal0.access.parts import AccessParts
from hal0.capabilities.orchestrator import Orchestrator
from hal0.capabilities.prober import Prober
from hal0.config.root import RootConfig
from hal0.dispatch.dispatcher import Dispatcher
from hal0.engine.base import ImageInfo, OnImageProgress
from hal0.engine.checks import Check
from hal0.engine.images import ImageState
from hal0.engine.service import ServiceStatus
from hal0.engine.superseded import Pruned
from hal0.errors import Hal0Error
from hal0.events.bus import Bus
from hal0.lib.clock import Clock
from hal0.models.registry import Registry
from hal0.observe.past import Past
from hal0.paths import Paths
from hal0.pulls.later import PullsLater
from hal0.slots.custom import CustomSlots
from hal0.slots.jobs import Jobs
from hal0.slots.supervisor import Supervisor
from hal0.upstreams.tables import UpstreamTables
from hal0.upstreams.upstreams import Upstreams

if TYPE_CHECKING:
    from hal0.capabilities.setup import Setup


class Images(Protocol):
    """The part of `engine.images.ImageService` that the edges use."""

    def entry(self, key: str) -> object:
        """Raises image.not_found for a key that the manifest does not have."""
        ...

    async def list(self) -> list[ImageState]: ...

    async def verify(self, key: str) -> ImageState: ...

    async def pull(self, key: str, on_progress: OnImageProgress, *, force: bool = False) -> ImageInfo: ...

    async def build(self, key: str, on_progress: OnImageProgress, *, force: bool = False) -> ImageInfo: ...

    async def prune(self, keep: Collection[str]) -> Pruned: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """This process. `boot` is a random word of this start, `started_at` seconds since the epoch."""

    version: str
    instance: str
    boot: str
    pid: int
    started_at: float
    url: str
    socket: Path
    paths: Paths


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """`config`, `service` and `checks` are asked anew every time; `checks` gives what is known, without looking again.
    `setup` is made when it is asked for first.

    `config_problem` is why the files on disk are not in force, None while they are. `keyless_off` is why this
    machine's loopback proves nothing (`access.place`), None where it does.
    """

    about: About
    config: Callable[[], RootConfig]
    clock: Clock
    supervisor: Supervisor
    custom: CustomSlots
    dispatcher: Dispatcher
    past: Past
    upstreams: Upstreams
    upstream_tables: UpstreamTables
    registry: Registry
    pulls: PullsLater
    prober: Prober
    capabilities: Orchestrator
    setup: "Callable[[], Setup]"
    jobs: Jobs
    bus: Bus
    access: AccessParts
    images: Images
    service: Callable[[], ServiceStatus]
    checks: Callable[[], Sequence[Check]]
    config_problem: Callable[[], Hal0Error | None] = lambda: None
    keyless_off: str | None = None


SERVICES: Final = web.AppKey("services", Services)
