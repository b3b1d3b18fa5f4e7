"""A quick stand-in for llama-server: takes its flags, answers at once or at a given pace; runs inside the slot.

Standard library alone, and uvloop where it can be imported, on a bare protocol: it must never be the slowest of the
three (generator, proxy, backend). A request chooses its answer by members that hal0 passes on unread:

    "stream": true       event stream instead of one JSON object
    "max_tokens": N      number of events
    "bench_pace_ms": N   milliseconds between events; 0 sends one per turn of the loop, each in a chunk of its own
"""

import argparse
import asyncio
import heapq
import json
import os
import re
import sys
import time
from collections.abc import Mapping
from typing import cast

HEAD_END = b"\r\n\r\n"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
EVENTS = re.compile(rb'"max_tokens": ?(\d+)')
PACE = re.compile(rb'"bench_pace_ms": ?(\d+)')
_TICK_S = 0.001  # uvloop's timers know no less
STREAM = re.compile(rb'"stream": ?true')


def answer(status: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def completion(model: str, kind: str, content: Mapping[str, object]) -> bytes:
    choice = {"index": 0, **content}
    return json.dumps(
        {"id": "c1", "object": kind, "created": 1700000000, "model": model, "choices": [choice]}, separators=(",", ":")
    ).encode()


class Backend:
    """The answers, made once; and when health turns good."""

    def __init__(self, model: str, ready_after_s: float) -> None:
        message = {"message": {"role": "assistant", "content": "Hello there."}, "finish_reason": "stop"}
        delta = {"delta": {"content": " token"}, "finish_reason": None}
        self.plain = answer("200 OK", completion(model, "chat.completion", message))
        self.event = chunk(b"data: " + completion(model, "chat.completion.chunk", delta) + b"\n\n")
        self.done = chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
        self.stream = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        entry = {"id": model, "object": "model", "owned_by": "llamacpp"}
        self.models = answer("200 OK", json.dumps({"object": "list", "data": [entry]}).encode())
        self.loading = answer("503 Service Unavailable", b'{"error":{"message":"Loading model","code":503}}')
        self.healthy = answer("200 OK", b'{"status":"ok"}')
        self.not_found = answer("404 Not Found", b"{}")
        self.pacer = Pacer()
        self.ready_after_s = ready_after_s
        self._ready_at = time.monotonic() + ready_after_s

    @property
    def ready(self) -> bool:
        return time.monotonic() >= self._ready_at


class Connection(asyncio.Protocol):
    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._buffer = bytearray()
        self._skip = 0  # bytes of a long body that are still to come
        self._task: asyncio.Handle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance

    def connection_lost(self, exc: Exception | None) -> None:
        if self._task:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        if self._skip:
            self._skip -= len(data)
            if self._skip == 0:
                self._transport.write(self._backend.plain)
            return
        self._buffer += data
        if (end := self._buffer.find(HEAD_END)) < 0:
            return
        length = LENGTH.search(self._buffer, 0, end + 2)
        whole = end + 4 + (int(length[1]) if length else 0)
        if len(self._buffer) >= whole:
            request, self._buffer = bytes(self._buffer[:whole]), self._buffer[whole:]
            self._answer(request)
        elif whole > 4 << 20:  # an upload: counted, not kept
            self._skip = whole - len(self._buffer)
            self._buffer.clear()

    def _answer(self, request: bytes) -> None:
        backend = self._backend
        if request.startswith(b"POST "):
            if STREAM.search(request):
                self._transport.write(backend.stream)
                self._events(_number(EVENTS, request, 1), _number(PACE, request, 0) / 1000)
            else:
                self._transport.write(backend.plain)
        elif request.startswith(b"GET /health"):
            self._transport.write(backend.healthy if backend.ready else backend.loading)
        elif request.startswith(b"GET /v1/models"):
            self._transport.write(backend.models if backend.ready else backend.loading)
        else:
            self._transport.write(backend.not_found)

    def _events(self, left: int, pace_s: float) -> None:
        """One event per turn; a paced stream keeps to its schedule, whatever a turn takes."""
        if pace_s:
            self._backend.pacer.begin(self, left, pace_s)
            return
        loop = asyncio.get_running_loop()

        def send() -> None:
            nonlocal left
            if self.more(left):
                left -= 1
                self._task = loop.call_soon(send)

        send()

    def more(self, left: int) -> bool:
        """The next event of a stream, or behind the last its end; whether the stream goes on."""
        if self._transport.is_closing():
            return False
        self._transport.write(self._backend.event if left else self._backend.done)
        return left > 0


class Pacer:
    """Sends the events of all paced streams when they are due. A timer of the loop for each would cost this program
    more than sending them: with a thousand streams it would be what the bench measures."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Connection, int, float]] = []
        self._begun = 0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, stream: Connection, left: int, pace_s: float) -> None:
        self._begun += 1
        heapq.heappush(self._due, (asyncio.get_running_loop().time(), self._begun, stream, left, pace_s))
        self._send()

    def _send(self) -> None:
        loop, due = asyncio.get_running_loop(), self._due
        until = loop.time() + _TICK_S  # what the loop's timers cannot tell apart goes together
        while due and due[0][0] <= until:
            at, number, stream, left, pace_s = due[0]
            if stream.more(left):
                heapq.heapreplace(due, (at + pace_s, number, stream, left - 1, pace_s))
            else:
                heapq.heappop(due)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(due[0][0], self._send) if due else None


def _number(pattern: re.Pattern[bytes], request: bytes, default: int) -> int:
    found = pattern.search(request)
    return int(found[1]) if found else default


async def serve(port: int, backend: Backend) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(backend), "0.0.0.0", port, backlog=2048)
    loop.call_later(backend.ready_after_s, say_ready)
    await server.serve_forever()


def say_ready() -> None:
    """The moment for whoever measures how soon it is noticed, on the clock that both sides share."""
    sys.stdout.write(f"bench-ready-at {time.time():.6f}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--alias", default="bench")
    known, _ = parser.parse_known_args()
    backend = Backend(known.alias, float(os.environ.get("BENCH_READY_AFTER_S", "0")))
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve(known.port, backend))
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(known.port, backend))


if __name__ == "__main__":
    main()
