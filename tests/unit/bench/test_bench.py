"""The bench judges fairly and its generator counts what the backend sends."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from tests.bench.backend import Backend, Connection
from tests.bench.load import LoadError, gaps, hold_streams, latencies, percentile, request, throughput
from tests.bench.rows import BARS, judge, table, told

PLAIN = request(json.dumps({"messages": []}).encode())


def events(count: int, pace_ms: int) -> bytes:
    return request(json.dumps({"stream": True, "max_tokens": count, "bench_pace_ms": pace_ms}).encode())


@pytest.fixture
async def backend(free_port: int) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    answers = Backend("bench", 0)
    server = await loop.create_server(lambda: Connection(answers), "127.0.0.1", free_port)
    yield free_port
    server.close()
    await server.wait_closed()


async def test_throughput_counts_whole_answers(backend: int) -> None:
    assert await throughput(backend, PLAIN, connections=4, seconds=0.2) > 20
    assert await throughput(backend, events(20, 0), connections=4, seconds=0.2) > 2


async def test_latencies_keep_their_rate(backend: int) -> None:
    taken = await latencies(backend, PLAIN, rate=100, seconds=1)
    assert len(taken) == 50, "half a second of a hundred per second counts"
    assert 0 < percentile(taken, 0.5) < 0.1


async def test_gaps_show_the_pace_of_the_backend(backend: int) -> None:
    found = await gaps(backend, events(10, 20), streams=3, spread_s=0.01)
    assert 3 * 8 <= len(found) <= 3 * 11
    assert percentile(found, 0.5) == pytest.approx(0.02, abs=0.01)


async def test_held_streams_have_begun_and_are_open(backend: int) -> None:
    crowd = await hold_streams(backend, events(10, 1000), streams=20)
    assert not any(channel.transport.is_closing() for channel in crowd.channels)
    crowd.close()
    await asyncio.sleep(0.05)


async def test_an_error_answer_ends_the_measurement(backend: int) -> None:
    with pytest.raises(LoadError, match="404"):
        await throughput(backend, b"GET /nowhere HTTP/1.1\r\n\r\n", connections=1, seconds=5)


@pytest.mark.parametrize(
    ("name", "value", "slack", "ok"),
    [
        ("added_latency_p50", 0.5, "0", True),
        ("added_latency_p50", 0.51, "0", False),
        ("added_latency_p50", 0.51, "0.1", True),
        ("small_json_vs_nginx", 0.35, "0", True),
        ("small_json_vs_nginx", 0.30, "0", False),
        ("small_json_vs_nginx", 0.30, "0.34", True),
        ("crash_noticed_pidfd", 101, "0.5", False),
    ],
)
def test_a_bar_is_met_missed_or_met_with_slack(
    name: str, value: float, slack: str, ok: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HAL0_BENCH_SLACK", slack)
    row = judge(name, value)
    assert row.ok is ok
    assert row.bar == BARS[name].limit
    assert row.slack == (float(slack) if BARS[name].proxy else 0)


def test_what_has_no_bar_is_told_with_its_parts() -> None:
    row = told("cold_load_tts", {"create": 0.25, "start": 0.5, "load": 1.0, "ready": 0.1234}, "s")
    assert (row.value, row.ok, row.as_json()["parts"]["ready"]) == (1.873, True, 0.123)
    assert "cold_load_tts                       1.873         - s            create 0.250, start" in table([row])


def test_the_table_shows_what_slack_was_needed_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAL0_BENCH_SLACK", "0.5")
    shown = table([judge("added_latency_p50", 0.4), judge("added_latency_p99", 4), judge("memory_idle", 200, "idle")])
    assert "ok   added_latency_p50" in shown
    assert "~    added_latency_p99" in shown
    assert "within the slack of 50%" in shown
    assert "MISS memory_idle" in shown
