"""`/api/slots`: what the slots are and do, and the operator's verbs."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Final

from aiohttp import web

from hal0.api import sse
from hal0.api.exchange import answer, body_as, flag, number
from hal0.api.jobs import started, waiting
from hal0.api.middleware import PRINCIPAL_KEY
from hal0.engine.base import LogLine
from hal0.errors import Hal0Error
from hal0.services import SERVICES, Services
from hal0.slots.supervisor import Supervisor
from hal0.vocab import Access, Want
from hal0.wire.base import NothingView
from hal0.wire.slots import (
    CreateRequest,
    DeletedView,
    DraftView,
    LoadRequest,
    LogLineView,
    LogsView,
    SlotMetricsView,
    SlotsView,
    SlotView,
    SwapRequest,
    UnloadRequest,
)

_TAIL: Final = 200
_LONGEST_TAIL: Final = 10_000  # a screenful for people is 50 lines; a container's log is bounded anyway
_LOGS_S: Final = 30.0


async def list_slots(request: web.Request) -> web.Response:
    services = request.app[SERVICES]
    return answer(SlotsView(items=[_with_live(view, services) for view in services.supervisor.views()]))


async def get_slot(request: web.Request) -> web.Response:
    services = request.app[SERVICES]
    return answer(_with_live(services.supervisor.slot(request.match_info["name"]).view(), services))


async def metrics(request: web.Request) -> web.Response:
    """Its engine is asked now, and has a second for its answer."""
    services = request.app[SERVICES]
    view = _with_live(services.supervisor.slot(request.match_info["name"]).view(), services)
    services.past.decisions.flush()
    statuses, prompt_tokens, completion_tokens = services.past.requests.of(view.name)
    return answer(
        SlotMetricsView(
            slot=view.name,
            in_flight=view.in_flight,
            queued=view.queued,
            requests=statuses,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            live=view.live,
            engine=await services.past.engines.told(view.name),
        )
    )


def _with_live(view: SlotView, services: Services) -> SlotView:
    live = services.past.figures.view(view.name) if view.in_flight else None
    return view if live is None else view.model_copy(update={"live": live})


async def resolved(request: web.Request) -> web.Response:
    """Variables are where tokens are kept: their values are for those who may set them."""
    view = request.app[SERVICES].custom.resolved(request.match_info["name"])
    if not request[PRINCIPAL_KEY].may(Access.ADMIN):
        view = view.model_copy(update={"env": [it.model_copy(update={"value": None}) for it in view.env]})
    return answer(view)


async def create(request: web.Request) -> web.Response:
    body = await body_as(request, CreateRequest)
    return answer(await request.app[SERVICES].custom.create(body.name, body.model_extra or {}), status=201)


async def draft(request: web.Request) -> web.Response:
    body = await body_as(request, CreateRequest)
    made = await request.app[SERVICES].custom.draft(body.name, body.model_extra or {})
    return answer(DraftView(name=body.name, file=str(made.file), text=made.text))


async def delete(request: web.Request) -> web.Response:
    """Answers when the slot is unloaded and gone, which may take as long as its open streams do."""
    name = request.match_info["name"]
    await request.app[SERVICES].custom.delete(name)
    return answer(DeletedView(name=name))


async def load(request: web.Request) -> web.Response:
    wait_s, body = waiting(request), await body_as(request, LoadRequest)
    return await started(await request.app[SERVICES].supervisor.load(request.match_info["name"], body.model), wait_s)


async def unload(request: web.Request) -> web.Response:
    wait_s, body = waiting(request), await body_as(request, UnloadRequest)
    supervisor, name = request.app[SERVICES].supervisor, request.match_info["name"]
    return await started(await supervisor.unload(name, drain_s=body.drain_s), wait_s)


async def restart(request: web.Request) -> web.Response:
    """Another model than the present one makes it a swap."""
    wait_s, body = waiting(request), await body_as(request, LoadRequest)
    supervisor, name = request.app[SERVICES].supervisor, request.match_info["name"]
    if body.model is not None and body.model != supervisor.slot(name).snapshot().model:
        return await started(await supervisor.swap(name, body.model), wait_s)
    return await started(await supervisor.restart(name), wait_s)


async def swap(request: web.Request) -> web.Response:
    wait_s, body = waiting(request), await body_as(request, SwapRequest)
    return await started(await request.app[SERVICES].supervisor.swap(request.match_info["name"], body.model), wait_s)


async def reset(request: web.Request) -> web.Response:
    """Forget the failure; answers with the job of what the slot goes on to."""
    wait_s, _ = waiting(request), await body_as(request, NothingView)
    supervisor, name = request.app[SERVICES].supervisor, request.match_info["name"]
    view = await supervisor.reset(name)
    goes_on = supervisor.load if view.desired.want is Want.LOADED else supervisor.unload
    return await started(await goes_on(name), wait_s)


async def pin(request: web.Request) -> web.Response:
    await body_as(request, NothingView)
    return answer(await request.app[SERVICES].custom.pin(request.match_info["name"], pinned=True))


async def unpin(request: web.Request) -> web.Response:
    await body_as(request, NothingView)
    return answer(await request.app[SERVICES].custom.pin(request.match_info["name"], pinned=False))


async def failure(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    slot = request.app[SERVICES].supervisor.slot(name)
    view = slot.view().failure or slot.last_failure
    if view is None:
        raise Hal0Error("request.not_found", f"cannot show a failure: slot {name} has none", hint="Nothing to do.")
    return answer(view)


async def logs(request: web.Request) -> web.StreamResponse:
    """The last `tail` lines; with `?follow=true` as a stream that goes on with what comes."""
    tail, follow = int(number(request, "tail", _TAIL, most=_LONGEST_TAIL)), flag(request, "follow")
    lines = _lines(request.app[SERVICES].supervisor, request.match_info["name"], tail=tail, follow=follow)
    if not follow:
        return answer(LogsView(items=await _all(lines)))
    async with aclosing(_frames(lines)) as frames:
        return await request.app[sse.STREAMS].send(request, frames)


def _lines(supervisor: Supervisor, name: str, *, tail: int, follow: bool) -> AsyncIterator[LogLine]:
    """Of the container; when that is gone because it failed, the last words that were kept of it."""
    try:
        return supervisor.logs(name, tail=tail, follow=follow)
    except Hal0Error as err:
        failure = supervisor.slot(name).view().failure
        if err.code != "slot.offline" or failure is None or not failure.log_tail:
            raise
        return _kept(failure.log_tail[max(len(failure.log_tail) - tail, 0) :], failure.at)


async def _kept(texts: Sequence[str], at: float) -> AsyncIterator[LogLine]:
    for text in texts:
        yield LogLine("stderr", text, at)


async def _all(lines: AsyncIterator[LogLine]) -> list[LogLineView]:
    try:
        async with asyncio.timeout(_LOGS_S):
            return [_view(line) async for line in lines]
    except TimeoutError as err:
        raise Hal0Error("engine.timeout", f"cannot read the log: it took longer than {_LOGS_S:.0f} s") from err


async def _frames(lines: AsyncIterator[LogLine]) -> AsyncGenerator[bytes, None]:
    async for line in lines:
        yield sse.frame(_view(line).json_bytes())


def _view(line: LogLine) -> LogLineView:
    return LogLineView(stream=line.stream, text=line.text, at=line.at)
