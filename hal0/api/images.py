"""`/api/images`: the runtime images of this machine, and getting those that are not here."""

from aiohttp import web

from hal0.api.exchange import answer, body_as
from hal0.api.imagework import IMAGE_WORK, image_view
from hal0.api.jobs import started, waiting
from hal0.services import SERVICES
from hal0.wire.base import NothingView
from hal0.wire.jobs import JobKind
from hal0.wire.system import ImageRequest, ImagesView


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


async def _begin(request: web.Request, kind: JobKind) -> web.Response:
    wait_s, body = waiting(request), await body_as(request, ImageRequest)
    return await started(request.app[IMAGE_WORK].start(kind, request.match_info["key"], force=body.force), wait_s)
