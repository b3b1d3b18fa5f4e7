"""Makes the web application of the services: the route table behind the one middleware."""

from collections.abc import AsyncIterator

from aiohttp import web

from hal0.access.owners import Owners
from hal0.api import sse
from hal0.api.access import SESSION_COOKIE, Door
from hal0.api.cors import CORS, Cors
from hal0.api.entrance import CHECK
from hal0.api.hardware import LAST_PROBE
from hal0.api.imagework import IMAGE_WORK, ImageWork
from hal0.api.middleware import edge
from hal0.api.openai import DISPATCHER, MODEL_LIST
from hal0.api.route import register
from hal0.api.routes import ROUTES
from hal0.api.told import Told
from hal0.dispatch.catalog import ModelList
from hal0.services import SERVICES, Services


def build_app(services: Services, *, heartbeat_s: float = sse.HEARTBEAT_S) -> web.Application:
    """The whole HTTP surface. The services stay the caller's: they are to be closed after the server has stopped."""
    cookie = f"hal0_{services.about.instance}"
    door = Door(
        lambda: services.config().access,
        services.access,
        services.clock,
        cookie=cookie,
        keyless_off=services.keyless_off,
        owners=Owners(),
        cut=services.dispatcher.cut,
    )
    cors = Cors(lambda: services.config().access)
    app = web.Application(middlewares=[edge(door, cors, Told(services))])
    app[SERVICES] = services
    app[SESSION_COOKIE] = cookie
    app[CORS] = cors
    app[CHECK] = door
    app[DISPATCHER] = services.dispatcher
    app[MODEL_LIST] = ModelList()
    app[LAST_PROBE] = {}
    app[IMAGE_WORK] = ImageWork(services.images, services.jobs, services.bus)
    streams = app[sse.STREAMS] = sse.Streams(heartbeat_s=heartbeat_s)
    app.on_shutdown.append(streams.stop)
    app.cleanup_ctx.append(_image_work)
    register(app, ROUTES)
    return app


async def _image_work(app: web.Application) -> AsyncIterator[None]:
    yield
    await app[IMAGE_WORK].aclose()
