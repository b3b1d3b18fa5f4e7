"""Figures of busy engines: what they say, and that nobody waits for those who say nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from hal0.lib.clock import SystemClock
from hal0.observe import figures as module
from hal0.observe.figures import LiveFigures, figures
from hal0.providers.base import Endpoint
from tests.vloop import until

METRICS = b"""# TYPE llamacpp:predicted_tokens_seconds gauge
llamacpp:predicted_tokens_seconds 46.25
llamacpp:prompt_tokens_seconds 310
llamacpp:requests_processing 2
llamacpp:requests_deferred 3
"""
# As the server says it in the middle of an answer: what is written is among the tokens of the prompt.
SLOTS = b"""[{"id":0,"id_task":9,"n_ctx":4096,"is_processing":true,"n_prompt_tokens":100,"n_prompt_tokens_processed":50,
"n_prompt_tokens_cache":30,"next_token":[{"n_decoded":20}]},
{"id":1,"id_task":11,"n_ctx":4096,"is_processing":true,"n_past":7,"next_token":{"n_decoded":3}},
{"id":2,"n_ctx":4096,"is_processing":false,"n_prompt_tokens":900}]"""


def test_what_llama_server_says() -> None:
    found = figures(METRICS, SLOTS, 1.0)
    assert (found.tokens_per_second, found.prompt_tokens_per_second, found.deferred) == (46.25, 310.0, 3)
    assert found.context_used == 107


def test_what_is_written_beside_the_prompts_tokens_counts_too() -> None:
    slots = (
        b'[{"is_processing":true,"n_prompt_tokens":80,"n_prompt_tokens_processed":80,"next_token":[{"n_decoded":20}]}]'
    )
    assert figures(b"", slots, 1.0).context_used == 100


def test_the_rate_is_of_what_was_written_since_the_last_look() -> None:
    """The server's own is 0 until the first answer has ended, and again after every question for it."""
    first = figures(b"llamacpp:predicted_tokens_seconds 0\n", SLOTS, 1.0)
    later = SLOTS.replace(b'"n_decoded":20', b'"n_decoded":70').replace(b'"id_task":11', b'"id_task":12')
    assert figures(METRICS, later, 3.0, first).tokens_per_second == (50 + 3) / 2
    assert figures(METRICS, later, 60.0, first).tokens_per_second == 46.25
    assert figures(METRICS, b"[]", 3.0, first).tokens_per_second == 46.25
    assert figures(METRICS, SLOTS, 3.0, first).tokens_per_second == 0


def test_an_engine_may_number_its_work_as_it_likes() -> None:
    first = SLOTS.replace(b'"id_task":9', b'"id_task":[9,{}]')
    assert figures(METRICS, first.replace(b":20}", b":70}"), 3.0, figures(METRICS, first, 1.0)).tokens_per_second == 25


@pytest.mark.parametrize(
    ("slots", "used"),
    [(b"", None), (b"[]", 0), (b'{"error":1}', None), (b'[{"is_processing":true}]', None), (b"[7]", None)],
)
def test_what_it_does_not_say_is_not_made_up(slots: bytes, used: int | None) -> None:
    found = figures(b"", slots, 1.0)
    assert (found.tokens_per_second, found.deferred, found.context_used) == (None, None, used)


def test_what_is_no_number_is_not_told() -> None:
    found = figures(b"llamacpp:requests_deferred NaN\nllamacpp:predicted_tokens_seconds +Inf\n", b"", 1.0)
    assert (found.tokens_per_second, found.deferred) == (None, None)


async def in_pieces(request: web.Request, body: bytes) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for at in range(0, len(body), 100):
        await response.write(body[at : at + 100])
        await asyncio.sleep(0.01)
    return response


@asynccontextmanager
async def engine(*, hangs: bool = False) -> AsyncIterator[tuple[Endpoint, list[str]]]:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        assert request.headers["Authorization"] == "Bearer secret"
        if hangs:
            await asyncio.sleep(60)
        return await in_pieces(request, METRICS if request.path == "/metrics" else SLOTS)

    app = web.Application()
    app.add_routes([web.get("/metrics", answer), web.get("/slots", answer)])
    async with TestServer(app) as server:
        assert server.port is not None
        yield Endpoint("127.0.0.1", server.port, "secret"), asked


async def test_who_is_busy_no_more_has_no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOK_EVERY_S", 0.01)
    busy = ["primary"]
    async with engine() as (well, _), aiohttp.ClientSession() as session:
        live = LiveFigures(session, lambda: {"primary": well}, lambda: busy, SystemClock())
        looking = asyncio.create_task(live.keep_looking())
        await until(lambda: live.of("primary") is not None, within_s=5)
        busy.clear()
        await until(lambda: live.of("primary") is None, within_s=5)
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking


async def test_only_the_busy_are_asked_and_one_that_hangs_delays_nobody() -> None:
    async with engine() as (well, asked), engine(hangs=True) as (slow, waiting), engine() as (idle, unasked):
        endpoints = {"primary": well, "slow": slow, "idle": idle}
        async with aiohttp.ClientSession() as session:
            live = LiveFigures(session, lambda: endpoints, lambda: ["slow", "primary", "gone"], SystemClock())
            looking = asyncio.create_task(live.keep_looking())
            await until(lambda: live.of("primary") is not None, within_s=5)
            assert live.of("slow") is None
            assert (found := live.of("primary")) is not None
            assert replace(found, told_at=0.0) == figures(METRICS, SLOTS, found.at)
            assert (view := live.view("primary")) is not None
            assert (view.at, view.tokens_per_second) == (found.told_at, found.tokens_per_second)
            looking.cancel()
            with suppress(asyncio.CancelledError):
                await looking
    assert sorted(asked) == ["/metrics", "/slots"]
    assert waiting != []
    assert unasked == []
