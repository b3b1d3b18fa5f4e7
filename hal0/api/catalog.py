"""`/api/catalog`: models worth having, and which of them this machine should have."""

from aiohttp import web

from hal0.api.exchange import answer
from hal0.capabilities import leaflet
from hal0.services import SERVICES


async def show(request: web.Request) -> web.Response:
    services = request.app[SERVICES]
    found = await services.prober.look()
    limit = services.config().engine.memory_limit
    return answer(leaflet.of(found, limit, services.registry, services.pulls().looking))
