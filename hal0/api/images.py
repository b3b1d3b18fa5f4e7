"""`/api/images`: the runtime images of this machine, and getting those that are not here."""

from aiohttp import web

from hal0.api.exchange import answer, body_as
from hal0.api.imagework import IMAGE_WORK, image_view
from hal0.api.jobs import started, waiting
from hal0.config.root import RootConfig
from hal0.services import SERVICES
from hal0.wire.base import NothingView
from hal0.wire.jobs import JobKind
from hal0.wire.system import ImageRequest, ImagesView, KeptImageView, PrunedView, RemovedImageView


async def list_images(request: web.Request) -> web.Response:
    states = await request.app[SERVICES].images.list()
    return answer(ImagesView(items=[image_view(state) for state in states]))


async def build(request: web.Request) -> web.Response:
    return await _begin(request, JobKind.IMAGE_BUILD)


async def pull(request: web.Request) -> web.Response:
    return await _begin(request, JobKind.IMAGE_PULL)


async def verify(request: web.Request) -> web.Response:
    await body_as(request, NothingView)
    return answer(image_view(await request.app[SERVICES].images.verify(request.match_info["key"])))


async def prune(request: web.Request) -> web.Response:
    await body_as(request, NothingView)
    services = request.app[SERVICES]
    pruned = await services.images.prune(_chosen(services.config()))
    return answer(
        PrunedView(
            removed=[RemovedImageView(id=image.id, size_bytes=image.size_bytes) for image in pruned.removed],
            kept=[KeptImageView(id=image.id, reason=reason) for image, reason in pruned.kept],
        )
    )


def _chosen(root: RootConfig) -> set[str]:
    """The images that slots, their fallbacks and profiles name."""
    slots = root.slots.values()
    named = (*(slot.image for slot in slots), *(other.image for slot in slots for other in slot.fallbacks))
    return {image for image in (*named, *(profile.image for profile in root.profiles.values())) if image is not None}


async def _begin(request: web.Request, kind: JobKind) -> web.Response:
    wait_s, body = waiting(request), await body_as(request, ImageRequest)
    return await started(request.app[IMAGE_WORK].start(kind, request.match_info["key"], force=body.force), wait_s)
