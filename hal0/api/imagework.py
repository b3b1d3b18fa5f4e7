"""Builds and pulls of images as jobs: they belong to hal0, not to the request that began them."""

from typing import Final

from aiohttp import web

from hal0.engine.base import ImageProgress
from hal0.engine.images import ImageState
from hal0.events.bus import Bus, Topic
from hal0.services import Images
from hal0.slots.job_tasks import JobTasks
from hal0.slots.jobs import Job, Jobs
from hal0.vocab import By
from hal0.wire.jobs import JobKind
from hal0.wire.system import ImageView


class ImageWork:
    """One job per image and verb at a time; who asks again gets the one under way."""

    def __init__(self, images: Images, jobs: Jobs, bus: Bus) -> None:
        self._images = images
        self._jobs = jobs
        self._bus = bus
        self._tasks = JobTasks[tuple[JobKind, str]](jobs)

    def start(self, kind: JobKind, key: str, *, force: bool) -> Job:
        """Raises image.not_found. `kind` is IMAGE_BUILD or IMAGE_PULL."""
        self._images.entry(key)
        if (known := self._tasks.get((kind, key))) is not None:
            return known
        job = self._jobs.start(kind, key, By.OPERATOR)
        return self._tasks.start((kind, key), job, f"{kind} {key}", self._work(job, force=force))

    async def aclose(self) -> None:
        """End what is under way and wait for it."""
        await self._tasks.aclose()

    async def _work(self, job: Job, *, force: bool) -> None:
        verb = self._images.build if job.view.kind is JobKind.IMAGE_BUILD else self._images.pull
        await verb(job.view.target, lambda told: self._tell(job, told), force=force)
        for state in await self._images.list():
            if state.entry.key == job.view.target:
                self._bus.publish(Topic.IMAGE, state.entry.key, image_view(state).model_dump(mode="json"))

    def _tell(self, job: Job, told: ImageProgress) -> None:
        self._jobs.progress(job, told.message, told.fraction)


IMAGE_WORK: Final = web.AppKey("image_work", ImageWork)


def image_view(state: ImageState) -> ImageView:
    entry, image = state.entry, state.choice.image
    return ImageView(
        key=entry.key,
        ref=entry.ref,
        digest=entry.digest,
        local_id=image.id if image else None,
        local_tag=entry.local_tag if image and entry.local_tag in image.tags else None,
        size_bytes=image.size_bytes if image else None,
        source=state.choice.source,
        devices=list(entry.devices),
        buildable=entry.recipe is not None,
        pullable=entry.pull_ref is not None,
        on_request=entry.on_request,
        note=state.note,
    )
