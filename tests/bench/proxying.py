"""What hal0 costs a request: latency, throughput and streams beside nginx and a direct connection."""

import asyncio
import json
import statistics
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from tests.bench.daemon import PLAIN, Daemon, cpu_s
from tests.bench.load import WARM_UP_S, gaps, hold_streams, latencies, percentile, request, throughput
from tests.bench.rows import Row, judge

ROUNDS: Final = 3  # sides take turns, so that a slow moment of the machine meets all of them
MOST_ROUNDS: Final = 9  # where the rounds disagree: a machine that others use, too
STEADY: Final = 0.1  # rounds agree when the middle half of them lies within this share of their median
CONNECTIONS: Final = 16
LOAD_S: Final = 2.5


@dataclass(frozen=True, slots=True)
class Sides:
    """The same backend behind three ports, and nginx's process."""

    direct: int
    nginx: int
    hal0: int
    nginx_pid: int


def chat(**members: Any) -> bytes:
    return request(json.dumps({**PLAIN, **members}).encode())


def events(count: int, pace_ms: int) -> bytes:
    return chat(stream=True, max_tokens=count, bench_pace_ms=pace_ms)


async def proxy_rows(sides: Sides, daemon: Daemon) -> list[Row]:
    return [
        *await added_latency(sides),
        await against_nginx("small_json_vs_nginx", sides, daemon, chat()),
        await against_nginx("sse_relay_vs_nginx", sides, daemon, events(200, 0)),
        *await paced_streams(sides, daemon),
        await stream_memory(sides, daemon),
    ]


async def added_latency(sides: Sides) -> list[Row]:
    """200 requests per second to each side in turn; the difference of the percentiles."""
    taken: dict[int, list[float]] = {sides.direct: [], sides.hal0: []}
    for _ in range(ROUNDS):
        for port, found in taken.items():
            found.extend(await latencies(port, chat(), rate=200, seconds=4))
    rows = []
    for name, share in (("added_latency_p50", 0.5), ("added_latency_p99", 0.99)):
        direct, hal0 = (percentile(taken[port], share) * 1000 for port in (sides.direct, sides.hal0))
        rows.append(judge(name, hal0 - direct, f"hal0 {hal0:.2f}, direct {direct:.2f}"))
    return rows


@dataclass(frozen=True, slots=True)
class Load:
    """Answers per second of one side, and the processor time that each of them took it."""

    rate: float
    cpu_us: float


async def load(port: int, pid: int, data: bytes) -> Load:
    before = cpu_s(pid)
    rate = await throughput(port, data, connections=CONNECTIONS, seconds=LOAD_S)
    return Load(rate, (cpu_s(pid) - before) / (LOAD_S + WARM_UP_S) / rate * 1e6)


async def against_nginx(name: str, sides: Sides, daemon: Daemon, data: bytes) -> Row:
    """Answers per second on busy connections; the median of the rounds' ratios.

    The rates move with whatever else the machine does, processor time per answer far less: the note has both.
    """
    rounds: list[tuple[Load, Load]] = []
    ratios: list[float] = []
    while len(rounds) < ROUNDS or (len(rounds) < MOST_ROUNDS and not steady(ratios)):
        nginx = await load(sides.nginx, sides.nginx_pid, data)
        hal0 = await load(sides.hal0, daemon.pid, data)
        rounds.append((hal0, nginx))
        ratios.append(hal0.rate / nginx.rate)
    shown = (
        f"{who} {statistics.median(side.rate for side in loads):.0f}/s, "
        f"{statistics.median(side.cpu_us for side in loads):.0f} us CPU each"
        for who, loads in zip(("hal0", "nginx"), zip(*rounds, strict=True), strict=True)
    )
    return judge(name, statistics.median(ratios), f"{'; '.join(shown)}; {len(rounds)} rounds")


def steady(ratios: list[float]) -> bool:
    """Whether the middle half of the rounds agrees."""
    low, middle, high = statistics.quantiles(ratios, n=4)
    return high - low <= STEADY * middle


async def paced_streams(sides: Sides, daemon: Daemon) -> list[Row]:
    """200 streams at 50 events per second for six seconds each."""
    data = events(300, 20)

    async def one(port: int) -> float:
        return percentile(await gaps(port, data, streams=200, spread_s=1.0), 0.99) * 1000

    direct = await one(sides.direct)
    before, at = daemon.cpu_s(), asyncio.get_running_loop().time()
    hal0 = await one(sides.hal0)
    share = (daemon.cpu_s() - before) / (asyncio.get_running_loop().time() - at) * 100
    return [
        judge("streams_200_added_gap_p99", hal0 - direct, f"hal0 {hal0:.2f}, direct {direct:.2f}"),
        judge("streams_200_cpu", share),
    ]


async def stream_memory(sides: Sides, daemon: Daemon) -> Row:
    """1000 streams open at once, measured against the moment before them."""
    before = daemon.rss()
    crowd = await hold_streams(sides.hal0, events(60, 1000), streams=1000)
    try:
        await crowd.run(2.0)
        each = (daemon.rss() - before) / 1000 / 1024
    finally:
        crowd.close()
    return judge("streams_1000_memory_each", each, f"{before / 1e6:.0f} MB before them")


def measure(rows: Callable[[], Coroutine[Any, Any, list[Row]]]) -> list[Row]:
    """Run on uvloop, as the generator must never be the slowest part."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(rows())
