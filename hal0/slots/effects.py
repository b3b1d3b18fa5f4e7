"""The slow work a slot asks for: fetch, launch, retire, bury. Thin: one door to engine, images and files.

Every method ends by itself within the deadlines of what it calls, may be cancelled at any await, and leaves nothing
that the record does not name: the container's name is on disk before `launch` is called.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol, assert_never

from hal0.config.slots import SlotConfig
from hal0.engine.base import ContainerInfo, ContainerStatus, Engine, ImageProgress
from hal0.engine.errors import NameTaken, PortTaken
from hal0.errors import Hal0Error
from hal0.lib.clock import Clock
from hal0.providers.base import Exit, Provider
from hal0.slots import failure as failures
from hal0.slots import happenings as h
from hal0.slots.adopt import LABEL_SPEC
from hal0.slots.plan import Model, Place, launch_of, resolve_device, spec_of
from hal0.slots.record import Container, Failure, Progress
from hal0.slots.serving import InFlight
from hal0.slots.state import Effect
from hal0.slots.store import SlotStore
from hal0.slots.warmup import PULL_STALL_S, STOP_S, jitter
from hal0.vocab import Role, SlotName

log = logging.getLogger(__name__)

_ABORT_GRACE_S: Final = 5.0  # for streams that were told to end
LOG_TAIL: Final = 50  # lines kept of a start: the first error line of every engine seen is within them
_LOG_DEADLINE_S: Final = 5.0
# Two seconds for podman to record an exit that hal0 saw first; usually it takes 20 ms.
_EXIT_POLLS: Final = 80
_EXIT_POLL_S: Final = 0.025

OnProgress = Callable[[str, float | None], None]


class Images(Protocol):
    """Where runtime images come from."""

    async def ensure(self, key: str, on_progress: Callable[[ImageProgress], None]) -> str:
        """The id of the image for a manifest key (or an image reference): local, else pulled, else built."""
        ...


class Models(Protocol):
    """The models that are known."""

    def require(self, model_id: str) -> Model:
        """Raises model.not_found or model.not_downloaded."""
        ...


class Clash(Exception):
    """The port or the name was taken; the container is removed, another generation may try."""


class Stuck(Exception):
    """Podman does not remove the container; it has to be quarantined."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The slot an effect works for, as configured at the moment the effect starts."""

    slot: SlotName
    config: SlotConfig
    provider: Provider


