"""Renders that nobody wants any more, that stand still, or whose engine is gone: stopped, told, and nothing left."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final
from unittest.mock import AsyncMock

import pytest

from hal0.errors import Hal0Error
from hal0.lib import jsonio
from tests.fakes.comfy import FakeComfy
from tests.fakes.slots import settled, snapshot
from tests.functional.dispatch_app import World
from tests.functional.images_app import GENERATE, ask, refused
from tests.functional.raw_client import raw

JSON: Final = "Content-Type: application/json\r\n"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_stops_the_render(studio: World, comfy: FakeComfy, stream: bool) -> None:
    comfy.step_s = 0.02
    async with raw(studio.port) as client:
        await client.post(GENERATE, jsonio.dumps(ask(steps=150, stream=stream)), JSON)
        job = await comfy.job()
        client.leave()
    await settled(lambda: job.state == "error")
    assert job.interrupted
    assert job.steps < 100
    await settled(lambda: studio.slots["img"].in_flight == 0)
    (record,) = studio.decisions
    assert record.status == 499


async def test_a_client_that_leaves_the_engines_queue_leaves_nothing_there(studio: World, comfy: FakeComfy) -> None:
    studio.slots["img"].become(max_inflight=None)
    comfy.step_s = 0.02
    async with raw(studio.port) as staying, raw(studio.port) as leaving:
        await staying.post(GENERATE, jsonio.dumps(ask(steps=20)), JSON)
        first = await comfy.job()
        await leaving.post(GENERATE, jsonio.dumps(ask()), JSON)
        second = await comfy.job(2, "pending")
        leaving.leave()
        await settled(lambda: second.state == "removed")
        assert (await staying.head()).startswith(b"HTTP/1.1 200")
        assert (first.state, first.interrupted) == ("success", False)


async def test_an_engine_that_dies_is_said(studio: World, comfy: FakeComfy) -> None:
    comfy.step_s = 0.02
    asking = asyncio.create_task(refused(studio, "generations", ask(steps=100)))
    await comfy.job()
    await comfy.stop()
    assert await asking == (502, "upstream.unreachable", None)
    assert studio.slots["img"].suspected


async def test_a_stream_that_breaks_ends_with_an_error(studio: World, comfy: FakeComfy) -> None:
    comfy.step_s = 0.02
    async with studio.http.post(studio.url + GENERATE, json=ask(stream=True, steps=100)) as answer:
        assert answer.status == 200
        await answer.content.readline()
        await comfy.stop()
        rest = b"".join([piece async for piece in _until_broken(answer)])
    assert b'data: {"error"' in rest
    assert b"upstream.unreachable" in rest


async def _until_broken(answer: Any) -> AsyncIterator[bytes]:
    try:
        async for piece in answer.content.iter_any():
            yield piece
    except Exception:  # the end of a chunked answer that is not whole
        return


@pytest.mark.parametrize("stream", [False, True])
async def test_a_render_that_stands_still_is_stopped_and_one_that_goes_on_is_not(
    studio: World, comfy: FakeComfy, stream: bool
) -> None:
    studio.slots["img"].become(first_byte_timeout_s=0.3)
    comfy.step_s = 0.05
    assert await _status(studio, ask(steps=12, stream=stream)) == 200
    comfy.step_s = 0.5
    assert await refused(studio, "generations", ask(steps=9)) == (504, "slot.deadline", None)
    assert comfy.jobs[1].interrupted


async def test_every_picture_has_its_time(studio: World, comfy: FakeComfy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nobody hears of the steps."""
    monkeypatch.setattr(comfy, "_tell", AsyncMock())
    studio.slots["img"].become(first_byte_timeout_s=0.4)
    comfy.step_s = 0.05
    assert await _status(studio, ask(steps=3, n=4)) == 200


async def test_a_render_that_vanished_is_missed(studio: World, comfy: FakeComfy) -> None:
    comfy.forgets = True
    assert await refused(studio, "generations", ask()) == (502, "upstream.broken", None)


async def test_a_drain_ends_the_render_and_says_so(studio: World, comfy: FakeComfy) -> None:
    comfy.step_s = 0.02
    asking = asyncio.create_task(refused(studio, "generations", ask(steps=150)))
    job = await comfy.job()
    studio.slots["img"].abort_all(Hal0Error("slot.draining", "cannot go on: the slot is being unloaded"))
    assert (await asking)[1] == "slot.draining"
    assert job.interrupted


async def test_who_waits_stands_in_line_and_a_full_line_is_said(studio: World, comfy: FakeComfy) -> None:
    comfy.step_s = 0.02
    first, second = (asyncio.create_task(_status(studio, ask(steps=10))) for _ in range(2))
    await settled(lambda: studio.dispatcher.waiting(snapshot("img").name) == 1)
    assert await refused(studio, "generations", ask()) == (429, "slot.queue_full", None)
    assert [await first, await second] == [200, 200]


async def _status(studio: World, body: Mapping[str, Any]) -> int:
    async with studio.http.post(studio.url + GENERATE, json=body) as answer:
        return answer.status


async def test_an_engine_that_says_no_goodbye_does_not_hold_the_answer(studio: World, comfy: FakeComfy) -> None:
    comfy.says_goodbye = False
    async with asyncio.timeout(9), studio.http.post(studio.url + GENERATE, json=ask()) as answer:
        assert answer.status == 200  # aiohttp itself would wait for ten seconds
