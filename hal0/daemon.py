"""The daemon process: its log, its limits, its loop and its signals, around what serves."""

import asyncio
import contextlib
import os
import resource
import signal
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from hal0.config.live import LiveConfig
from hal0.config.load import Loaded
from hal0.ground import open_ground
from hal0.home import Home
from hal0.observe import logs


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
    # Most of a start is imports: they are done in the time in which podman's service starts.
    imports = asyncio.create_task(asyncio.to_thread(import_module, "hal0.serving"))
    async with open_ground(home, config.root.engine, os.environ) as ground:
        await imports
        from hal0.serving import serve

        await serve(home, config, ground, stop)


def _raise_file_limit() -> None:
    """A thousand streams need two thousand sockets; the usual soft limit is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed (a third less CPU per proxied byte), else asyncio's own loop."""
    try:
        import uvloop  # not on every platform
    except ImportError:
        return None
    return uvloop.Loop
