"""What Prometheus is told, as its own parser reads it: requests, slots' lives, and engines in their own words."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from hal0.observe.activity import Activity
from hal0.observe.engines import EngineMetrics, relabelled
from hal0.observe.exposition import Family, Histogram, render
from hal0.observe.measures import RequestMeasures, SlotMeasures
from hal0.providers.base import Endpoint
from tests.unit.observe.records import record

CHAT = "/v1/chat/completions"
DEADLINE_S = 0.3
ENGINE = """\
# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed.
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 100
# HELP llamacpp:busy Busy slots.
# TYPE llamacpp:busy gauge
llamacpp:busy{slot="0",what="a \\"b\\", {c}"} 0.5 1700000000000
# TYPE took histogram
took_bucket{le="1"} 2
took_bucket{le="+Inf"} 3
took_sum 4.5
took_count 3
"""


def read(families: Any) -> dict[tuple[str, ...], float]:
    """Every sample by its name and its labels' values, as Prometheus' own parser has it."""
    found = {}
    for family in text_string_to_metric_families(render(families).decode()):
        for sample in family.samples:
            key = (sample.name, *(value for _, value in sorted(sample.labels.items())))
            assert key not in found, f"{key} is told twice"
            found[key] = sample.value
    return found


def test_labels_and_help_are_escaped() -> None:
    family = Family("hal0_x", "gauge", "a \\ and\na line")
    family.add(1, name='a "b" \\ {c},\nd')
    assert read([family]) == {("hal0_x", 'a "b" \\ {c},\nd'): 1}


def test_a_histogram_adds_up_and_becomes_seconds() -> None:
    histogram, family = Histogram((5, 10)), Family("hal0_x_seconds", "histogram", "x")
    for value in (1, 5, 7, 100):
        histogram.observe(value)
    family.observed(histogram, scale=1e-3, target="a")
    assert read([family]) == {
        ("hal0_x_seconds_bucket", "0.005", "a"): 2,
        ("hal0_x_seconds_bucket", "0.01", "a"): 3,
        ("hal0_x_seconds_bucket", "+Inf", "a"): 4,
        ("hal0_x_seconds_sum", "a"): 0.113,
        ("hal0_x_seconds_count", "a"): 4,
    }


def test_requests_are_counted_by_target_path_and_true_status() -> None:
    measures = RequestMeasures(frozenset({CHAT}))
    measures(
        [
            record("a", prompt_tokens=7, completion_tokens=3),
            record("b", status=499, stream=True, first_byte_ms=100.0, held_ms=50.0, total_ms=1150.0, queue_position=1),
            record("c", status=404, target=None, path="/slot/x/" + "y" * 100),
        ]
    )
    found = read(measures.families())
    assert found["hal0_requests_total", CHAT, "200", "primary"] == 1
    assert found["hal0_requests_total", CHAT, "499", "primary"] == 1
    assert found["hal0_requests_total", "other", "404", ""] == 1
    assert found["hal0_request_stream_seconds_sum", "primary"] == 1.0
    assert found["hal0_request_hold_seconds_count", "primary"] == 1, "those that went in at once did not wait"
    assert found["hal0_prompt_tokens_total", "primary"] == 7
    assert found["hal0_response_bytes_total", "primary"] == 6


def test_whatever_is_asked_the_series_are_bounded() -> None:
    measures = RequestMeasures(frozenset({CHAT}))
    measures([record("a", path=f"/{n}") for n in range(3000)])
    measures([record("a", status=status) for status in range(100, 5000)])
    found = [key for key in read(measures.families()) if key[0] == "hal0_requests_total"]
    assert len(found) < 2100


def _entry(kind: str, at: float) -> Activity:
    return Activity.made(f"slot.{kind}", "primary", "m", at)


def test_loads_failures_and_restarts_are_read_off_the_feed() -> None:
    measures = SlotMeasures()
    lives = [
        ("loading", 0),
        ("ready", 12),
        ("failed", 20),
        ("loading", 21),
        ("failed", 22),
        ("loading", 24),
        ("ready", 30),
    ]
    for kind, at in lives:
        measures(_entry(kind, at))
    found = read(measures.families())
    assert found["hal0_slot_loads_total", "primary"] == 3
    assert found["hal0_slot_restarts_total", "primary"] == 2
    assert found["hal0_slot_failures_total", "primary"] == 2
    assert found["hal0_slot_load_duration_seconds_sum", "primary"] == 18
    assert found["hal0_slot_load_duration_seconds_count", "primary"] == 2
    measures(_entry("deleted", 31))
    assert read(measures.families()) == {}


def test_engines_metrics_get_their_slot_and_stay_one_family() -> None:
    found = read(relabelled({"primary": ENGINE, "coder": ENGINE}))
    assert found["llamacpp:prompt_tokens_total", "primary"] == 100
    assert found["llamacpp:prompt_tokens_total", "coder"] == 100
    assert found["llamacpp:busy", "0", "coder", 'a "b", {c}'] == 0.5
    assert found["took_bucket", "+Inf", "primary"] == 3
    assert found["took_sum", "coder"] == 4.5


@pytest.mark.parametrize(
    "text",
    [
        "hal0_up 1", "process_cpu_seconds_total 1", "no number", "x{ 1", 'x{a="b} 1', "x one", "{} 1", "<html>",
        "x{a=b} 1", 'x{a="b"} 1 2 3',
    ],
)  # fmt: skip
def test_what_is_no_metric_of_an_engine_is_left_out(text: str) -> None:
    assert read(relabelled({"primary": text})) == {}


def test_an_engine_that_tells_too_much_is_cut() -> None:
    text = "\n".join(f"x{n} 1" for n in range(5000))
    assert len(read(relabelled({"primary": text}))) == 1000


class Engine:
    """Answers as it is told; counts what it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.status = 200
        self.hangs = False
        self.released = asyncio.Event()

    async def metrics(self, request: web.Request) -> web.Response:
        self.asked += 1
        assert request.headers["Authorization"] == "Bearer secret"
        if self.hangs:
            await self.released.wait()
        return web.Response(text=ENGINE, status=self.status)