class Effects:
    def __init__(self, engine: Engine, images: Images, models: Models, store: SlotStore, place: Place) -> None:
        self._engine = engine
        self._images = images
        self._models = models
        self._store = store
        self._place = place

    async def fetch(self, subject: Subject, model_id: str, on_progress: OnProgress) -> None:
        """See to it that model files and image are here. Raises what `of_error` can classify."""
        model = self._models.require(model_id)
        missing = await asyncio.to_thread(lambda: [f for f in model.files if not f.is_file()])
        if missing:
            raise Hal0Error("model.not_downloaded", f"cannot load {model_id}: {missing[0]} is missing")
        await self._image(subject, on_progress)

    async def _image(self, subject: Subject, on_progress: OnProgress) -> str:
        key = subject.config.image or subject.provider.image_key(resolve_device(subject.config, self._place))
        return await self._images.ensure(key, lambda p: on_progress(p.message, p.fraction))

    async def launch(self, subject: Subject, container: Container) -> tuple[Container, str]:
        """Create and start `container`; returns it with its secret.

        Raises Clash when its port or name was taken meanwhile.
        """
        model = self._models.require(container.model)
        image_id = await self._image(subject, lambda _message, _fraction: None)
        device = resolve_device(subject.config, self._place)
        launch = launch_of(subject.slot, subject.config, model, subject.provider, device)
        secret = await self._store.write_secret(subject.slot)
        spec = spec_of(
            container,
            launch,
            subject.provider,
            subject.config,
            self._place,
            image_id=image_id,
            secret_file=self._store.secret_path(subject.slot),
        )
        await self._store.write_env(subject.slot, dict(spec.env))
        try:
            created = await self._engine.create(spec)
            await self._engine.start(created)
        except (PortTaken, NameTaken) as err:
            if isinstance(err, PortTaken):
                await self.remove(container)
            raise Clash(str(err)) from err
        info = await self._engine.inspect(created)
        started = replace(container, id=created, image_id=image_id, spec_hash=spec.labels[LABEL_SPEC])
        return located(started, info, subject.provider, self._place), secret

    async def inspect(self, container: Container) -> ContainerInfo | None:
        return await self._engine.inspect(container.id or container.name)

    async def watch_exit(self, info: ContainerInfo) -> None:
        await self._engine.watch_exit(info)

    async def retire(self, container: Container, *, stop_s: float) -> None:
        """Stop and remove. Raises Stuck when podman will not remove it, Hal0Error when it cannot be reached."""
        ref = container.id or container.name
        try:
            await self._engine.stop(ref, timeout_s=stop_s)
        except Hal0Error as err:
            if err.code == "engine.unreachable":
                raise
            log.warning("cannot stop %s (%s); removing it by force", container.name, err.message)
        await self.remove(container)

    async def remove(self, container: Container) -> None:
        """Remove by force, twice if need be: podman refuses the first time when a container's monitor was killed."""
        ref = container.id or container.name
        try:
            await self._engine.remove(ref)
        except Hal0Error as err:
            if err.code == "engine.unreachable":
                raise
            try:
                await self._engine.remove(ref)
            except Hal0Error as again:
                if again.code == "engine.unreachable":
                    raise
                raise Stuck(again.message) from again

    async def bury(self, subject: Subject, container: Container, *, warmed: bool, now: float) -> Failure:
        """Read why a dead container ended. It is still there afterwards: `remove` it."""
        info = await self._ended(container)
        if info is None:
            return failures.vanished(now)
        ended = Exit(
            exit_code=info.exit_code,
            oom_killed=info.oom_killed,
            wanted=False,
            warmed=warmed,
            log_tail=await self.log_tail(container),
        )
        return failures.of_exit(ended, subject.provider.classify(ended), now)

    async def _ended(self, container: Container) -> ContainerInfo | None:
        """What podman says once it has noticed the end too.

        The process is gone before its monitor has written the exit code; a killed monitor never writes one.
        """
        info = await self.inspect(container)
        for _ in range(_EXIT_POLLS):
            if info is None or info.status not in (ContainerStatus.RUNNING, ContainerStatus.STOPPING):
                break
            await asyncio.sleep(_EXIT_POLL_S)
            info = await self.inspect(container)
        return info

    async def log_tail(self, container: Container) -> tuple[str, ...]:
        """The last lines of its log; none when they cannot be had in time."""
        lines: list[str] = []
        with contextlib.suppress(TimeoutError, Hal0Error):
            async with asyncio.timeout(_LOG_DEADLINE_S):
                async for line in self._engine.logs(container.id or container.name, tail=LOG_TAIL):
                    lines.append(line.text)  # noqa: PERF401  a partial tail is kept when time runs out
        return tuple(lines)


@dataclass(frozen=True, slots=True)
class Order:
    """One effect to carry out, with everything it may look at: a value, taken when the effect starts."""

    effect: Effect
    subject: Subject
    model: str
    container: Container | None
    fault: Failure | None
    drain_s: float
    warmed: bool
    requests: InFlight

    def the_container(self) -> Container:
        assert self.container is not None, "decide() asks for this only while there is a container"
        return self.container


async def carry_out(effects: Effects, order: Order, clock: Clock, report: Callable[[h.Happening], None]) -> h.Happening:
    """Carry out one effect and say how it ended; what goes wrong is an answer too. `report` gets progress."""
    try:
        return await _work(effects, order, clock, report)
    except Hal0Error as err:
        return _trouble(order, failures.of_error(err, clock.now()))
    except Exception as err:  # the task's outermost line: an unforeseen error must not leave the slot waiting
        log.exception("slot %s: %s failed unexpectedly", order.subject.slot, order.effect)
        error = Hal0Error("system.internal", f"cannot {order.effect}: {err!r}")
        return _trouble(order, failures.of_error(error, clock.now()))


