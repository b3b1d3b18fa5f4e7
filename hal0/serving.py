"""Serving: build the application, listen, say so, wait for the word to stop, drain, leave the containers running."""

import asyncio
import errno
import gc
import logging
import os
from collections.abc import Sequence
from typing import Final

from hal0.api.runner import HttpRunner
from hal0.app import create_app
from hal0.config.live import LiveConfig
from hal0.errors import Hal0Error
from hal0.ground import Ground
from hal0.hardware.sockets import listener_of
from hal0.home import Home
from hal0.lib import pages
from hal0.paths import socket_path

log = logging.getLogger("hal0.daemon")

# New objects between two looks of the garbage collector: a few megabytes at most.
_COLLECT_AFTER: Final = 20_000

# An address family that this kernel does not have is no reason not to start on the other one.
_NO_SUCH_FAMILY: Final = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


async def serve(home: Home, config: LiveConfig, ground: Ground, stop: asyncio.Event) -> None:
    """Until `stop` is set; then open requests have the grace time. Raises Hal0Error when hal0 cannot listen."""
    server = config.root.server
    async with create_app(home, config, os.environ, ground) as app:
        runner = HttpRunner(app, grace_s=server.grace_s)
        await runner.start()
        try:
            socket = socket_path(home.paths.run_dir, "hal0.sock", instance=home.instance)
            await runner.listen_unix(socket)
            port = await _listen(runner, server.host, server.port)
            await asyncio.to_thread(home.announce, f"http://127.0.0.1:{port}", socket)
            log.info("hal0 listens on port %d and on %s", port, socket)
            await settle()
            await stop.wait()
            log.info("stopping: open requests have %g s to finish; containers stay up", server.grace_s)
        finally:
            await runner.stop()


async def _listen(runner: HttpRunner, hosts: Sequence[str], port: int) -> int:
    """Listen on every address; answers the port. With port 0 all addresses share the first one's."""
    bound = port
    heard = False
    for host in hosts:
        try:
            bound = await runner.listen_tcp(host, bound)
            heard = True
        except OSError as err:
            if err.errno in _NO_SUCH_FAMILY:
                log.info("not listening on %s: %s", host, err.strerror)
                continue
            raise await asyncio.to_thread(_cannot_listen, host, bound, err) from err
    if not heard:
        raise Hal0Error("config.invalid", f"cannot listen on any of {', '.join(hosts)}")
    return bound


def _cannot_listen(host: str, port: int, err: OSError) -> Hal0Error:
    taken = err.errno == errno.EADDRINUSE  # else no such host, or a port for root alone: there is nobody to stop
    holder = listener_of(port) if taken else None
    by = f" is taken by {holder}" if holder else f": {err.strerror}"
    return Hal0Error(
        "server.port_taken",
        f"cannot listen on {host} port {port}{by}",
        hint=(
            "Stop that program, or choose another port: --port PORT, HAL0_SERVER__PORT=PORT in the environment, "
            "or port = PORT under [server] in hal0.toml."
        )
        if taken
        else "Choose another address: --host HOST and --port PORT, or host and port under [server] in hal0.toml.",
    )


async def settle() -> None:
    """What stands by now stays until the end: the collector need not look at it again and again, large pages hold it.

    Frozen without looking for garbage in it first: that would take a sixth of a second in which nobody is answered,
    for the half megabyte that imports leave behind. A request makes some hundred objects and leaves none behind, so
    the usual threshold of 700 would have the collector run every few requests for nothing: a twelfth of their time,
    and all of it at once in one unlucky request.
    """
    gc.freeze()
    gc.enable()
    gc.set_threshold(_COLLECT_AFTER)
    log.debug("%d MiB on large pages", await asyncio.to_thread(pages.enlarge) >> 20)
