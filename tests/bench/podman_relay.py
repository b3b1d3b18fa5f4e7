"""podman's own service, and a socket in front of it that can keep all events to itself: deaf ears on the real thing."""

import asyncio
import contextlib
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_READY_S: Final = 20.0
_EVENTS: Final = re.compile(rb"^GET [^ ]*/events[? ]")
_SILENT: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
_HEAD_END: Final = b"\r\n\r\n"


@contextmanager
def podman_service(path: Path, environ: dict[str, str]) -> Iterator[None]:
    """`podman system service` on `path` until the context ends."""
    process = subprocess.Popen(
        ["podman", "system", "service", "--time=0", f"unix://{path}"], env=environ, cwd=path.parent
    )
    try:
        deadline = time.monotonic() + _READY_S
        while not path.exists():
            if time.monotonic() > deadline or process.poll() is not None:
                raise SystemExit(f"cannot start podman's service on {path} (exit {process.poll()})")
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def deaf_relay(path: Path, behind: Path) -> Iterator[None]:
    """Everything on `path` is `behind`'s, except that its event streams stay silent for ever."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="deaf-relay", daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(_serve(path, behind), loop).result(_READY_S)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_READY_S)


async def _serve(path: Path, behind: Path) -> asyncio.Server:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(_HEAD_END)
            if _EVENTS.match(head):
                writer.write(_SILENT)
                await reader.read()  # until hal0 gives up
            else:
                # One request per connection: every request's first line has to be seen.
                once = head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
                await _relay(once, reader, writer, behind)
        writer.close()

    server = await asyncio.start_unix_server(serve, path)
    os.chmod(path, 0o600)  # noqa: PTH101  as podman's own
    return server


async def _relay(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, behind: Path) -> None:
    there, back = await asyncio.open_unix_connection(behind)
    back.write(head)
    up = asyncio.create_task(_pipe(reader, back))
    try:
        await _pipe(there, writer)
    finally:
        up.cancel()
        back.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