@asynccontextmanager
async def engine() -> AsyncIterator[tuple[Engine, EngineMetrics]]:
    it, app = Engine(), web.Application()
    app.router.add_get("/metrics", it.metrics)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    async with aiohttp.ClientSession() as session:
        yield (
            it,
            EngineMetrics(session, lambda: {"primary": Endpoint("127.0.0.1", port, "secret")}, deadline_s=DEADLINE_S),
        )
    it.released.set()
    await runner.cleanup()


async def test_an_engine_is_asked_once_for_all_who_look() -> None:
    async with engine() as (it, metrics):
        found = await asyncio.gather(*(metrics.families() for _ in range(5)))
        assert it.asked == 1
        assert all(read(families)["hal0_engine_metrics_up", "primary"] == 1 for families in found)
        assert read(found[0])["llamacpp:prompt_tokens_total", "primary"] == 100


async def test_an_engine_that_hangs_costs_no_more_than_the_deadline_and_what_it_said_last_stands() -> None:
    async with engine() as (it, metrics):
        await metrics.families()
        it.hangs = True
        metrics._said["primary"].asked_at -= 10
        loop = asyncio.get_running_loop()
        began = loop.time()
        found = read(await metrics.families())
        assert loop.time() - began < 1
        assert found["hal0_engine_metrics_up", "primary"] == 0
        assert found["llamacpp:prompt_tokens_total", "primary"] == 100
        metrics._said["primary"].said_at -= 100
        assert ("llamacpp:prompt_tokens_total", "primary") not in read(await metrics.families())


@pytest.mark.parametrize(("status", "up"), [(404, None), (500, 0.0)])
async def test_an_engine_without_metrics_is_no_failure(status: int, up: float | None) -> None:
    async with engine() as (it, metrics):
        it.status = status
        assert read(await metrics.families()).get(("hal0_engine_metrics_up", "primary")) == up


@pytest.mark.parametrize(
    "values", [[], [0.0], [1, 1.0, 1.5, 2, 3, 10.0, 10.1, -1], [random.Random(7).expovariate(0.2) for _ in range(500)]]
)
def test_many_at_once_count_like_one_after_the_other(values: list[float]) -> None:
    alone, together = Histogram((1, 2, 5, 10)), Histogram((1, 2, 5, 10))
    for value in values:
        alone.observe(value)
    together.observe_all(reversed(values))
    assert together.counts == alone.counts
    assert together.total == pytest.approx(alone.total)
