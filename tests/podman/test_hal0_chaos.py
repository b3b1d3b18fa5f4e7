"""hal0 killed at random moments of load, swap and unload under traffic, on live podman and the real engine."""

import asyncio
import contextlib
import json
import os
import random
import signal
from collections.abc import Callable

import aiohttp

from tests.podman.daemon import Daemon
from tests.podman.streams import until

MODELS = ("tiny-chat", "other-chat")


async def traffic(daemon: Daemon) -> None:
    """Short chats, one after the other, whatever becomes of them."""
    body = {"model": "primary", "max_tokens": 200, "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with session.post(f"{daemon.url}/v1/chat/completions", json=body) as answer:
                    await answer.read()
            await asyncio.sleep(0.01)


async def verb(daemon: Daemon, dice: random.Random) -> str:
    """One verb of an operator; the model that is wanted afterwards, empty for none."""
    model = dice.choice(MODELS)
    name, body = dice.choice((("swap", {"model": model}), ("restart", {}), ("unload", {}), ("load", {"model": model})))
    with contextlib.suppress(aiohttp.ClientError, TimeoutError, AssertionError):
        async with daemon.operator() as operator:
            await operator.post(f"/api/slots/primary/{name}", body, expect=202)
    return name


async def test_killed_at_any_moment_nothing_is_orphaned_doubled_or_damaged(
    daemon: Daemon, soak_scale: Callable[[int, int], int]
) -> None:
    dice = random.Random(20261121)
    await daemon.start()
    async with daemon.operator() as operator:
        await operator.verb("primary", "swap", {"model": "tiny-chat"})
    load = asyncio.create_task(traffic(daemon))
    try:
        for _ in range(soak_scale(12, 100)):
            await verb(daemon, dice)
            await asyncio.sleep(dice.uniform(0.0, 0.8))
            daemon.kill(signal.SIGKILL)
            assert_records_are_whole(daemon)
            assert len(running(daemon)) <= 1, "two live containers of one slot"
            await daemon.start()
            await settles(daemon)
    finally:
        load.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await load
    # Without traffic and verbs a further death changes nothing at all.
    async with daemon.operator() as operator:
        await operator.verb("primary", "load", {"model": "tiny-chat"})
    before = [c["Id"] for c in daemon.containers()]
    daemon.kill(signal.SIGKILL)
    await daemon.start()
    await settles(daemon)
    assert [c["Id"] for c in daemon.containers()] == before


async def test_an_engine_that_dies_with_its_monitor_while_hal0_is_away_is_made_anew(daemon: Daemon) -> None:
    """podman 4.3 says of it for ever that it runs."""
    await daemon.start()
    async with daemon.operator() as operator:
        await operator.verb("primary", "swap", {"model": "tiny-chat"})
    container = daemon.podman.call("GET", f"/containers/{daemon.containers()[0]['Id']}/json")
    daemon.kill(signal.SIGKILL)
    for pid in (container["State"]["ConmonPid"], container["State"]["Pid"]):
        os.kill(pid, signal.SIGKILL)
    await daemon.start()
    async with daemon.operator() as operator:
        await operator.reaches_generation(2, within_s=20)
    assert len(daemon.containers()) == 1


def running(daemon: Daemon) -> list[str]:
    return [c["Id"] for c in daemon.containers() if c["State"] == "running"]


def assert_records_are_whole(daemon: Daemon) -> None:
    for record in (daemon.state / "slots").glob("*/state.json"):
        assert json.loads(record.read_bytes())["schema"] == 1
    assert not list((daemon.state / "slots").glob("*/state.json.damaged"))


async def settles(daemon: Daemon) -> None:
    """The slot comes to rest where it is wanted, and exactly its containers exist."""

    async def at_rest() -> bool:
        async with daemon.operator() as operator:
            view = await operator.slot()
        known = {c["name"] for c in view["containers"]}
        there = {c["Names"][0] for c in await asyncio.to_thread(daemon.containers)}
        if view["desired"]["want"] == "loaded":
            return view["state"] in ("ready", "serving", "idle") and there == known and len(there) == 1
        return view["state"] == "offline" and not there

    await until(at_rest, within_s=40, what="the slot is at rest where it is wanted")
