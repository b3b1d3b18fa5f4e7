"""What is done to the world for a slot: one thin door to engine, images, models and files.

Every method ends by itself within the deadlines of what it calls, may be cancelled at any await, and leaves nothing
that the record does not name: the container's name is on disk before `launch` is called.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from hal0.config.slots import SlotConfig
from hal0.engine import oom
from hal0.engine.base import ContainerInfo, ContainerSpec, ContainerStatus, Engine, ImageProgress
from hal0.engine.errors import NameTaken, PortTaken
from hal0.errors import Hal0Error
from hal0.models.absent import NotHere
from hal0.providers.base import Exit, Launch, Provider
from hal0.slots import failure as failures
from hal0.slots.adopt import LABEL_SPEC
from hal0.slots.fitting import Fits
from hal0.slots.matching import require_match
from hal0.slots.model_files import ModelFiles
from hal0.slots.plan import Model, Place, launch_of, resolve_device, spec_of
from hal0.slots.record import Container, Failure
from hal0.slots.store import SlotStore
from hal0.vocab import By, Role, SlotName

log = logging.getLogger(__name__)

LOG_TAIL: Final = 50  # lines kept of a start: the first error line of every engine seen is within them
_LOG_DEADLINE_S: Final = 5.0
_SETTLED_S: Final = 5.0  # without a change: nobody writes it any more
_FETCHED: Final = ("image", "model", "device")  # what a start failed on before there was a container
# Two seconds for podman to record an exit that hal0 saw first; usually it takes 20 ms.
_EXIT_POLLS: Final = 80
_EXIT_POLL_S: Final = 0.025

OnProgress = Callable[[str, float | None], None]
# Fetches a model that is not here; False when whoever wanted the load may not have that done. Raises pull.*, model.*.
Bring = Callable[[str, By, OnProgress], Awaitable[bool]]


class Images(Protocol):
    """Where runtime images come from."""

    async def ensure(self, key: str, on_progress: Callable[[ImageProgress], None]) -> str:
        """The id of the image for a manifest key (or an image reference): local, else pulled, else built."""
        ...

    async def local(self, key: str) -> str | None:
        """The id of the image that is here now; None when there is none."""
        ...


class Models(Protocol):
    """The models that are known."""

    def require(self, model_id: str) -> Model:
        """Raises model.not_found or model.not_downloaded (`models.absent.NotHere`)."""
        ...


class Clash(Exception):
    """The port or the name was taken; another generation may try. `stuck`: the container could not be removed."""

    def __init__(self, message: str, *, stuck: bool = False) -> None:
        super().__init__(message)
        self.stuck = stuck


class Stuck(Exception):
    """Podman does not remove the container; it has to be quarantined."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The slot an effect works for, as configured at the moment the effect starts."""

    slot: SlotName
    config: SlotConfig
    provider: Provider


