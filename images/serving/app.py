"""The server around an engine: it listens at once, says that it is loading until it is not, and drains on SIGTERM."""

import argparse
import asyncio
import hmac
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from aiohttp import web

from serving.errors import Refusal
from serving.worker import Worker

log = logging.getLogger("serving")

# Less than the 20 s that hal0 gives a container between SIGTERM and SIGKILL.
_DRAIN_S: Final = 15.0
_BODY_BYTES: Final = 32 * 1024 * 1024  # in memory as a whole; forms with files go to the disk instead
_LINE: Final = 64

# Exit statuses that hal0's providers know.
OK: Final = 0
UNEXPECTED: Final = 1
UNUSABLE: Final = 3  # the model or the arguments: the same start would end the same way

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class UnusableError(Exception):
    """What was mounted can never be served; the text begins with what cannot be done."""


class Engine(Protocol):
    def load(self) -> None:
        """Blocking. Raises UnusableError for a model that can never be loaded."""
        ...

    def routes(self, worker: Worker) -> Iterable[web.RouteDef]:
        """What it answers once it is loaded, below `/v1`."""
        ...


@dataclass(frozen=True, slots=True)
class Options:
    """`model` is a directory; `alias` is the id that clients know it by."""

    host: str
    port: int
    model: Path
    alias: str
    secret: str = field(repr=False)


def options(argv: Sequence[str], description: str) -> Options:
    """Read a command line. Exits with status 2 for one that cannot be read."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--model", type=Path, required=True, help="directory of the model's files")
    parser.add_argument("--alias", required=True, help="the model's id in /v1/models")
    parser.add_argument("--api-key-file", type=Path, help="file with the key that requests must show")
    read = parser.parse_args(argv)
    try:
        secret = read.api_key_file.read_text().strip() if read.api_key_file else ""
    except OSError as fault:
        parser.error(f"cannot read the key: {fault.strerror}")
    if read.api_key_file and not secret:
        parser.error("the key file is empty")
    return Options(read.host, read.port, read.model, read.alias, secret)


def serve(settings: Options, engine: Engine) -> int:
    """Run until SIGTERM or SIGINT; the exit status. Leave the process with `leave`."""
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(message)s", level=logging.INFO)
    return asyncio.run(_run(settings, engine))


def leave(status: int) -> None:
    """End the process now: what the model's thread may still be computing is for nobody, and cannot be stopped."""
    logging.shutdown()
    os._exit(status)


class Server:
    """The application, and whether its engine is loaded."""

    def __init__(self, settings: Options, engine: Engine) -> None:
        self.loaded = False
        self.worker = Worker(_LINE)
        self._settings = settings
        self._engine = engine
        self._bearer = f"Bearer {settings.secret}".encode()

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._guard], client_max_size=_BODY_BYTES)
        app.add_routes(
            [web.get("/health", self._health), web.get("/v1/models", self._models), *self._engine.routes(self.worker)]
        )
        return app

    async def load(self) -> None:
        await self.worker.run(self._engine.load)
        self.loaded = True
        log.info("model loaded: %s", self._settings.alias)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if request.path != "/health":
                self._check(request)
            return await handler(request)
        except Refusal as refusal:
            return refusal.response()
        except web.HTTPException as fault:
            return Refusal(fault.status, fault.reason).response()
        except Exception:  # a server that goes on must say what was wrong with one request
            log.exception("%s failed", request.path)
            return Refusal(500, "the engine failed; its log says why").response()

    def _check(self, request: web.Request) -> None:
        shown = request.headers.get("Authorization", "").encode(errors="surrogateescape")
        if self._settings.secret and not hmac.compare_digest(shown, self._bearer):
            raise Refusal(401, "the slot's secret is missing or wrong", code="invalid_api_key")
        if not self.loaded:
            raise Refusal(503, "loading the model", code="loading", retry_after_s=1)

    async def _health(self, _request: web.Request) -> web.Response:
        if self.loaded:
            return web.json_response({"status": "ok"})
        return Refusal(503, "loading the model", code="loading").response()

    async def _models(self, _request: web.Request) -> web.Response:
        one = {"id": self._settings.alias, "object": "model", "created": 0, "owned_by": "hal0"}
        return web.json_response({"object": "list", "data": [one]})


async def _run(settings: Options, engine: Engine) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = Server(settings, engine)
    # Cancelled handlers: who hangs up must not leave the model speaking to nobody.
    runner = web.AppRunner(server.app(), handler_cancellation=True, shutdown_timeout=_DRAIN_S, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.host, settings.port).start()
        async with asyncio.TaskGroup() as group:
            loading = group.create_task(_load(server, stop))
            await stop.wait()
            stopped_early = loading.cancel()
        return OK if stopped_early else loading.result()
    finally:
        await runner.cleanup()


async def _load(server: Server, stop: asyncio.Event) -> int:
    """The exit status; a load that fails is the end."""
    try:
        await server.load()
    except UnusableError as fault:
        log.error("%s", fault)  # noqa: TRY400  its words are the whole reason
        status = UNUSABLE
    except Exception:  # whatever a runtime raises for what it does not like
        log.exception("the model does not load")
        status = UNEXPECTED
    else:
        return OK
    stop.set()
    return status