def _trouble(order: Order, failure: Failure) -> h.Happening:
    if order.effect in (Effect.RETIRE, Effect.BURY):
        log.warning("slot %s: cannot %s (%s); trying again", order.subject.slot, order.effect, failure.message)
        return h.EngineTrouble()
    return h.Failed(failure, jitter())


async def _work(effects: Effects, order: Order, clock: Clock, report: Callable[[h.Happening], None]) -> h.Happening:
    match order.effect:
        case Effect.FETCH:
            return await _fetch(effects, order, clock, report)
        case Effect.LAUNCH:
            return await _launch(effects, order)
        case Effect.DRAIN:
            return await _drain(order)
        case Effect.RETIRE:
            return await _retire(effects, order)
        case Effect.BURY:
            return await _bury(effects, order, clock)
        case _:
            assert_never(order.effect)


async def _fetch(effects: Effects, order: Order, clock: Clock, report: Callable[[h.Happening], None]) -> h.Happening:
    def on_progress(text: str, fraction: float | None) -> None:
        report(h.Advanced(Progress("pulling", fraction, text), clock.now() + PULL_STALL_S))

    await effects.fetch(order.subject, order.model, on_progress)
    return h.Fetched()


async def _launch(effects: Effects, order: Order) -> h.Happening:
    try:
        started, secret = await effects.launch(order.subject, order.the_container())
    except Clash as err:
        log.warning("slot %s: %s; taking the next port and generation", order.subject.slot, err)
        return h.Clashed()
    return h.Launched(started, secret)


async def _drain(order: Order) -> h.Happening:
    """Let requests finish, then end them with a reason: their upstream side is closed first."""
    slot, requests = order.subject.slot, order.requests
    try:
        async with asyncio.timeout(order.drain_s):
            await requests.wait_empty()
    except TimeoutError:
        requests.abort_all(Hal0Error("slot.draining", f"slot {slot} is being unloaded: this answer was ended early"))
        try:
            async with asyncio.timeout(_ABORT_GRACE_S):
                await requests.wait_empty()
        except TimeoutError:
            log.warning("slot %s: %d requests did not end when told to", slot, requests.count)
    return h.Drained()


async def _retire(effects: Effects, order: Order) -> h.Happening:
    container = order.the_container()
    tail: tuple[str, ...] = ()
    if order.fault is not None and not order.fault.log_tail:
        tail = await effects.log_tail(container)
    try:
        await effects.retire(container, stop_s=STOP_S)
    except Stuck as err:
        log.warning("slot %s: %s will not go (%s); quarantined", order.subject.slot, container.name, err)
        return h.Retired(replace(container, role=Role.LEAVING), tail)
    return h.Retired(log_tail=tail)


async def _bury(effects: Effects, order: Order, clock: Clock) -> h.Happening:
    container = order.the_container()
    failure = await effects.bury(order.subject, container, warmed=order.warmed, now=clock.now())
    try:
        await effects.remove(container)
    except Stuck as err:
        log.warning("slot %s: %s will not go (%s); quarantined", order.subject.slot, container.name, err)
        return h.Buried(failure, jitter(), replace(container, role=Role.LEAVING))
    return h.Buried(failure, jitter())


async def sweep(effects: Effects, leaving: tuple[Container, ...], report: Callable[[h.Happening], None]) -> None:
    """Try once more to be rid of containers that would not go."""
    for container in leaving:
        try:
            await effects.retire(container, stop_s=STOP_S)
        except (Stuck, Hal0Error) as err:
            log.warning("%s is still there (%s)", container.name, err)
        else:
            report(h.Left(container.name))


def located(container: Container, info: ContainerInfo | None, provider: Provider, place: Place) -> Container:
    """Where the container answers, and its process, from what the engine says now."""
    if info is None:
        return container
    if place.network is not None and info.ip:
        return replace(container, host=info.ip, port=provider.container_port, pid=info.pid or None)
    return replace(container, pid=info.pid or None)
