"""Builds and pulls of images as jobs: they belong to hal0, not to the request that began them."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from aiohttp import web

from hal0.engine.base import ImageProgress
from hal0.engine.images import ImageState
from hal0.events.bus import Bus, Topic
from hal0.lib.aio import cancelled
from hal0.services import Images
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
        self._under_way: dict[tuple[JobKind, str], tuple[Job, asyncio.Task[None]]] = {}
        self._closing = False

    def start(self, kind: JobKind, key: str, *, force: bool) -> Job:
        """Raises image.not_found. `kind` is IMAGE_BUILD or IMAGE_PULL."""
        self._images.entry(key)
        if (kind, key) in self._under_way:
            return self._under_way[kind, key][0]
        job = self._jobs.start(kind, key, By.OPERATOR)
        task = asyncio.create_task(self._run(job, self._work(job, force=force)), name=f"{kind} {key}")
        self._under_way[kind, key] = (job, task)
        task.add_done_callback(lambda _: self._under_way.pop((kind, key)))

        def give_up() -> None:
            task.cancel()

        job.on_cancel = give_up
        return job

    async def aclose(self) -> None:
        """End what is under way and wait for it."""
        self._closing = True
        for _, task in list(self._under_way.values()):
            await cancelled(task)

    async def _work(self, job: Job, *, force: bool) -> None:
        verb = self._images.build if job.view.kind is JobKind.IMAGE_BUILD else self._images.pull
        await verb(job.view.target, lambda told: self._tell(job, told), force=force)
        for state in await self._images.list():
            if state.entry.key == job.view.target:
                self._bus.publish(Topic.IMAGE, state.entry.key, image_view(state).model_dump(mode="json"))

    async def _run(self, job: Job, work: Coroutine[Any, Any, None]) -> None:
        with self._jobs.ending(job, f"{job.view.kind} {job.view.target}", lambda: self._closing):
            await work

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
