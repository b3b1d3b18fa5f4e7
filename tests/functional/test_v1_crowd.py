"""A thousand streams at once: nobody is dropped, nobody waits for the others, and each costs little memory."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

STREAMS, PER_SECOND = 1000, 20
ADDED_P99_MS = 10.0
RELAYS = 1.75  # so much processor time of a program that only passes bytes on may an event take hal0
BESIDE_S = 3
COMPARISONS = 6  # the first is mostly good enough
ROUNDS = 3
STREAM_BYTES = 64 << 10
START_S = 60.0
_PAGE = os.sysconf("SC_PAGE_SIZE")


@asynccontextmanager
async def program(*words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A Python program that ends with its standard input, or is ended."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def told(process: asyncio.subprocess.Process, within_s: float) -> dict[str, Any]:
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), within_s)
    assert line, "the program ended without a word"
    value: dict[str, Any] = json.loads(line)
    return value


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


@dataclass
class Round:
    """`added_ms`: how much later the 99th of 100 events is than at the backend itself; `event_us`: processor time of
    the program in between for each event."""

    added_ms: float
    event_us: float
    stream_bytes: float


async def one_round(backend: int, port: int, pid: int, seconds: float, streams: int = STREAMS) -> Round:
    words = {"port": port, "control": backend, "streams": streams, "seconds": seconds, "per-second": PER_SECOND}
    arguments = [word for name, value in words.items() for word in (f"--{name}", str(value))]
    before = resident(pid)
    async with program("-m", "tests.functional.crowd", "clients", *arguments) as crowd:
        ran = ran_s(pid)
        events = (await told(crowd, START_S))["events"]
        await asyncio.sleep(seconds)
        during = resident(pid)
        found = await told(crowd, seconds + START_S)
    event_us = (ran_s(pid) - ran) / events * 1e6
    return Round(found["through_p99_ms"] - found["direct_p99_ms"], event_us, (during - before) / streams)


def ran_s(pid: int) -> float:
    """Seconds for which the first thread of a process has had a processor."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


async def beside_a_relay(backend: int, port: int, pid: int) -> float:
    """What an event takes hal0, as a multiple of the least that it takes any program there at the same time: whatever
    else the machine does, it does to both."""
    async with program("-m", "tests.functional.crowd", "relay", "--backend", str(backend)) as relay:
        other = (await told(relay, START_S))["port"]
        own, least = await asyncio.gather(
            one_round(backend, port, pid, BESIDE_S, STREAMS // 2),
            one_round(backend, other, relay.pid, BESIDE_S, STREAMS // 2),
        )
    return own.event_us / least.event_us


@pytest.mark.soak
async def test_a_thousand_streams(free_port: int, soak_scale: Callable[[int, int], int], machine_alone: None) -> None:
    """A stream that is refused, cut or without an end fails the clients. A machine that is slow or has other work adds
    time by itself, and then time says nothing about hal0; what an event takes beside a relay still does, and the best
    of a few counts. At full size there is no such excuse: the machine is quiet."""
    quiet = bool(soak_scale(0, 1))
    async with (
        program("tests/bench/backend.py", "--port", str(free_port)),
        program("-m", "tests.functional.crowd", "edge", "--backend", str(free_port)) as hal0,
    ):
        port = (await told(hal0, START_S))["port"]
        rounds, relays = list[Round](), list[float]()
        while not rounds or (quiet and rounds[-1].added_ms > ADDED_P99_MS):
            assert len(rounds) < ROUNDS, rounds
            rounds.append(await one_round(free_port, port, hal0.pid, soak_scale(15, 60)))
            sys.stdout.write(f"{rounds[-1]}\n")  # with -rP
        while rounds[-1].added_ms > ADDED_P99_MS and (not relays or relays[-1] > RELAYS):
            assert len(relays) < COMPARISONS, (rounds, relays)
            relays.append(await beside_a_relay(free_port, port, hal0.pid))
            sys.stdout.write(f"{relays[-1]:.2f} relays\n")
    assert max(each.stream_bytes for each in rounds) <= STREAM_BYTES, rounds
