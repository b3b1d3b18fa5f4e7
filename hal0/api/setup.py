"""`/api/setup`: what a new machine should have, and setting it up."""

from aiohttp import web

from hal0.api.exchange import answer, body_as
from hal0.api.jobs import started, waiting
from hal0.services import SERVICES
from hal0.wire.setup import SetupRequest


async def show(request: web.Request) -> web.Response:
    return answer(await request.app[SERVICES].setup().view())


async def start(request: web.Request) -> web.Response:
    wait_s, body = waiting(request), await body_as(request, SetupRequest)
    return await started(await request.app[SERVICES].setup().start(body), wait_s)
