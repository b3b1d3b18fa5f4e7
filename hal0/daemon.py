"""The daemon process: listen, say so, wait for a signal, drain, leave the containers running."""

import asyncio
import contextlib
import errno
import gc
import logging
import os
import resource
import signal
from collections.abc import Mapping, Sequence
from typing import Any, Final

from hal0.api.runner import HttpRunner
from hal0.app import create_app
from hal0.config.live import LiveConfig
from hal0.config.load import Loaded
from hal0.errors import Hal0Error
from hal0.hardware.sockets import listener_of
from hal0.home import Home
from hal0.observe import logs
from hal0.paths import socket_path

log = logging.getLogger(__name__)

# New objects between two looks of the garbage collector: a few megabytes at most.
_COLLECT_AFTER: Final = 20_000

# An address family that this kernel does not have is no reason not to start on the other one.
_NO_SUCH_FAMILY: Final = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


def run(home: Home, loaded: Loaded, overrides: Mapping[str, Any]) -> None:
    """Serve until SIGTERM or SIGINT. Raises Hal0Error when hal0 cannot start.

    `overrides` are the command line's values, kept when the configuration is read again.
    """
    logs.to_stderr(loaded.root.server.log_level)
    _raise_file_limit()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(home, LiveConfig(home.paths, loaded, os.environ, overrides)))


async def _serve(home: Home, config: LiveConfig) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = config.root.server
    async with create_app(home, config, os.environ) as app:
        runner = HttpRunner(app, grace_s=server.grace_s)
        await runner.start()
        try:
            socket = socket_path(home.paths.run_dir, "hal0.sock", instance=home.instance)
            await runner.listen_unix(socket)
            port = await _listen(runner, server.host, server.port)
            await asyncio.to_thread(home.announce, f"http://127.0.0.1:{port}", socket)
            log.info("hal0 listens on port %d and on %s", port, socket)
            _calm_the_collector()
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
    holder = listener_of(port) if err.errno == errno.EADDRINUSE else None
    by = f" is taken by {holder}" if holder else f": {err.strerror}"
    return Hal0Error(
        "server.port_taken",
        f"cannot listen on {host} port {port}{by}",
        hint="Stop that program, or choose another port: --port PORT, HAL0_SERVER__PORT=PORT in the environment, "
        "or port = PORT under [server] in hal0.toml.",
    )


def _raise_file_limit() -> None:
    """A thousand streams need two thousand sockets; the usual soft limit is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _calm_the_collector() -> None:
    """What stands by now stays until the end: it need not be looked at again and again.

    A request makes some hundred objects and leaves none behind, so the usual threshold of 700 has the collector run
    every few requests for nothing: a twelfth of their time, and all of it at once in one unlucky request.
    """
    gc.collect()
    gc.freeze()
    gc.enable()
    gc.set_threshold(_COLLECT_AFTER)


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed (a third less CPU per proxied byte), else asyncio's own loop."""
    try:
        import uvloop  # not on every platform
    except ImportError:
        return None
    return uvloop.Loop
