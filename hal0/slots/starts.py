"""What a slot is started from: its model, image and device, fetched, checked, and compared with what runs."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from hal0.config.slots import SlotConfig
from hal0.engine.base import ContainerSpec, ImageProgress
from hal0.errors import Hal0Error
from hal0.models.absent import NotHere
from hal0.providers.base import Launch, Provider
from hal0.slots.adopt import LABEL_SPEC
from hal0.slots.fitting import Fits
from hal0.slots.matching import require_arguments, require_match
from hal0.slots.model_files import ModelFiles
from hal0.slots.plan import Model, Place, launch_of, resolve_device, spec_of
from hal0.slots.reader import UNREADABLE
from hal0.slots.record import Container, Failure
from hal0.slots.store import SlotStore
from hal0.vocab import By, Role, SlotName

log = logging.getLogger(__name__)

_SETTLED_S: Final = 5.0  # without a change: nobody writes it any more
_FETCHED: Final = ("image", "model", "device", "config")  # what a start failed on before there was a container

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


@dataclass(frozen=True, slots=True)
class Subject:
    """The slot something is done for, as configured at the moment it begins."""

    slot: SlotName
    config: SlotConfig
    provider: Provider


class Starts:
    """Every method ends within the deadlines of what it calls, and may be cancelled at any await."""

    def __init__(
        self,
        images: Images,
        models: Models,
        store: SlotStore,
        place: Place,
        fits: Fits,
        bring: Bring | None = None,
    ) -> None:
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
        if UNREADABLE in failure.details:  # perhaps for a folder around the files: these have not changed then
            await self._files.reader(self.planned(subject, model.id), subject.provider)
            return True
        if failure.spec_hash is not None:
            container = Container(Role.CURRENT, "", 0, model.id)
            return self._spec(subject, container, image_id).labels[LABEL_SPEC] != failure.spec_hash
        device = self.planned(subject, model.id).device
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

    async def spec(self, subject: Subject, container: Container) -> ContainerSpec:
        """The container to create for `container` now, its image fetched if need be. Raises what `fetch` raises."""
        model = self._models.require(container.model)
        image_id = await self._image(subject, model, lambda _message, _fraction: None)
        user = await self._files.reader(self.planned(subject, model.id), subject.provider)
        if user != subject.provider.user:
            log.info("slot %s: runs as user %s inside, who alone may read its model's files", subject.slot, user)
        return replace(self._spec(subject, container, image_id), user=user)

    def planned(self, subject: Subject, model_id: str) -> Launch:
        """How `model_id` would be started now. Raises what the model registry refuses, and config.invalid."""
        require_arguments(model_id, subject.provider, subject.config.extra_args)
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
