"""Swap by overlap on live podman: ten streams and plain requests go on while the model changes, and nobody waits."""

import asyncio
import contextlib
import json
import random
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from tests.podman.daemon import Daemon
from tests.podman.streams import until
from tests.podman.test_hal0_chaos import assert_records_are_whole, running, settles
from tests.tiny import gguf_models

CONFIG = '[slots.primary]\nmodel = "tiny-chat"\nparallel = 12\ncontext_size = 24576\nswap = "overlap"\n'
STREAMS = 10


@dataclass
class Seen:
    """What the clients met. A request that was held would show a first byte that came late, or a refusal."""

    answers: int = 0
    models: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)
    waited: int = 0  # how many stood at the slot's gate, however shortly


async def client(daemon: Daemon, seen: Seen, *, stream: bool) -> None:
    """Chats, one after the other, for ever."""
    messages = [{"role": "user", "content": "Hi"}]
    body = {"model": "primary", "max_tokens": 60 if stream else 4, "stream": stream, "messages": messages}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=90)) as session:
        while True:
            async with session.post(f"{daemon.url}/v1/chat/completions", json=body) as answer:
                text = (await answer.read()).decode()
            first = text.removeprefix("data: ").partition("\n")[0]
            if answer.status != 200 or '"error"' in text or (stream and not text.endswith("data: [DONE]\n\n")):
                seen.wrong.append(f"{answer.status} {text[-300:]}")
                continue
            seen.answers += 1
            seen.models.add(json.loads(first)["model"])
            seen.waited += "X-Hal0-Queue-Position" in answer.headers


async def more(seen: Seen) -> None:
    """Each client has asked again, or has met something wrong."""
    before = seen.answers

    async def so_many() -> bool:
        return bool(seen.wrong) or seen.answers >= before + 2 * STREAMS

    await until(so_many, within_s=30, what="answers go on")


@asynccontextmanager
async def traffic(daemon: Daemon) -> AsyncIterator[Seen]:
    seen = Seen()
    clients = [asyncio.create_task(client(daemon, seen, stream=n < STREAMS)) for n in range(STREAMS + 2)]
    try:
        await more(seen)
        yield seen
        await more(seen)
        assert not [one.exception() for one in clients if one.done()]
    finally:
        for one in clients:
            one.cancel()
        await asyncio.wait(clients)


async def started(daemon: Daemon) -> None:
    gguf_models.write_chat(daemon.models / "tiny-chat.gguf", ctx=8192)
    daemon.config = CONFIG
    daemon.prepare()
    await daemon.start()
    async with daemon.operator() as operator:
        assert (await operator.verb("primary", "load"))["state"] == "done"


async def test_the_model_changes_under_traffic_and_no_request_fails_or_waits(daemon: Daemon) -> None:
    await started(daemon)
    async with daemon.operator() as operator:
        for model in ("other-chat", "tiny-chat"):
            old = await operator.slot()
            async with traffic(daemon) as seen:
                job = await operator.verb("primary", "swap", {"model": model}, timeout_s=90)
                assert (job["state"], job["note"]) == ("done", None), job
            assert seen.wrong == []
            assert seen.models == {"tiny-chat", "other-chat"}
            assert seen.waited == 0, "nobody waits for a load"
            view = await operator.slot()
            assert view["port"] != old["port"]
            await alone(daemon, view["containers"][0]["id"])


async def alone(daemon: Daemon, container: str) -> None:
    """Nothing else of the slot is left."""

    async def is_so() -> bool:
        return [c["Id"] for c in await asyncio.to_thread(daemon.containers)] == [container]

    await until(is_so, within_s=30, what="the other one is gone")


async def test_a_model_that_cannot_load_costs_nobody_anything(daemon: Daemon) -> None:
    await started(daemon)
    with (daemon.models / "other-chat.gguf").open("r+b") as model:  # after the scan: only the engine can find out
        model.truncate(200_000)
    override = daemon.state / "slots/primary/override.env"
    before = override.read_bytes()
    async with daemon.operator() as operator:
        old = await operator.slot()
        async with traffic(daemon) as seen:
            job = await operator.verb("primary", "swap", {"model": "other-chat"}, timeout_s=90)
        assert job["state"] == "failed"
        assert job["error"]["code"] == "slot.load_failed"
        assert job["note"] == "tiny-chat never stopped serving"
        assert (seen.wrong, seen.models) == ([], {"tiny-chat"})
        assert seen.waited == 0
        view = await operator.slot()
    assert (view["model"], view["containers"], view["failure"]) == ("tiny-chat", old["containers"], None)
    assert override.read_bytes() == before
    await alone(daemon, view["containers"][0]["id"])


async def test_killed_amid_an_overlap_one_container_is_left_and_serves(
    daemon: Daemon, soak_scale: Callable[[int, int], int]
) -> None:
    dice = random.Random(20261127)
    await started(daemon)
    models = ["other-chat", "tiny-chat"]
    for turn in range(soak_scale(2, 30)):
        async with daemon.operator() as operator:
            before = (await operator.slot())["model"]
            await operator.post("/api/slots/primary/swap", {"model": models[before == "other-chat"]}, expect=202)
            with contextlib.suppress(AssertionError):
                await until(lambda: two(daemon), within_s=3, what="both run")
        await asyncio.sleep(dice.uniform(0.0, 0.3) if turn else 0.0)
        daemon.kill(signal.SIGKILL)
        assert_records_are_whole(daemon)
        assert 1 <= len(running(daemon)) <= 2
        loop = asyncio.get_running_loop()
        began = loop.time()
        await daemon.start()
        async with daemon.operator() as operator:
            assert (await operator.slot())["url"] is not None, "it serves at once, with whichever model answers"
        assert loop.time() - began < 10
        await settles(daemon)
        async with daemon.operator() as operator:
            view = await operator.slot()
        assert view["swap"] is None
        assert view["model"] != before, "it went on"
        assert f"HAL0_MODEL={view['model']}\n" == (daemon.state / "slots/primary/override.env").read_text()


async def two(daemon: Daemon) -> bool:
    return len(await asyncio.to_thread(running, daemon)) == 2
