"""A lean HTTP/1.1 load generator: bare protocols on one loop, so that it costs less than what it measures."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter  # uvloop's own clock moves in whole milliseconds
from typing import Final, cast

HEAD_END: Final = b"\r\n\r\n"
CHUNKED_END: Final = b"0\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
WARM_UP_S: Final = 0.5  # connections are made and code is hot before anything counts
PATIENCE_S: Final = 60.0  # no phase may hang the bench


class LoadError(Exception):
    """The side under load answered with anything but 200, or closed early."""


def request(body: bytes, path: str = "/v1/chat/completions") -> bytes:
    """One whole POST as bytes; the same bytes go to every side."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + HEAD_END + body


class Channel(asyncio.Protocol):
    """One keep-alive connection with one request under way; `on_answer` is called when its answer is whole."""

    def __init__(self) -> None:
        self.on_answer: Callable[[], None] = _nothing
        self.on_events: Callable[[int], None] | None = None
        self.on_error: Callable[[LoadError], None] = _nothing_of
        self._head = bytearray()
        self._left = -1  # bytes of the body still to come; -1: the head is; -2: it is chunked
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance

    def connection_lost(self, exc: Exception | None) -> None:
        if self._busy:
            self.on_error(LoadError(f"the connection ended in the middle of an answer: {exc}"))

    def send(self, data: bytes) -> None:
        self._busy, self._left = True, -1
        self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        if self._left == -1:
            self._head += data
            end = self._head.find(HEAD_END)
            if end < 0:
                return
            data = bytes(self._head[end + 4 :])
            head = bytes(self._head[: end + 2])
            self._head.clear()
            if not head.startswith(b"HTTP/1.1 200"):
                self._busy = False
                self.on_error(LoadError((head[:200] + data[:300]).decode(errors="replace")))
                return
            length = _LENGTH.search(head)
            self._left = int(length[1]) if length else -2
        if self.on_events and data:
            self.on_events(data.count(b"data: "))
        if self._left == -2:
            done = data.endswith(CHUNKED_END)
        else:
            self._left -= len(data)
            done = self._left == 0
        if done:
            self._busy = False
            self.on_answer()


def _nothing() -> None:
    return


def _nothing_of(_: LoadError) -> None:
    return


@dataclass(slots=True)
class Crowd:
    """Channels to one port, and the first error that any of them met."""

    port: int
    channels: list[Channel] = field(default_factory=list)
    failed: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    async def grow(self, count: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(count):
            _, channel = await loop.create_connection(Channel, "127.0.0.1", self.port)
            channel.on_error = self._fail
            self.channels.append(channel)

    def _fail(self, error: LoadError) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)

    async def run(self, seconds: float) -> None:
        """Let it go on for so long; raise at once what any channel met."""
        await asyncio.wait([self.failed], timeout=seconds)
        self.check()

    async def until(self, done: asyncio.Future[None]) -> None:
        await asyncio.wait([self.failed, done], timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
        self.check()
        if not done.done():
            raise LoadError(f"no end within {PATIENCE_S:g} s")

    def check(self) -> None:
        if self.failed.done():
            self.failed.result()

    def close(self) -> None:
        for channel in self.channels:
            channel.on_error = _nothing_of
            channel.transport.abort()
        if self.failed.done():
            self.failed.exception()


async def throughput(port: int, data: bytes, *, connections: int, seconds: float) -> float:
    """Answers per second with every connection always busy."""
    crowd = Crowd(port)
    await crowd.grow(connections)
    answers = 0

    def again(channel: Channel) -> Callable[[], None]:
        def answered() -> None:
            nonlocal answers
            answers += 1
            channel.send(data)

        return answered

    try:
        for channel in crowd.channels:
            channel.on_answer = again(channel)
            channel.send(data)
        await crowd.run(WARM_UP_S)
        before, at = answers, perf_counter()
        await crowd.run(seconds)
        return (answers - before) / (perf_counter() - at)
    finally:
        crowd.close()


async def latencies(port: int, data: bytes, *, rate: float, seconds: float) -> list[float]:
    """Seconds from sending to the whole answer, at a fixed rate whatever the answers take."""
    crowd = Crowd(port)
    await crowd.grow(32)
    loop = asyncio.get_running_loop()
    idle = list(crowd.channels)
    taken: list[float] = []

    def ask() -> None:
        if not idle:
            crowd.channels[0].on_error(LoadError(f"32 connections are not enough for {rate:g} requests per second"))
            return
        channel, sent = idle.pop(), perf_counter()

        def answered() -> None:
            taken.append(perf_counter() - sent)
            idle.append(channel)

        channel.on_answer = answered
        channel.send(data)

    try:
        start = loop.time()
        count = int(rate * seconds)
        timers = [loop.call_at(start + n / rate, ask) for n in range(count)]
        await crowd.run(seconds + 0.5)
        for timer in timers:
            timer.cancel()
        return taken[int(rate * WARM_UP_S) :]
    finally:
        crowd.close()


async def gaps(port: int, data: bytes, *, streams: int, spread_s: float) -> list[float]:
    """Seconds between arrivals of events, over all streams, each running to its end."""
    crowd = Crowd(port)
    await crowd.grow(streams)
    loop = asyncio.get_running_loop()
    found: list[float] = []
    finished: asyncio.Future[None] = loop.create_future()
    left = streams

    def start(channel: Channel) -> None:
        last = 0.0

        def arrived(events: int) -> None:
            nonlocal last
            now = perf_counter()
            if last and events:
                found.append(now - last)
            last = now

        def ended() -> None:
            nonlocal left
            left -= 1
            if not left and not finished.done():
                finished.set_result(None)

        channel.on_events, channel.on_answer = arrived, ended
        channel.send(data)

    try:
        for number, channel in enumerate(crowd.channels):
            loop.call_later(spread_s * number / streams, start, channel)
        await crowd.until(finished)
        return found
    finally:
        crowd.close()


async def hold_streams(port: int, data: bytes, *, streams: int) -> Crowd:
    """Streams that have each brought their first event and are still open; the caller closes the crowd."""
    crowd = Crowd(port)
    await crowd.grow(streams)
    begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    silent = set(crowd.channels)

    def heard(channel: Channel) -> Callable[[int], None]:
        def first(_: int) -> None:
            silent.discard(channel)
            if not silent and not begun.done():
                begun.set_result(None)

        return first

    for channel in crowd.channels:
        channel.on_events = heard(channel)
        channel.send(data)
    await crowd.until(begun)
    return crowd


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
