"""A client that speaks bytes: for what no well-behaved HTTP client can be asked to do."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from hal0.lib import jsonio

CHAT = "/v1/chat/completions"
SIGN_OF_LIFE = b": hal0 keep-alive\n\n"


@dataclass
class RawClient:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def post(self, path: str, body: object, headers: str = "") -> None:
        data = body if isinstance(body, bytes) else jsonio.dumps(body)
        head = f"POST {path} HTTP/1.1\r\nHost: hal0\r\nContent-Length: {len(data)}\r\n{headers}\r\n"
        await self.send(head.encode() + data)

    async def head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    async def comments(self, number: int) -> bytes:
        """Everything until so many of hal0's signs of life have come."""
        return b"".join([await self.reader.readuntil(SIGN_OF_LIFE) for _ in range(number)])

    async def rest(self) -> bytes:
        """Everything until the connection ends; a reset ends it too."""
        data = bytearray()
        with suppress(ConnectionError):
            while piece := await self.reader.read(65536):
                data += piece
        return bytes(data)

    @property
    def gone(self) -> bool:
        """The other side has ended the connection."""
        return self.reader.at_eof() or self.reader.exception() is not None

    def leave(self) -> None:
        self.writer.transport.abort()


@asynccontextmanager
async def raw(port: int, *, receive_buffer: int | None = None) -> AsyncIterator[RawClient]:
    """`receive_buffer` makes a slow reader slow at once: little is hidden in the kernel."""
    sock = socket.socket()
    sock.setblocking(False)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=4096)
    try:
        yield RawClient(reader, writer)
    except BaseException:
        writer.transport.abort()  # what was not taken never will be: no end would wait for it
        raise
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def post(body: object, *lines: str, path: str = CHAT) -> bytes:
    """One whole request."""
    data = body if isinstance(body, bytes) else jsonio.dumps(body)
    first = (f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(data)}")
    return "\r\n".join((*first, *lines, "", "")).encode() + data


async def answer(client: RawClient) -> tuple[int, dict[str, str], bytes]:
    """One whole answer."""
    status, *lines = (await client.head()).decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
    if "content-length" in headers:
        return int(status.split()[1]), headers, await client.reader.readexactly(int(headers["content-length"]))
    return int(status.split()[1]), headers, await client.reader.readuntil(b"0\r\n\r\n")
