"""hal0's own HTTP runner: the daemon and every test serve through it, so that both behave alike.

It differs from aiohttp's defaults in what was measured to matter: a client that leaves cancels its request
(handler_cancellation; off by default, yet on in aiohttp's test server, which hides the leak), no access log is
formatted (the decision log says more), and sockets are made here, so that their mode is right before anyone connects.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from aiohttp import web

from hal0.api.connection import Runner
from hal0.api.entrance import fronts_of
from hal0.api.front import Fronts
from hal0.lib.atomic import private_dir

# Room for a burst of connects while one slow turn of the loop passes.
_BACKLOG: Final = 1024
# Between two requests of one client; longer than the 60 s that proxies in front keep theirs.
_KEEPALIVE_S: Final = 75.0


class HttpRunner:
    """Serves one application on any number of sockets until `stop`."""

    def __init__(self, app: web.Application, *, grace_s: float) -> None:
        self._app = app
        self._runner = Runner(
            app,
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=_KEEPALIVE_S,
            shutdown_timeout=grace_s,
            handle_signals=False,
            auto_decompress=False,  # compressed bodies are refused, not inflated into memory
        )
        self._grace_s = grace_s
        self._fronts: Fronts | None = None
        self._listening: list[asyncio.Server] = []
        self._unix: list[Path] = []

    async def start(self) -> None:
        """Build the application: its cleanup contexts open now."""
        await self._runner.setup()
        self._fronts = fronts_of(self._app, self._runner.connections, idle_s=_KEEPALIVE_S)

    async def listen_tcp(self, host: str, port: int) -> int:
        """Serve on one address; answers the port (`port` 0 takes any). Raises OSError when it is taken."""
        infos = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, proto, _, address = infos[0]
        sock = socket.socket(family, kind, proto)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:  # [::] and 0.0.0.0 stand side by side
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
        except OSError:
            sock.close()
            raise
        await self._serve(sock)
        bound: int = sock.getsockname()[1]
        return bound

    async def listen_unix(self, path: Path) -> None:
        """Serve on a socket file that only its owner may use; its directory becomes private, a stale file goes."""

        def work() -> socket.socket:
            private_dir(path.parent)
            path.unlink(missing_ok=True)
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.bind(str(path))
                path.chmod(0o600)
            except OSError:
                sock.close()
                raise
            return sock

        await self._serve(await asyncio.to_thread(work))
        self._unix.append(path)

    async def stop(self) -> None:
        """Stop accepting, let open requests finish within the grace time, then end them."""
        for server in self._listening:
            server.close()
        self._listening.clear()
        stopping = [self._runner.cleanup()]
        if self._fronts is not None:
            stopping.append(self._fronts.stop(self._grace_s))
        await asyncio.gather(*stopping)
        for path in self._unix:
            await asyncio.to_thread(path.unlink, missing_ok=True)
        self._unix.clear()

    async def _serve(self, sock: socket.socket) -> None:
        protocols = self._fronts or self._runner.server
        assert protocols is not None
        loop = asyncio.get_running_loop()
        self._listening.append(await loop.create_server(protocols, sock=sock, backlog=_BACKLOG))


@asynccontextmanager
async def serving(
    app: web.Application, *, tcp: Sequence[tuple[str, int]] = (), unix: Path | None = None, grace_s: float
) -> AsyncIterator[tuple[int, ...]]:
    """Serve inside this context; gives the TCP ports in the order asked for."""
    runner = HttpRunner(app, grace_s=grace_s)
    await runner.start()
    try:
        ports = [await runner.listen_tcp(host, port) for host, port in tcp]
        if unix is not None:
            await runner.listen_unix(unix)
        yield tuple(ports)
    finally:
        await runner.stop()
