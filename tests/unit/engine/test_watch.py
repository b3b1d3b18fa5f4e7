"""The event stream: every event once, RESYNC first and after every gap, whatever the service does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from hal0.engine import watch
from hal0.engine.base import EngineEvent, EventKind
from hal0.engine.podman import PodmanEngine
from hal0.lib.jsonio import loads
from tests.fakes.podman_api import STALLED, End, Reply, ScriptedPodman, event, refused

RESYNC, STARTED, DIED = EventKind.RESYNC, EventKind.STARTED, EventKind.DIED
PATIENCE_S = 10.0


async def kinds(events: AsyncIterator[EngineEvent], count: int) -> list[EventKind]:
    async with asyncio.timeout(PATIENCE_S):
        return [(await anext(events)).kind for _ in range(count)]


async def test_events_carry_id_labels_and_exit_code_and_follow_the_filter(
    api: ScriptedPodman, engine: PodmanEngine
) -> None:
    line = event("died", "c1", 5_000_000_001, containerExitCode="137", **{"dev.hal0.slot": "primary"})
    api.on("GET", "/events", Reply(200, (line,), End.OPEN))
    async with aclosing(engine.events({"dev.hal0.instance": "x"})) as events:
        assert await kinds(events, 1) == [RESYNC]
        died = await anext(events)
    assert died == EngineEvent(DIED, "c1", "c1", {"dev.hal0.slot": "primary"}, 137, 5_000_000_001 / 1e9)
    asked = api.requests[-1].query
    assert loads(asked["filters"][0]) == {"type": ["container"], "label": ["dev.hal0.instance=x"]}


async def test_replayed_events_are_dropped_after_a_gap(api: ScriptedPodman, engine: PodmanEngine) -> None:
    one, two, three = (event(*what) for what in (("start", "c", 1), ("died", "c", 2), ("start", "c", 3)))
    api.on("GET", "/events", Reply(200, (one, two, two)), Reply(200, (one, two, three), End.OPEN))
    async with aclosing(engine.events({})) as events:
        assert await kinds(events, 5) == [RESYNC, STARTED, DIED, RESYNC, STARTED]


@pytest.mark.parametrize(
    "broken",
    [
        Reply(200, (event("start", "c", 1)[:40],), End.CUT),
        Reply(200, (event("start", "c", 1)[:40],)),
        Reply(200, (b"[]\n",)),
        Reply(200, (b"\xff\n",)),
        refused(500, "no events today"),
    ],
    ids=["cut", "half", "no-object", "no-text", "refused"],
)
async def test_a_broken_stream_is_a_gap(api: ScriptedPodman, engine: PodmanEngine, broken: Reply) -> None:
    api.on("GET", "/events", broken, Reply(200, (event("died", "c", 2),), End.OPEN))
    async with aclosing(engine.events({})) as events, asyncio.timeout(PATIENCE_S):
        while (seen := await anext(events)).kind is not DIED:
            assert seen.kind is RESYNC
    assert len(api.requests) == 2


async def test_a_vanished_service_is_waited_for(api: ScriptedPodman, engine: PodmanEngine) -> None:
    api.on("GET", "/events", Reply(200, (), End.OPEN), Reply(200, (event("died", "c", 2),), End.OPEN))
    async with aclosing(engine.events({})) as events:
        assert await kinds(events, 1) == [RESYNC]
        waiting = asyncio.create_task(kinds(events, 2))
        await api.close()
        await asyncio.sleep(0.3)
        assert not waiting.done()
        await api.open()
        assert await waiting == [RESYNC, DIED]


async def test_each_connection_looks_back_to_before_the_last_event(api: ScriptedPodman, engine: PodmanEngine) -> None:
    late = 4_000_000_000 * 10**9
    api.on("GET", "/events", Reply(200, (event("died", "c", late),)), Reply(200, (), End.OPEN))
    async with aclosing(engine.events({})) as events:
        assert await kinds(events, 3) == [RESYNC, DIED, RESYNC]
    assert int(api.requests[-1].query["since"][0]) < 4_000_000_000


async def test_what_hal0_does_not_follow_is_not_told(api: ScriptedPodman, engine: PodmanEngine) -> None:
    noise = [event(action, "c", n) for n, action in enumerate(("create", "init", "cleanup", "exec"), 1)]
    api.on("GET", "/events", Reply(200, (*noise, event("remove", "c", 9)), End.OPEN))
    async with aclosing(engine.events({})) as events:
        assert await kinds(events, 2) == [RESYNC, EventKind.REMOVED]


async def test_a_stalled_stream_can_be_left(api: ScriptedPodman, engine: PodmanEngine) -> None:
    api.on("GET", "/events", STALLED)
    follow = asyncio.create_task(anext(engine.events({})))
    await asyncio.sleep(0.1)
    follow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await follow


def test_the_memory_of_events_is_bounded() -> None:
    seen = watch._Seen()
    for n in range(watch._REMEMBERED * 2):
        assert seen.add(("c", "died", n))
    assert not seen.add(("c", "died", watch._REMEMBERED * 2 - 1))
    assert len(seen._keys) == watch._REMEMBERED
