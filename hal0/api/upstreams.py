"""`/api/upstreams`: the servers elsewhere, how they are, and the operator's changes to them."""

from aiohttp import web

from hal0.api.exchange import answer, body_as
from hal0.services import SERVICES, Services
from hal0.upstreams.presets import PRESETS
from hal0.upstreams.tables import Given
from hal0.upstreams.upstream import Upstream
from hal0.upstreams.view import models_of, offers
from hal0.wire.base import NothingView
from hal0.wire.upstreams import (
    PresetView,
    UpstreamChange,
    UpstreamGoneView,
    UpstreamRequest,
    UpstreamsView,
    UpstreamTestView,
)

_PRESETS = [
    PresetView(name=name, base_url=preset.base_url, kind=preset.kind.value, env=preset.env)
    for name, preset in PRESETS.items()
]


async def list_upstreams(request: web.Request) -> web.Response:
    return answer(UpstreamsView(items=request.app[SERVICES].upstreams.views(), presets=_PRESETS))


async def get_upstream(request: web.Request) -> web.Response:
    return answer(request.app[SERVICES].upstreams.view(request.match_info["name"]))


async def models(request: web.Request) -> web.Response:
    return answer(models_of(request.app[SERVICES].upstreams.named(request.match_info["name"])))


async def add(request: web.Request) -> web.Response:
    body = await body_as(request, UpstreamRequest)
    services = request.app[SERVICES]
    await services.upstream_tables.add(
        body.name, body.model_extra or {}, Given(preset=body.preset, key=body.key, key_env=body.key_env)
    )
    return answer(services.upstreams.view(body.name), status=201)


async def change(request: web.Request) -> web.Response:
    body = await body_as(request, UpstreamChange)
    services, name = request.app[SERVICES], request.match_info["name"]
    await services.upstream_tables.change(name, body.model_extra or {})
    return answer(services.upstreams.view(name))


async def delete(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    await request.app[SERVICES].upstream_tables.delete(name)
    return answer(UpstreamGoneView(name=name))


async def refresh(request: web.Request) -> web.Response:
    """Ask for its models now. An upstream that does not tell them is an error."""
    upstream = await _asked(request)
    if upstream.problem is not None:
        raise upstream.problem
    return answer(request.app[SERVICES].upstreams.view(upstream.name))


async def test(request: web.Request) -> web.Response:
    """The same, with whatever came out as the answer: a test that finds a fault has done its work."""
    upstream = await _asked(request)
    problem = upstream.problem
    return answer(
        UpstreamTestView(
            name=upstream.name,
            ok=problem is None,
            status=upstream.status,
            latency_ms=None if problem else upstream.latency_ms,
            models=None if problem or upstream.models is None else len(upstream.models),
            code=problem.code if problem else None,
            message=problem.message if problem else offers(upstream),
        )
    )


async def _asked(request: web.Request) -> Upstream:
    await body_as(request, NothingView)
    services: Services = request.app[SERVICES]
    return await services.upstreams.refresh(request.match_info["name"])
