"""Two models that do not fit into memory together, on the real thing: few swaps, whole answers, bounded waits."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from tests.podman.daemon import Daemon
from tests.podman.streams import until
from tests.tiny import gguf_models

NAMES = ("primary", "other")
MAX_WAIT_S = 15
BURSTS, BURST = 5, 10
# Each has a cache of 192 MiB that is really there, so that two are too many by any figure: estimated or measured.
CONTEXT, LAYERS, DIM = 32768, 12, 256
SLOT = (
    f'model = "{{model}}"\ncontext_size = {CONTEXT}\nmemory_limit = "256MiB"\n'
    'extra_args = "-t 1 -b 64 -ub 64 --cache-ram 0"\n'
)
CONFIG = f'[engine]\nmemory_limit = "320MiB"\n[dispatch]\nmax_wait_s = {MAX_WAIT_S}\nmin_residency_s = 1\n' + "".join(
    f"[slots.{name}]\n{SLOT.format(model=f'{name}-chat')}" for name in NAMES
)


@dataclass(frozen=True)
class Answer:
    slot: str
    status: int
    whole: bool
    took_s: float
    end: str


async def ask(session: aiohttp.ClientSession, slot: str, *, stream: bool) -> Answer:
    body = {"model": slot, "max_tokens": 20, "stream": stream, "messages": [{"role": "user", "content": "Hi"}]}
    began = time.monotonic()
    async with session.post("/v1/chat/completions", json=body) as answer:
        text = (await answer.read()).decode()
    whole = text.endswith("data: [DONE]\n\n") if stream else "choices" in json.loads(text)
    return Answer(slot, answer.status, whole, time.monotonic() - began, text[-300:])


async def started(daemon: Daemon) -> aiohttp.ClientSession:
    daemon.config = CONFIG
    daemon.prepare()
    for seed, name in enumerate(NAMES):
        path = daemon.models / f"{name}-chat.gguf"
        gguf_models.write_chat(path, ctx=CONTEXT, layers=LAYERS, dim=DIM, seed=seed + 1)
    await daemon.start()
    return aiohttp.ClientSession(daemon.url, timeout=aiohttp.ClientTimeout(total=120))


def loads(daemon: Daemon) -> int:
    """Every load is a container of its own generation."""
    records = [daemon.state / "slots" / name / "state.json" for name in NAMES]
    return sum(json.loads(record.read_text())["generation"] for record in records if record.exists())


def waits(daemon: Daemon) -> list[tuple[float, float]]:
    """How long every request of the log was held, and of that for its slot's turn, in seconds."""
    lines = [json.loads(line)["request"] for line in daemon.log.read_text().splitlines() if '"turn_ms"' in line]
    return [(line["held_ms"] / 1000, line["turn_ms"] / 1000) for line in lines]


async def longest_wait_s(daemon: Daemon) -> float:
    """For a turn, and for the load that then comes, by what loads take on this machine."""
    async with daemon.operator() as operator:
        return MAX_WAIT_S + max([float((await operator.slot(name))["expected_load_s"]) for name in NAMES])


def wrong(answers: list[Answer]) -> list[Answer]:
    return [answer for answer in answers if answer.status != 200 or not answer.whole]


async def test_fifty_mixed_requests_swap_no_more_often_than_they_come_in_bursts(daemon: Daemon) -> None:
    answers: list[Answer] = []
    async with await started(daemon) as session:
        for _ in range(BURSTS):
            asking = [ask(session, NAMES[n % 2], stream=n % 4 < 2) for n in range(BURST)]
            answers += await asyncio.gather(*asking)
    assert wrong(answers) == []
    assert loads(daemon) - 1 <= BURSTS  # the first load swaps nobody out
    assert max(answer.took_s for answer in answers) <= await longest_wait_s(daemon)
    assert len(daemon.containers()) == 1


async def test_sustained_streams_on_one_never_starve_the_other(
    daemon: Daemon, soak_scale: Callable[[int, int], int]
) -> None:
    answers: list[Answer] = []
    over = time.monotonic() + soak_scale(30, 300)

    async def go_on(session: aiohttp.ClientSession, slot: str, pause_s: float) -> None:
        while time.monotonic() < over:
            answers.append(await ask(session, slot, stream=True))
            await asyncio.sleep(pause_s)

    async with await started(daemon) as session:
        await ask(session, "primary", stream=True)
        await asyncio.gather(*(go_on(session, "primary", 0.0) for _ in range(3)), go_on(session, "other", 1.0))
        async with daemon.operator() as operator:
            status = await operator.get("/api/status")
    assert wrong(answers) == []
    assert status["in_flight"] == 0
    rare = [answer for answer in answers if answer.slot == "other"]
    assert rare

    async def logged() -> bool:
        return len(waits(daemon)) > len(answers)

    await until(logged, within_s=10, what="the log tells of every request")
    waited = waits(daemon)
    assert max(held for held, _ in waited) <= await longest_wait_s(daemon)
    assert max(turn for _, turn in waited) > 1.0
