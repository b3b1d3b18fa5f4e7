"""All nineteen container slots at once: loaded, unloaded and swapped at random under live streams, for a while."""

import asyncio
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from hal0.vocab import SLOT_PORTS
from tests.podman.daemon import Daemon, Operator
from tests.podman.streams import until

MODELS = ("tiny-chat", "other-chat")
# primary, and as many of the operator's own as there are ports for.
NAMES = ("primary", *(f"chat{number:02}" for number in range(1, len(SLOT_PORTS))))
CLIENTS = 4
LEAST_VERBS, LEAST_ANSWERS = 3, 100  # of each kind of operator; of all clients
GROWTH_BYTES = 24 * 2**20  # the allocator's own ups and downs over a short run
SPARE_FILES = 40  # connections that are just being made or closed
SPARE_TASKS = 20  # likewise, and probes that are just under way


@dataclass(frozen=True)
class Told:
    """One request, or one verb that was waited for: what came of it, and when (monotonic)."""

    name: str
    what: str
    began: float
    ended: float


async def streams(daemon: Daemon, dice: random.Random, over: asyncio.Event, outcomes: list[Told]) -> None:
    """One client that streams short answers from whichever slot; what it got."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=120)) as session:
        while not over.is_set():
            name = dice.choice(NAMES)
            began = time.monotonic()
            body = {"model": name, "max_tokens": 40, "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
            async with session.post(f"{daemon.url}/v1/chat/completions", json=body) as answer:
                text = (await answer.read()).decode()
            end = "done" if answer.status == 200 and text.endswith("data: [DONE]\n\n") else text[-400:]
            outcomes.append(Told(name, end, began, time.monotonic()))


async def operate(operator: Operator, end: float, dice: random.Random, *verbs: str) -> list[Told]:
    """Random verbs, each waited for: a few at least, however slow this machine is."""
    told = list[Told]()
    while time.monotonic() < end or len(told) < LEAST_VERBS:
        name, verb = dice.choice(NAMES), dice.choice(verbs)
        body = {"model": dice.choice(MODELS)} if verb == "swap" else {}
        began = time.monotonic()
        job = await operator.verb(name, verb, body, timeout_s=120)
        assert job["state"] == "done", json.dumps(job)
        told.append(Told(name, verb, began, time.monotonic()))
    return told


def turned_away_by(request: Told, verbs: list[Told]) -> bool:
    """Somebody waited for the load of a slot, and just then the operator unloaded that very slot."""
    return '"slot.load_cancelled"' in request.what and any(
        verb.what == "unload"
        and verb.name == request.name
        and verb.began < request.ended
        and request.began < verb.ended
        for verb in verbs
    )


def resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))


async def tasks(operator: Operator) -> int:
    async with operator.session.get("/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("hal0_event_loop_tasks "))


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def test_nineteen_slots_live_through_everything(daemon: Daemon, soak_scale: Callable[[int, int], int]) -> None:
    own = "".join(
        f'[slots.{name}]\nmodel = "tiny-chat"\ncontext_size = 2048\nextra_args = "-t 1"\n' for name in NAMES[1:]
    )
    daemon.config = '[slots.primary]\nmodel = "tiny-chat"\ncontext_size = 2048\nextra_args = "-t 1"\n' + own
    daemon.slot_ports = daemon.slot_ports[: len(SLOT_PORTS)]
    daemon.prepare()
    await daemon.start()
    assert daemon.process is not None
    pid = daemon.process.pid
    outcomes: list[Told] = []
    async with daemon.operator() as operator:
        for name in NAMES:
            assert (await operator.verb(name, "load"))["state"] == "done"
        assert len(daemon.containers()) == len(NAMES) == 19
        extra = await operator.verb("embed", "swap", {"model": "tiny-embed"})
        assert extra["error"]["code"] == "slot.no_free_port"
        before, files, busy = resident_bytes(pid), open_files(pid), await tasks(operator)
        half_s = soak_scale(23, 300)
        end, over = time.monotonic() + 2 * half_s, asyncio.Event()
        clients = [asyncio.create_task(streams(daemon, random.Random(n), over, outcomes)) for n in range(CLIENTS)]
        # The twentieth goes on asking: what swaps or restarts has its port all the same.
        verbs = await operate(operator, end - half_s, random.Random(19), "swap", "restart")
        assert (await operator.slot("embed"))["failure"]["code"] == "slot.no_free_port"
        # It would rightly take the port of a slot that is unloaded: twenty cannot share nineteen.
        assert (await operator.verb("embed", "unload"))["state"] == "done"
        verbs += await operate(operator, end, random.Random(20), "swap", "restart", "unload")

        async def enough() -> bool:
            return len(outcomes) > LEAST_ANSWERS or any(one.done() for one in clients)

        await until(enough, within_s=300, what="answers go on")
        over.set()
        await asyncio.gather(*clients)
        ports = [(await operator.slot(name))["port"] for name in NAMES]
        health, still_busy = await operator.get("/api/status"), await tasks(operator)
    # A drain waits for open streams, and a request waits for the load: nobody was cut off, and nobody was turned
    # away but by the operator, who unloaded the slot for whose load this request waited.
    assert [one for one in outcomes if one.what != "done" and not turned_away_by(one, verbs)] == []
    assert len({port for port in ports if port is not None}) == len([port for port in ports if port is not None])
    assert health["in_flight"] == 0
    assert resident_bytes(pid) - before < GROWTH_BYTES
    assert open_files(pid) - files < SPARE_FILES
    assert still_busy - busy < SPARE_TASKS
