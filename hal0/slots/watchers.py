"""Eyes on one container: until it is ready, while it serves, and for its end. They only report."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import ClientSession

from hal0.engine.base import ContainerInfo, ContainerStats, ContainerStatus, Engine
from hal0.errors import Hal0Error
from hal0.hardware.footprint import Footprint
from hal0.lib.aio import backoff_s, cancelled
from hal0.lib.clock import Clock
from hal0.providers.base import Endpoint, Health, HealthState, Provider, Trial
from hal0.slots import failure as failures
from hal0.slots.gauge import Gauge
from hal0.slots.happenings import Advanced, Answered, BecameReady, Died, Failed, Happening, Measured
from hal0.slots.load_watch import LoadWatch
from hal0.slots.loading import Expected
from hal0.slots.pulse import Hush, Pulse
from hal0.slots.record import Container, Failure, Progress
from hal0.slots.serving import Traffic
from hal0.slots.trial import tried
from hal0.slots.warmup import CUT_OFF_EVERY_S, LIVENESS_EVERY_S, METER_EVERY_S, jitter, probe_delays

log = logging.getLogger(__name__)

Post = Callable[[Happening], None]

_RUNNING: Final = (ContainerStatus.RUNNING, ContainerStatus.STOPPING)


@dataclass(frozen=True, slots=True)
class Watched:
    """The container under watch, how to ask its engine, and what its load is measured by.

    `trial`: what it has to prove before it counts as ready; None: its word is enough. `on_gpu`: its weights are in no
    container's figures, its processes are asked for them.
    """

    container: Container
    provider: Provider
    endpoint: Endpoint
    expected: Expected
    trial: Trial | None = None
    on_gpu: bool = False


class Watchers:
    def __init__(self, engine: Engine, session: ClientSession, clock: Clock, gauge: Gauge) -> None:
        self._engine = engine
        self._session = session
        self._clock = clock
        self._gauge = gauge

    async def answers(self, provider: Provider, endpoint: Endpoint, model: str) -> bool:
        """One look: it answers, and lists the model."""
        health = await provider.health(endpoint, model, self._session)
        return health.state is HealthState.READY

    async def began(self, info: ContainerInfo) -> int | None:
        """When its process did; None where hal0 does not see it."""
        return await self._engine.began(info)

    async def warm(self, watched: Watched, hurry: asyncio.Event, post: Post) -> None:
        """Ask until it is ready or can never be; meanwhile tell how far it is."""
        load = LoadWatch(self._engine, self._clock, watched.expected, lambda news: post(Advanced(news)), hurry)
        telling = asyncio.create_task(load.run(watched.container, watched.provider.progress))
        settling = asyncio.create_task(self._until_settled(watched, load, hurry))
        losing = asyncio.create_task(self._until_cut_off(watched))
        try:
            done, _ = await asyncio.wait((settling, losing), return_when=asyncio.FIRST_COMPLETED)
            failure = (settling if settling in done else losing).result()
        finally:
            for task in (losing, settling, telling):
                task.cancel()  # all of them, whatever happens to who waits
            for task in (losing, settling, telling):
                await cancelled(task)
        if failure is not None:
            post(Failed(failure, jitter=jitter()))
        else:
            post(Answered())
            await self._prove(watched, post)

    async def _until_settled(self, watched: Watched, load: LoadWatch, hurry: asyncio.Event) -> Failure | None:
        """None when it is ready, else why it never is. News of the engine's bring the looks close together again."""
        delays = probe_delays()
        while True:
            health = await watched.provider.health(watched.endpoint, watched.container.model, self._session)
            if health.state is HealthState.READY:
                return None
            if health.state is HealthState.BROKEN:
                return failures.broken(health.evidence, self._clock.now())
            load.engine_says(health.fraction)
            if await _woken(next(delays), hurry):
                delays = probe_delays()

    async def _until_cut_off(self, watched: Watched) -> Failure:
        """Returns when it has been ready for a while, and nobody hears of it by its port."""
        pulse = Pulse()
        while True:
            await asyncio.sleep(LIVENESS_EVERY_S if pulse.cut_off_since is None else CUT_OFF_EVERY_S)
            cut_off = await self._answers_inside(watched)
            now = self._clock.now()
            pulse = pulse.missed(None, now, cut_off=cut_off)
            if pulse.port_lost(now):
                return failures.port_lost("it answers at its container's own address alone", now)

    async def _prove(self, watched: Watched, post: Post) -> None:
        """It is ready when it says so, and with a trial when it has done a piece of work."""
        failure = None
        if watched.trial is not None:
            post(Advanced(Progress("verifying", None, f"asking {watched.container.model} for a first answer")))
            now = self._clock.now()
            failure = await tried(watched.provider, watched.endpoint, watched.trial, self._session, now)
        if failure is None:
            post(BecameReady())
        elif await self._has_ended(watched.container):
            post(Died(failures.provisional(self._clock.now())))
        else:
            post(Failed(failure, jitter=jitter()))

    async def live(self, watched: Watched, requests: Callable[[], Traffic], hurry: asyncio.Event, post: Post) -> None:
        """Ask now and then whether it still answers; `pulse` says when silence is death.

        `requests` says what they have met since it was asked last. `hurry` is set by whoever met something wrong: the
        next look is due now.
        """
        pulse, hush, failure = Pulse(), Hush(), None
        while failure is None:
            await _pause(pulse, hurry)
            health = await watched.provider.health(watched.endpoint, watched.container.model, self._session)
            traffic = requests()
            if health.state is HealthState.READY:
                pulse = Pulse(answered=traffic.answered)
                hush, failure = await self._heard(watched.container, hush, traffic)
            else:
                pulse, failure = await self._missed(watched, health, pulse, traffic)
        ended = await self._has_ended(watched.container)  # a death has reasons that can be read
        post(Died(failures.provisional(self._clock.now())) if ended else Failed(failure, jitter=jitter()))

    async def _missed(
        self, watched: Watched, health: Health, pulse: Pulse, traffic: Traffic
    ) -> tuple[Pulse, Failure | None]:
        """A probe without an answer: what is known by now, and why it is dead if it is."""
        cut_off = health.state is HealthState.NOT_LISTENING or await self._answers_inside(watched)
        cpu_s = await self._cpu_s(watched.container)
        now = self._clock.now()
        pulse = pulse.missed(cpu_s, now, answered=traffic.answered, cut_off=cut_off)
        if pulse.port_lost(now):
            return pulse, failures.port_lost(health.evidence, now)
        dead = pulse.dead(now, quiet=not traffic.open)
        return pulse, failures.unresponsive(health.evidence, now) if dead else None

    async def _heard(self, container: Container, hush: Hush, traffic: Traffic) -> tuple[Hush, Failure | None]:
        """A probe was answered: what is known of its work by now, and why it is dead all the same if it is."""
        now = self._clock.now()
        if hush.dead(traffic, now):
            evidence = f"it answers probes, and has sent no byte of an answer for {traffic.gave_up_s:.0f} s"
            return hush, failures.unresponsive(evidence, now)
        hush = hush.seen(traffic, now)
        return (hush.used(await self._cpu_s(container), now) if hush.stalled(now) else hush), None

    async def _cpu_s(self, container: Container) -> float | None:
        sample = await self._sample(container)
        return None if sample is None else sample.cpu_s

    async def _answers_inside(self, watched: Watched) -> bool:
        """The engine answers at its container's own address: then what leads there from its port is lost.

        Forwarding rules can be flushed under a running container, and whoever holds the port for podman still
        accepts connections.
        """
        try:
            info = await self._engine.inspect(watched.container.id or watched.container.name)
        except Hal0Error:
            return False
        if info is None or info.ip is None or watched.endpoint.host == info.ip:
            return False
        inside = Endpoint(info.ip, watched.provider.container_port, watched.endpoint.secret)
        return await self.answers(watched.provider, inside, watched.container.model)

    async def meter(self, watched: Watched, post: Post) -> None:
        """Sample its memory now and then: a container that is killed tells nothing any more."""
        while True:
            sample = await self._sample(watched.container)
            if sample is not None:
                post(Measured(sample.memory_bytes, await self._footprint(watched)))
            await asyncio.sleep(METER_EVERY_S)

    async def _footprint(self, watched: Watched) -> Footprint | None:
        """What its processes hold, a GPU's memory included; None where nobody can tell, or nobody needs to ask."""
        container = watched.container
        try:
            pids = await self._engine.processes(container.id or container.name) if watched.on_gpu else ()
        except Hal0Error as err:
            log.debug("cannot find the processes of %s: %s", container.name, err.message)
            return None
        return await self._gauge.of(pids) if pids else None

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
                if info is not None and info.status in _RUNNING and not await self._is_lost(container, info):
                    await self._engine.watch_exit(info)
            except Hal0Error as err:
                log.debug("cannot watch %s (%s); trying again", container.name, err.message)
                await asyncio.sleep(delay)
                continue
            post(Died(failures.provisional(self._clock.now())))
            return

    async def _is_lost(self, container: Container, info: ContainerInfo) -> bool:
        return container.is_lost(info.pid, await self.began(info))

    async def confirm(self, container: Container, post: Post) -> None:
        """Something looked wrong: report a death if it is one."""
        if await self._has_ended(container):
            post(Died(failures.provisional(self._clock.now())))

    async def _has_ended(self, container: Container) -> bool:
        """Podman says so; what podman does not say is not so."""
        try:
            info = await self._engine.inspect(container.id or container.name)
        except Hal0Error as err:
            log.debug("cannot look at %s: %s", container.name, err.message)
            return False
        return info is None or info.status not in _RUNNING


async def _pause(pulse: Pulse, hurry: asyncio.Event) -> None:
    """Until the next probe. Once one went unanswered the pace is fixed: a crowd of complaints changes nothing."""
    if pulse.misses:
        await asyncio.sleep(LIVENESS_EVERY_S if pulse.cut_off_since is None else CUT_OFF_EVERY_S)
        return
    await _woken(LIVENESS_EVERY_S, hurry)


async def _woken(delay_s: float, hurry: asyncio.Event) -> bool:
    """Wait; whether it was cut short."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(delay_s):
            await hurry.wait()
    woken = hurry.is_set()
    hurry.clear()
    return woken
