"""The real podman adapter and the real supervisor on a socket that misbehaves: slots serve, and all ends well.

On real time: a socket knows no other.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from hal0.engine.podman import PodmanEngine
from hal0.errors import Hal0Error
from hal0.slots.slot import Slot
from hal0.vocab import Phase, Want
from tests.fakes.podman_live import LivePodman, live_podman
from tests.fakes.world import Running, World
from tests.vloop import until

CONVERGES_S = 5.0


@pytest.fixture
async def podman() -> AsyncIterator[LivePodman]:
    async with live_podman() as live:
        yield live


@pytest.fixture
async def world(tmp_path: Path, port_block: range, podman: LivePodman) -> AsyncIterator[World]:
    adapter = PodmanEngine(podman.socket)
    yield World(tmp_path, port_block, podman.engine, adapter=adapter)
    await adapter.aclose()


def settled(hal0: Running, podman: LivePodman) -> bool:
    """Every slot is where it is wanted, and podman has what they have and nothing else."""
    lives = [hal0.supervisor.slot(name).life for name in ("primary", "embed")]
    phases = all(life.phase is (Phase.READY if life.desired.want is Want.LOADED else Phase.OFFLINE) for life in lives)
    names = sorted(life.facts.current.name for life in lives if life.facts.current is not None)
    return (
        phases and names == sorted(c.spec.name for c in podman.engine.running) and len(podman.engine.all) == len(names)
    )


async def serve(slot: Slot, until_done: asyncio.Event) -> tuple[int, float]:
    """What dispatch does, again and again: how often, and the longest that one took, in seconds."""
    loop, count, longest = asyncio.get_running_loop(), 0, 0.0
    while not until_done.is_set():
        began = loop.time()
        assert slot.snapshot().routable, slot.life
        with slot.serving():
            await asyncio.sleep(0)
        count, longest = count + 1, max(longest, loop.time() - began)
        await asyncio.sleep(0.01)
    return count, longest


async def test_a_stalled_socket_touches_no_ready_slot_and_all_converges_after_it(
    world: World, podman: LivePodman, soak_scale: Callable[[int, int], int]
) -> None:
    async with world.hal0(embed={"model": "two"}) as hal0:
        await hal0.load()
        await hal0.load("embed")
        over = asyncio.Event()
        serving = asyncio.create_task(serve(hal0.primary, over))
        podman.stall()
        podman.engine.of_slot("embed")[0].end(137)  # nobody is told
        unloading = asyncio.create_task(hal0.supervisor.restart("embed"))
        await asyncio.sleep(soak_scale(4, 60))
        assert (await unloading).view is not None, "a verb is answered while podman hangs"
        podman.release()
        await until(lambda: settled(hal0, podman), within_s=CONVERGES_S)
        over.set()
        count, longest = await serving
        assert count > 20
        assert longest < 2, "no request waited for podman, which was silent for longer"
        assert hal0.primary.life.facts.generation == 1


async def test_late_halved_refused_and_lost_answers_end_where_they_should(
    world: World, podman: LivePodman, soak_scale: Callable[[int, int], int]
) -> None:
    async with world.hal0(embed={"model": "two"}) as hal0:
        await hal0.load()
        podman.wild = 0.3
        for _ in range(soak_scale(4, 60)):
            for verb in (hal0.supervisor.load, hal0.supervisor.unload, hal0.supervisor.load):
                with contextlib.suppress(Hal0Error):
                    await verb("embed")
                await asyncio.sleep(podman.dice.random() * 0.5)
            if podman.engine.running and podman.dice.random() < 0.5:
                podman.engine.forget(podman.dice.choice(podman.engine.running))
        podman.wild = 0.0
        for slot in ("primary", "embed"):
            with contextlib.suppress(Hal0Error):
                await hal0.supervisor.load(slot)
        await until(lambda: settled(hal0, podman), within_s=2 * CONVERGES_S)
