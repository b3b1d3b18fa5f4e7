"""Streamed chats over a plain socket: what a client saw, to the byte, and how it ended."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

ATTEMPTS: Final = 5  # few: what is right by luck now and then is not to pass


@dataclass
class Chat:
    """One streamed answer, read by `read` as fast as it comes (or not at all)."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    head: bytes = b""
    body: bytearray = field(default_factory=bytearray)
    whole: bool = False  # the chunked body ended with its last chunk

    @property
    def status(self) -> int:
        return int(self.head.split(b" ", 2)[1])

    @property
    def events(self) -> list[Any]:
        """The JSON of every complete `data:` event so far; `[DONE]` as a string."""
        found = []
        for frame in bytes(self.body).split(b"\n\n")[:-1]:
            for line in frame.split(b"\n"):
                if line.startswith(b"data: "):
                    text = line.removeprefix(b"data: ").decode()
                    found.append(text if text == "[DONE]" else json.loads(text))
        return found

    @property
    def error(self) -> Any:
        """The error event, if one came."""
        return next((e["error"] for e in self.events if isinstance(e, dict) and "error" in e), None)

    async def first_event(self, within_s: float = 30.0) -> None:
        async with asyncio.timeout(within_s):
            while not self.events:
                assert await self.chunk(), f"ended before its first event: {self.head!r} {bytes(self.body)!r}"

    async def chunk(self) -> bool:
        """Read one chunk of the body; False at its end, however it came."""
        try:
            size = int((await self.reader.readuntil(b"\r\n")).strip(), 16)
            data = await self.reader.readexactly(size + 2)
        except (asyncio.IncompleteReadError, ConnectionError):
            return False
        self.body += data[:-2]
        self.whole = size == 0
        return size > 0

    async def to_end(self, within_s: float = 60.0) -> None:
        async with asyncio.timeout(within_s):
            while await self.chunk():
                pass

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


async def chat(
    port: int, *, path: str = "/v1/chat/completions", receive_buffer: int | None = None, **body: Any
) -> Chat:
    """Send a streamed chat request and read the head of its answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=receive_buffer or 2**20)
    document = {"model": "primary", "stream": True, "messages": [{"role": "user", "content": "Go on."}], **body}
    data = json.dumps(document).encode()
    writer.write(
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\n\r\n".encode()
        + data
    )
    made = Chat(reader, writer)
    made.head = await reader.readuntil(b"\r\n\r\n")
    return made


async def until(condition: Any, *, within_s: float, what: str) -> float:
    """Poll an async condition; the seconds until it was true."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while not await condition():
        assert loop.time() - began < within_s, f"not within {within_s} s: {what}"
        await asyncio.sleep(0.01)
    return loop.time() - began


async def once_within(bar_s: float, attempt: Callable[[], Awaitable[float]]) -> None:
    """What other work on the machine delays now and then, and a mistake always: one of a few attempts is in time."""
    taken: list[float] = []
    while not taken or taken[-1] >= bar_s:
        assert len(taken) < ATTEMPTS, taken
        taken.append(await attempt())
