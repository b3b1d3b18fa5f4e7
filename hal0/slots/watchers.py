"""Eyes on one container: until it is ready, while it serves, and for its end. They only report."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from aiohttp import ClientSession

from hal0.engine.base import ContainerStats, ContainerStatus, Engine
from hal0.errors import Hal0Error
from hal0.lib.aio import backoff_s
from hal0.lib.clock import Clock
from hal0.providers.base import Endpoint, HealthState, Provider
from hal0.slots import failure as failures
from hal0.slots.happenings import Advanced, BecameReady, Died, Failed, Happening, Measured
from hal0.slots.pulse import Pulse
from hal0.slots.record import Container, Progress
from hal0.slots.warmup import LIVENESS_EVERY_S, METER_EVERY_S, jitter, probe_delays

log = logging.getLogger(__name__)

Post = Callable[[Happening], None]

_RUNNING: Final = (ContainerStatus.RUNNING, ContainerStatus.STOPPING)


class Watchers:
    def __init__(self, engine: Engine, session: ClientSession, clock: Clock) -> None:
        self._engine = engine
        self._session = session
        self._clock = clock

    async def answers(self, provider: Provider, endpoint: Endpoint, model: str) -> bool:
        """One look: it answers, and lists the model."""
        health = await provider.health(endpoint, model, self._session)
        return health.state is HealthState.READY

    async def warm(self, container: Container, provider: Provider, endpoint: Endpoint, post: Post) -> None:
        """Ask until it is ready or can never be."""
        for delay in probe_delays():
            health = await provider.health(endpoint, container.model, self._session)
            if health.state is HealthState.READY:
                post(BecameReady())
                return
            if health.state is HealthState.BROKEN:
                post(Failed(failures.broken(health.evidence, self._clock.now()), jitter=jitter()))
                return
            if health.state is HealthState.LOADING:
                post(Advanced(Progress("loading", health.fraction, health.evidence)))
            await asyncio.sleep(delay)

    async def live(
        self, container: Container, provider: Provider, endpoint: Endpoint, quiet: Callable[[], bool], post: Post
    ) -> None:
        """Ask now and then whether it still answers; `pulse` says when silence is death."""
        pulse = Pulse()
        while True:
            await asyncio.sleep(LIVENESS_EVERY_S)
            health = await provider.health(endpoint, container.model, self._session)
            if health.state is HealthState.READY:
                pulse = Pulse()
                continue
            sample = await self._sample(container)
            now = self._clock.now()
            pulse = pulse.missed(None if sample is None else sample.cpu_s, now)
            if pulse.dead(now, quiet=quiet()):
                post(Failed(failures.unresponsive(health.evidence, now), jitter=jitter()))
                return

    async def meter(self, container: Container, post: Post) -> None:
        """Sample its memory now and then: a container that is killed tells nothing any more."""
        while True:
            sample = await self._sample(container)
            if sample is not None:
                post(Measured(sample.memory_bytes))
            await asyncio.sleep(METER_EVERY_S)

    async def _sample(self, container: Container) -> ContainerStats | None:
        """What it uses now; None when it does not run, or nobody can tell."""
        try:
            return await self._engine.stats(container.id or container.name)
        except Hal0Error as err:
            log.debug("cannot measure %s: %s", container.name, err.message)
            return None

    async def end(self, container: Container, post: Post) -> None:
        """Report the container's death, as early as this host allows."""
        for delay in backoff_s(0.2, 5.0):
            try:
                info = await self._engine.inspect(container.id or container.name)
                if info is not None and info.status in _RUNNING:
                    await self._engine.watch_exit(info)
            except Hal0Error as err:
                log.debug("cannot watch %s (%s); trying again", container.name, err.message)
                await asyncio.sleep(delay)
                continue
            post(Died(failures.provisional(self._clock.now())))
            return

    async def confirm(self, container: Container, post: Post) -> None:
        """Something looked wrong: report a death if it is one."""
        try:
            info = await self._engine.inspect(container.id or container.name)
        except Hal0Error as err:
            log.debug("cannot look at %s: %s", container.name, err.message)
            return
        if info is None or info.status not in _RUNNING:
            post(Died(failures.provisional(self._clock.now())))
