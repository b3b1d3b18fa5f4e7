"""A scripted podman on a real Unix socket, for the faults that a live one cannot be asked to have."""

import asyncio
import shutil
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

from hal0.lib.jsonio import dumps, loads

API = "/v4.0.0/libpod"


class End(Enum):
    """What comes after the parts of a reply."""

    CLEAN = "clean"
    CUT = "cut"  # the connection closes in the middle of the body
    OPEN = "open"  # nothing more, and the connection stays


@dataclass(frozen=True)
class Reply:
    """`delay_s` passes before the head is sent; a status of None never answers at all."""

    status: int | None = 200
    parts: tuple[bytes, ...] = ()
    end: End = End.CLEAN
    delay_s: float = 0.0
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, list[str]]
    body: bytes

    def json(self) -> Any:
        return loads(self.body)


STALLED = Reply(status=None)
PING = Reply(headers=(("Libpod-API-Version", "4.3.1"),), parts=(b"OK",))
DOCKER_PING = Reply(headers=(("Api-Version", "1.47"),), parts=(b"OK",))
DOCKER_404 = Reply(404, (b'{"message":"page not found"}\n',))


def json_reply(document: Any, *, status: int = 200, **changes: Any) -> Reply:
    return Reply(status, (dumps(document),), **changes)


def refused(status: int, message: str, cause: str = "") -> Reply:
    """An error as podman words it."""
    return json_reply({"cause": cause or message, "message": message, "response": status}, status=status)


def event(action: str, container: str, nano: int, **attributes: str) -> bytes:
    """One line of podman's event stream."""
    document = {
        "Type": "container",
        "Action": action,
        "Actor": {"ID": container, "Attributes": {"name": container, "image": "i", "podId": "", **attributes}},
        "time": nano // 10**9,
        "timeNano": nano,
    }
    return dumps(document) + b"\n"


class ScriptedPodman:
    """`on(method, path, replies...)`: used up in turn, the last one for ever after. Unknown paths get podman's 404."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.requests: list[Request] = []
        self._script: dict[tuple[str, str], list[Reply]] = defaultdict(list)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.on("GET", "/_ping", PING)

    def on(self, method: str, path: str, *replies: Reply) -> None:
        full = path if path.startswith(("/_", "/v")) else API + path
        self._script[method, full] = list(replies)

    async def open(self) -> None:
        """Listen; may be called again after `close`, as podman's service comes back."""
        self._server = await asyncio.start_unix_server(self._accept, self.socket)

    async def close(self) -> None:
        """Vanish: connections break, the socket file goes."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.socket.unlink(missing_ok=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await _read_request(reader)
            self.requests.append(request)
            await self._answer(request, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client left
        finally:
            writer.close()

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        replies = self._script.get((request.method, request.path), [])
        reply = (replies.pop(0) if len(replies) > 1 else replies[0]) if replies else refused(404, "no such path")
        await send(writer, reply)


P = TypeVar("P", bound=ScriptedPodman)


async def _read_request(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    line, *fields = head.split("\r\n")
    method, target, _ = line.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
    body = b""
    if "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    elif headers.get("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
    url = urlsplit(target)
    return Request(method, url.path, parse_qs(url.query), body)


async def send(writer: asyncio.StreamWriter, reply: Reply) -> None:
    await send_begin(writer, reply)
    if reply.end is End.CLEAN:
        writer.write(b"0\r\n\r\n")
        await writer.drain()
    elif reply.end is End.OPEN:
        await asyncio.Event().wait()


async def send_begin(writer: asyncio.StreamWriter, reply: Reply) -> None:
    """Head and parts; what follows is up to the caller."""
    if reply.status is None:
        await asyncio.Event().wait()
    await asyncio.sleep(reply.delay_s)
    head = [f"HTTP/1.1 {reply.status} Scripted", "Transfer-Encoding: chunked"]
    head += [f"{name}: {value}" for name, value in reply.headers]
    writer.write("\r\n".join(head).encode() + b"\r\n\r\n")
    for part in reply.parts:
        writer.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
    await writer.drain()


@asynccontextmanager
async def scripted_podman() -> AsyncIterator[ScriptedPodman]:
    """One that listens, in a directory short enough for a socket."""
    async with scripted(ScriptedPodman) as podman:
        yield podman


@asynccontextmanager
async def scripted(kind: Callable[[Path], P]) -> AsyncIterator[P]:
    """One of this kind that listens, in a directory short enough for a socket."""
    directory = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="h0-"))
    podman = kind(directory / "p.sock")
    await podman.open()
    try:
        yield podman
    finally:
        await podman.close()
        await asyncio.to_thread(shutil.rmtree, directory)