class Effects:
    def __init__(
        self,
        engine: Engine,
        images: Images,
        models: Models,
        store: SlotStore,
        place: Place,
        fits: Fits,
        bring: Bring | None = None,
    ) -> None:
        self._engine = engine
        self._images = images
        self._models = models
        self._store = store
        self._place = place
        self._fits = fits
        self._bring = bring
        self._files = ModelFiles()

    async def fetch(self, subject: Subject, model_id: str, by: By, on_progress: OnProgress) -> None:
        """See to it that model files and image are here and fit this machine. Raises what `of_error` can classify.

        `by`: who wants it loaded.
        """
        model = await self._brought(subject, model_id, by, on_progress)
        if (missing := await self._files.missing(model)) is not None:
            raise Hal0Error("model.not_downloaded", f"cannot load {model_id}: {missing} is missing")
        require_match(model, subject.provider)
        device = resolve_device(subject.config, subject.provider, self._place)
        await self._fits.check(subject.config, self._image_key(subject, model), device)
        await self._image(subject, model, on_progress)

    async def _brought(self, subject: Subject, model_id: str, by: By, on_progress: OnProgress) -> Model:
        """The model, fetched where it is not here and may be: not for an image that cannot run on this machine."""
        try:
            return self._models.require(model_id)
        except NotHere as err:
            if err.wanted is None or self._bring is None:
                raise
            device = resolve_device(subject.config, subject.provider, self._place)
            await self._fits.check(subject.config, subject.config.image or subject.provider.image_key(device), device)
            if not await self._bring(err.wanted.id, by, on_progress):
                raise
        return self._models.require(model_id)

    async def mended(self, subject: Subject, model_id: str, failure: Failure, now: float) -> bool:
        """The start that failed so would be another one now: another image is here, or the model's files have changed.

        Files that are still being written have not changed yet.
        """
        try:
            model = self._models.require(model_id)
            changes = [at for at in await self._files.changes(model) if at is not None]
            if len(changes) < len(model.files) or max(changes, default=0.0) > now - _SETTLED_S:
                return False
            if max(changes, default=0.0) > failure.at:
                return True
            return await self._would_differ(subject, model, failure)
        except Hal0Error as err:
            log.debug("slot %s: nothing is mended yet: %s", subject.slot, err.message)
            return False

    async def _would_differ(self, subject: Subject, model: Model, failure: Failure) -> bool:
        """Raises what keeps it from being started at all."""
        image_id = await self._images.local(self._image_key(subject, model))
        if image_id is None:
            return False
        if failure.spec_hash is not None:
            container = Container(Role.CURRENT, "", 0, model.id)
            return self._spec(subject, container, image_id).labels[LABEL_SPEC] != failure.spec_hash
        device = resolve_device(subject.config, subject.provider, self._place)
        await self._fits.check(subject.config, self._image_key(subject, model), device)
        return failure.exit_code is None and failure.code.partition(".")[0] in _FETCHED

    async def _image(self, subject: Subject, model: Model, on_progress: OnProgress) -> str:
        return await self._images.ensure(self._image_key(subject, model), lambda p: on_progress(p.message, p.fraction))

    def _image_key(self, subject: Subject, model: Model) -> str:
        device = resolve_device(subject.config, subject.provider, self._place)
        return subject.config.image or subject.provider.image_key(device, model.architecture)

    def _spec(self, subject: Subject, container: Container, image_id: str) -> ContainerSpec:
        """What would be created for `container` now. Raises what the model registry refuses."""
        return spec_of(
            container,
            self.planned(subject, container.model),
            subject.provider,
            subject.config,
            self._place,
            image_id=image_id,
            secret_file=self._store.secret_path(subject.slot, container.generation),
        )

    def planned(self, subject: Subject, model_id: str) -> Launch:
        """How `model_id` would be started now. Raises what the model registry refuses."""
        device = resolve_device(subject.config, subject.provider, self._place)
        return launch_of(subject.slot, subject.config, self._models.require(model_id), subject.provider, device)

    async def stale(self, subject: Subject, container: Container) -> str | None:
        """Why a start would make another container than this one; None when it would not, or nobody can tell."""
        try:
            image_id = await self._images.local(self._image_key(subject, self._models.require(container.model)))
            if image_id is None:
                return None
            planned = self._spec(subject, container, image_id).labels[LABEL_SPEC]
        except Hal0Error as err:
            log.debug("cannot tell whether %s is stale: %s", container.name, err.message)
            return None
        if planned == container.spec_hash:
            return None
        if image_id != container.image_id:
            return "another image is here than the one it was started from"
        return "the configuration has changed since it was started"

    async def launch(
        self, subject: Subject, container: Container, beside: Container | None, on_created: Callable[[], None]
    ) -> tuple[Container, str]:
        """Create and start `container`, `beside` one that serves meanwhile; returns it with its secret.

        Raises Clash when its port or name was taken meanwhile.
        """
        image_id = await self._image(subject, self._models.require(container.model), lambda _message, _fraction: None)
        spec = self._spec(subject, container, image_id)
        others = (beside.generation,) if beside is not None else ()
        secret = await self._store.write_secret(subject.slot, container.generation, reader=spec.user, keep=others)
        await self._store.write_env(subject.slot, dict(spec.env))
        try:
            created = await self._engine.create(spec)
            on_created()
            await self._engine.start(created)
        except NameTaken as err:
            raise Clash(err.message) from err
        except PortTaken as err:
            try:
                await self.remove(container)
            except Stuck:
                raise Clash(err.message, stuck=True) from err
            raise Clash(err.message) from err
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

    async def bury(
        self, subject: Subject, container: Container, *, warmed: bool, used_bytes: int | None, now: float
    ) -> Failure:
        """Read why a dead container ended. It is still there afterwards: `remove` it.

        `used_bytes` is its last memory sample.
        """
        info = await self._ended(container)
        if info is None:
            return failures.vanished(now)
        memory = await self._memory_verdict(info, used_bytes)
        ended = Exit(
            exit_code=info.exit_code,
            oom_killed=memory.oom,
            wanted=False,
            warmed=warmed,
            log_tail=await self.log_tail(container),
        )
        return failures.of_exit(ended, subject.provider.classify(ended), container, memory.evidence, now)

    async def _memory_verdict(self, info: ContainerInfo, used_bytes: int | None) -> oom.Verdict:
        """Was it killed for lack of memory? The kernel's log is read only where it can matter."""
        killed = info.exit_code == oom.KILLED and not info.oom_killed
        return oom.verdict(
            info.id,
            info.exit_code,
            flagged=info.oom_killed,
            used_bytes=used_bytes,
            limit_bytes=info.memory_limit_bytes,
            kernel_log=await asyncio.to_thread(oom.read_kernel_log) if killed else (),
        )

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


def located(container: Container, info: ContainerInfo | None, provider: Provider, place: Place) -> Container:
    """Where the container answers, and its process, from what the engine says now."""
    if info is None:
        return container
    if place.network is not None and info.ip:
        return replace(container, host=info.ip, port=provider.container_port, pid=info.pid or None)
    return replace(container, pid=info.pid or None)
