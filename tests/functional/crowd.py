"""The programs around a load test: hal0's edge, the least that any relay does, and a crowd of streaming clients."""

import argparse
import asyncio
import gc
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, cast

import uvloop

from hal0.providers.base import Endpoint
from hal0.serving import settle
from tests.bench.load import Channel, Crowd, percentile, request
from tests.fakes.backend import SECRET
from tests.functional.dispatch_app import world

RAMP_S = 4.1  # so long until everybody has begun: no multiple of the pace, so that they do not all speak at once
LIMIT_S = 60.0
EVERY = 10  # of so many streams one is watched event by event
LOOKS_S = 0.5  # so often the others read what has come


async def edge(backend: int) -> None:
    """Serve `/v1` in front of the backend on this port; the first line tells the own port."""
    with tempfile.TemporaryDirectory() as folder:
        async with world(Path(folder), endpoint=Endpoint("127.0.0.1", backend, SECRET)) as served:
            await settle()
            say({"port": served.port})
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)  # until whoever started us is gone


class Relay(asyncio.Protocol):
    """One side of a connection that passes bytes on: what the machine itself takes for an event on its way."""

    def __init__(self, backend: int, other: asyncio.Transport | None = None) -> None:
        self._backend = backend
        self._other = other
        self._early = b""
        self._opening: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        if self._other is None:
            self._opening = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        other = Relay(self._backend, self._transport)
        self._other, _ = await asyncio.get_running_loop().create_connection(lambda: other, "127.0.0.1", self._backend)
        self._other.write(self._early)

    def data_received(self, data: bytes) -> None:
        if self._other is None:
            self._early += data
        else:
            self._other.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._other is not None:
            self._other.close()


async def relay(backend: int) -> None:
    """Pass everything on to the backend on this port; the first line tells the own port."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Relay(backend), "127.0.0.1", 0, backlog=2048)
    say({"port": server.sockets[0].getsockname()[1]})
    await loop.run_in_executor(None, sys.stdin.read)


class Watched:
    """Streams to one port: the seconds between the events of one in `every` of them while `counting`, and how many
    have ended. The others are read now and then: a thousand clients that wake for each event have processors of their
    own, and must not take those of what is measured."""

    def __init__(self, port: int, *, every: int) -> None:
        self.crowd = Crowd(port)
        self._every = every
        self.begun = 0
        self.ended = 0
        self.counting = False
        self.gaps: list[float] = []

    async def begin(self, data: bytes, count: int) -> None:
        await self.crowd.grow(count)
        loop = asyncio.get_running_loop()
        for number, channel in enumerate(self.crowd.channels):
            channel.on_events = self._read_later(channel) if number % self._every else self._arrival()
            channel.on_answer = self._end
            loop.call_later(RAMP_S * number / count, channel.send, data)

    def _arrival(self) -> Callable[[int], None]:
        last = 0.0

        def arrived(events: int) -> None:
            nonlocal last
            now = perf_counter()
            self.begun += not last
            if last and events and self.counting:
                self.gaps.append(now - last)
            last = now

        return arrived

    def _read_later(self, channel: Channel) -> Callable[[int], None]:
        loop, first = asyncio.get_running_loop(), True

        def arrived(_: int) -> None:
            nonlocal first
            self.begun += first
            first = False
            channel.transport.pause_reading()
            loop.call_later(LOOKS_S, channel.transport.resume_reading)

        return arrived

    def _end(self) -> None:
        self.ended += 1

    async def until(self, what: Literal["begun", "ended"], count: int) -> None:
        """Raises LoadError for a stream that was cut or refused, TimeoutError for one that makes no headway."""
        async with asyncio.timeout(LIMIT_S):
            while getattr(self, what) < count:
                await self.crowd.run(0.1)


async def clients(port: int, control: int, streams: int, seconds: float, per_second: int) -> None:
    """So many streams at that pace, and those of `control` at the same time: what both see between events while all
    are under way, in milliseconds."""
    gc.disable()  # pauses of this program would be told of hal0
    events = int((seconds + RAMP_S + 1) * per_second)
    asked = {"model": "primary", "messages": [], "stream": True, "max_tokens": events}
    data = request(json.dumps({**asked, "bench_pace_ms": 1000 // per_second}).encode())
    sides = (Watched(port, every=EVERY), streams), (Watched(control, every=1), streams // EVERY)
    for watched, count in sides:
        await watched.begin(data, count)
    for watched, count in sides:
        await watched.until("begun", count)
    say({"events": streams * events})
    for watched, _ in sides:
        watched.counting = True
    await asyncio.sleep(seconds)
    for watched, _ in sides:
        watched.counting = False
    for watched, count in sides:
        await watched.until("ended", count)
    through, direct = (percentile(watched.gaps, 0.99) * 1000 for watched, _ in sides)
    say({"through_p99_ms": through, "direct_p99_ms": direct})


def say(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    roles = parser.add_subparsers(dest="role", required=True)
    for role in ("edge", "relay"):
        roles.add_parser(role).add_argument("--backend", type=int, required=True)
    crowd = roles.add_parser("clients")
    for name in ("--port", "--control", "--streams", "--per-second"):
        crowd.add_argument(name, type=int, required=True)
    crowd.add_argument("--seconds", type=float, required=True)
    asked = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if asked.role == "edge":
            runner.run(edge(asked.backend))
        elif asked.role == "relay":
            runner.run(relay(asked.backend))
        else:
            runner.run(clients(asked.port, asked.control, asked.streams, asked.seconds, asked.per_second))


if __name__ == "__main__":
    main()
