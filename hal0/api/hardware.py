"""`/api/hardware`: what the machine has and does, and what would make more of it."""

from typing import Final

from aiohttp import web

from hal0.api.exchange import answer, body_as
from hal0.capabilities.picture import changes, picture
from hal0.services import SERVICES, Services
from hal0.wire.base import NothingView
from hal0.wire.hardware import HardwareView, ProbeView

LAST_PROBE: Final = web.AppKey("last_probe", dict[str, HardwareView])
_SEEN: Final = "seen"


async def show(request: web.Request) -> web.Response:
    """The machine as it is at this moment."""
    return answer(await _look(request.app[SERVICES]))


async def probe(request: web.Request) -> web.Response:
    """The same, and what has changed since the last call of this."""
    await body_as(request, NothingView)
    now = await _look(request.app[SERVICES])
    seen = request.app[LAST_PROBE]
    before, seen[_SEEN] = seen.get(_SEEN, now), now
    return answer(ProbeView(hardware=now, changes=changes(before, now)))


async def _look(services: Services) -> HardwareView:
    return picture(await services.prober.look(), services.config().engine.memory_limit)
