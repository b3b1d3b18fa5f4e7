"""`/api/pulls`: models on their way to this machine."""

import asyncio

from aiohttp import web

from hal0.api.exchange import answer, body_as
from hal0.api.jobs import started, waiting
from hal0.services import SERVICES
from hal0.wire.base import NothingView
from hal0.wire.pulls import LookRequest, PullRequest, PullsView


async def list_pulls(request: web.Request) -> web.Response:
    return answer(PullsView(items=request.app[SERVICES].pulls().views()))


async def look(request: web.Request) -> web.Response:
    """Nothing is taken: whoever asked says what."""
    from hal0.pulls.folder import look  # for who adds a whole folder

    asked, services = await body_as(request, LookRequest), request.app[SERVICES]
    allow_pickle = services.config().models.allow_pickle
    return answer(await asyncio.to_thread(look, asked.path, services.registry, allow_pickle=allow_pickle))


async def get_pull(request: web.Request) -> web.Response:
    return answer(request.app[SERVICES].pulls().view(request.match_info["id"]))


async def start(request: web.Request) -> web.Response:
    asked, wait_s = await body_as(request, PullRequest), waiting(request)
    return await started(await request.app[SERVICES].pulls().start(asked), wait_s)


async def pause(request: web.Request) -> web.Response:
    await body_as(request, NothingView)
    pulls = request.app[SERVICES].pulls()
    await pulls.pause(request.match_info["id"])
    return answer(pulls.view(request.match_info["id"]))


async def resume(request: web.Request) -> web.Response:
    await body_as(request, NothingView)
    wait_s = waiting(request)
    return await started(await request.app[SERVICES].pulls().resume(request.match_info["id"]), wait_s)


async def cancel(request: web.Request) -> web.Response:
    job = await request.app[SERVICES].pulls().cancel(request.match_info["id"])
    return answer(job.view)
