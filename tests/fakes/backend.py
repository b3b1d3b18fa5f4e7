"""A fake inference server on a bare asyncio server, so that it can misbehave byte by byte; also a program.

Behaviour is chosen by the `model` member of the request (`Backend.behave`); what it saw stays readable.
"""

import argparse
import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from hal0.lib import jsonio

SECRET = "backend-secret"


@dataclass
class Seen:
    """One request as it arrived; `gone` is set when the other side has closed the connection."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes
    connection: int
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


@dataclass
class Talk:
    """What a behaviour has in hand: the request and the raw writer."""

    seen: Seen
    writer: asyncio.StreamWriter

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def json(self, value: object, status: str = "200 OK", extra: bytes = b"") -> None:
        body = jsonio.dumps(value)
        await self.raw(
            b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%b\r\n%b"
            % (status.encode(), len(body), extra, body)
        )

    async def open_events(self) -> None:
        await self.raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")

    async def chunk(self, data: bytes) -> None:
        await self.raw(b"%x\r\n%b\r\n" % (len(data), data))

    async def end(self) -> None:
        await self.raw(b"0\r\n\r\n")

    def break_off(self) -> None:
        """End the connection at once, whatever was promised."""
        self.writer.transport.abort()


Behaviour = Callable[[Talk], Awaitable[None]]


def delta(text: str) -> bytes:
    """One event of a chat stream."""
    value = {
        "id": "chat-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "fake",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}],
    }
    return b"data: " + jsonio.dumps(value) + b"\n\n"


LAST_EVENT = (
    b'data: {"id":"chat-1","object":"chat.completion.chunk","created":1,"model":"fake","choices":'
    b'[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":3,'
    b'"total_tokens":10},"timings":{"prompt_n":7,"predicted_n":3,"predicted_per_second":42.5}}\n\n'
)
DONE = b"data: [DONE]\n\n"


async def answer(talk: Talk) -> None:
    """What a well-behaved engine answers, streamed or not, for chat, completions and embeddings."""
    request = jsonio.loads(talk.seen.body)
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    if "/embeddings" in talk.seen.line:
        data = [{"object": "embedding", "index": 0, "embedding": [0.5, -0.25]}]
        await talk.json({"object": "list", "model": "fake", "usage": usage, "data": data})
    elif request.get("stream"):
        await talk.open_events()
        for word in ("one", " two", " three"):
            await talk.chunk(delta(word))
        await talk.chunk(LAST_EVENT)
        await talk.chunk(DONE)
        await talk.end()
    else:
        message = {"role": "assistant", "content": "one two three"}
        choice = {"index": 0, "message": message, "text": "one two three", "finish_reason": "stop"}
        kind = "text_completion" if "/chat" not in talk.seen.line else "chat.completion"
        await talk.json({"id": "1", "object": kind, "created": 1, "model": "fake", "choices": [choice], "usage": usage})


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter, asyncio.Event], Awaitable[None]]


class _Incoming(asyncio.StreamReaderProtocol):
    """Streams that also say, at once, that the other side has left."""

    def __init__(self, serve: Serve) -> None:
        self._left = asyncio.Event()
        super().__init__(asyncio.StreamReader(), lambda reader, writer: serve(reader, writer, self._left))

    def eof_received(self) -> bool:
        self._left.set()
        return super().eof_received() or False

    def connection_lost(self, exc: Exception | None) -> None:
        self._left.set()
        super().connection_lost(exc)


class Backend:
    """A running fake server. `behaviours` maps a model to how it is answered; others get `answer`."""

    def __init__(self) -> None:
        self.host = "127.0.0.1"
        self.port = 0
        self.seen: list[Seen] = []
        self.connections = 0
        self.behaviours: dict[str, Behaviour] = {}
        self.lists = ["fake"]  # what GET /models answers, unless `listing` answers it
        self.listing: Behaviour | None = None
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._arrived = asyncio.Event()

    def behave(self, model: str, behaviour: Behaviour) -> None:
        self.behaviours[model] = behaviour

    async def start(self, port: int = 0) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Incoming(self._serve), self.host, port, backlog=2048)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def request(self, number: int = 1) -> Seen:
        """The number-th request, once it has arrived (counted from 1)."""
        while len(self.seen) < number:
            self._arrived.clear()
            await self._arrived.wait()
        return self.seen[number - 1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: asyncio.Event) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        number = self.connections
        try:
            while (seen := await self._read(reader, number)) is not None:
                seen.gone = left
                self.seen.append(seen)
                self._arrived.set()
                await self._answer(seen, writer)
                if writer.is_closing():
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except RuntimeError as error:  # uvloop's word for a connection that has ended
            if "the handler is closed" not in str(error):
                raise
        except asyncio.CancelledError:  # by `stop`; the streams' own callback would take it for an error
            pass
        finally:
            self._tasks.discard(task)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        """Run the behaviour until it is done or the other side leaves."""
        work = asyncio.ensure_future(self._behaviour(seen)(Talk(seen, writer)))
        watch = asyncio.ensure_future(seen.gone.wait())
        try:
            await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        finally:
            for task in (work, watch):
                task.cancel()
            await asyncio.gather(work, watch, return_exceptions=True)

    async def _list(self, talk: Talk) -> None:
        await talk.json({"object": "list", "data": [{"id": model, "object": "model"} for model in self.lists]})

    def _behaviour(self, seen: Seen) -> Behaviour:
        if seen.line.startswith("GET ") and "/models" in seen.line:
            return self.listing or self._list
        with suppress(ValueError):
            value = jsonio.loads(seen.body)
            if isinstance(value, dict) and isinstance(model := value.get("model", ""), str):
                return self.behaviours.get(model, self.behaviours.get("*", answer))
        return self.behaviours.get("*", answer)

    @staticmethod
    async def _read(reader: asyncio.StreamReader, connection: int) -> Seen | None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.IncompleteReadError:
            return None
        line, *rest = head[:-4].split("\r\n")
        headers = [(name, value) for name, _, value in (text.partition(": ") for text in rest)]
        seen = Seen(line, headers, b"", connection)
        seen.body = await reader.readexactly(int(seen.header("Content-Length") or 0))
        return seen


@asynccontextmanager
async def running(port: int = 0) -> AsyncIterator[Backend]:
    backend = Backend()
    await backend.start(port)
    try:
        yield backend
    finally:
        await backend.stop()


async def _main(port: int) -> None:
    async with running(port) as backend:
        print(f"listening on {backend.host}:{backend.port}", flush=True)  # noqa: T201
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    asyncio.run(_main(parser.parse_args().port))
