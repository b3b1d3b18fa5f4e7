"""The operator's verbs over the Unix socket, on a real supervisor: what is answered, and when."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from hal0.paths import Paths
from hal0.vocab import Phase
from tests.fakes.engine import FakeEngine, StalledEngine
from tests.fakes.program import Program
from tests.fakes.slots import settled
from tests.functional.operator_app import Operator, operator


@pytest.fixture
async def hal0(paths: Paths, port_block: range) -> AsyncIterator[Operator]:
    async with operator(paths, port_block) as served:
        yield served


async def test_the_slots_are_listed_with_the_built_in_ones(hal0: Operator) -> None:
    status, body = await hal0.call("GET", "/api/slots")
    assert status == 200
    assert [slot["name"] for slot in body["items"]] == ["primary", "embed", "stt", "tts", "img"]
    assert (await hal0.call("GET", "/api/slots/primary")) == (200, body["items"][0])


async def test_an_unknown_slot_is_404_with_the_nearest_name(hal0: Operator) -> None:
    for method, path in (("GET", ""), ("POST", "/load"), ("POST", "/reset"), ("GET", "/logs"), ("GET", "/failure")):
        status, body = await hal0.call(method, f"/api/slots/primery{path}")
        assert (status, body["error"]["code"]) == (404, "slot.not_found")
        assert body["error"]["details"]["did_you_mean"] == "primary"


async def test_a_load_is_answered_at_once_and_can_be_followed(hal0: Operator) -> None:
    status, job = await hal0.call("POST", "/api/slots/primary/load")
    assert (status, job["kind"], job["state"]) == (202, "load", "running")
    status, ended = await hal0.call("GET", f"/api/jobs/{job['id']}?wait=true&timeout_s=30")
    assert (status, ended["state"]) == (200, "done")
    assert [j["id"] for j in (await hal0.call("GET", "/api/jobs"))[1]["items"]] == [job["id"]]
    _, slot = await hal0.call("GET", "/api/slots/primary")
    assert (slot["state"], slot["model"]) == ("ready", "one")


async def test_a_caller_that_waits_gets_the_ended_job(hal0: Operator) -> None:
    status, job = await hal0.call("POST", "/api/slots/primary/load?wait=true", {"model": "two"})
    assert (status, job["state"]) == (200, "done")
    status, job = await hal0.call("POST", "/api/slots/primary/swap?wait=true", {"model": "one"})
    assert (status, job["kind"], job["state"]) == (200, "swap", "done")
    status, job = await hal0.call("POST", "/api/slots/primary/restart?wait=true", {"model": "two"})
    assert (status, job["kind"], job["state"]) == (200, "swap", "done")
    status, job = await hal0.call("POST", "/api/slots/primary/restart?wait=true")
    assert (status, job["kind"], job["state"]) == (200, "restart", "done")
    status, job = await hal0.call("POST", "/api/slots/primary/unload?wait=true")
    assert (status, job["kind"], job["state"]) == (200, "unload", "done")
    assert hal0.running.phase() is Phase.OFFLINE


async def test_a_caller_whose_patience_ends_first_gets_the_running_job(paths: Paths, port_block: range) -> None:
    engine = StalledEngine()
    engine.stall("create")
    async with operator(paths, port_block, engine=engine) as hal0:
        status, job = await hal0.call("POST", "/api/slots/primary/load?wait=true&timeout_s=0.05")
        assert (status, job["state"]) == (202, "running")
        with pytest.raises(TimeoutError):
            await hal0.call(
                "POST", "/api/slots/primary/load?wait=true", timeout=aiohttp.ClientTimeout(total=0.1)
            )  # leaves
        engine.release()
        assert (await hal0.call("GET", f"/api/jobs/{job['id']}?wait=true"))[1]["state"] == "done"


async def test_a_slot_shows_how_many_requests_wait_at_its_gate(paths: Paths, port_block: range) -> None:
    engine = StalledEngine()
    engine.stall("create")
    async with operator(paths, port_block, engine=engine) as hal0:
        body = {"model": "primary", "messages": []}
        asking = [asyncio.create_task(hal0.over_tcp("POST", "/v1/chat/completions", body)) for _ in range(3)]

        await settled(lambda: hal0.running.supervisor.slot("primary").view().queued == 3)
        assert (await hal0.call("GET", "/api/slots/primary"))[1]["queued"] == 3
        asking[0].cancel()
        await settled(lambda: hal0.running.supervisor.slot("primary").view().queued == 2)
        for one in asking:
            one.cancel()
        engine.release()


async def test_a_load_can_be_given_up(paths: Paths, port_block: range) -> None:
    engine = StalledEngine()
    engine.stall("create")
    async with operator(paths, port_block, engine=engine) as hal0:
        _, job = await hal0.call("POST", "/api/slots/primary/load")
        assert (await hal0.call("DELETE", f"/api/jobs/{job['id']}"))[0] == 200
        engine.release()
        status, ended = await hal0.call("GET", f"/api/jobs/{job['id']}?wait=true")
        assert (status, ended["state"]) == (200, "cancelled")
        assert (await hal0.call("DELETE", f"/api/jobs/{job['id']}")) == (200, ended)


async def test_a_failed_load_shows_why_and_can_be_reset(paths: Paths, port_block: range) -> None:
    engine = FakeEngine()
    engine.program = Program(dies_after_s=0.02, ready_after_s=None, last_words=("cannot load model: bad magic",))
    async with operator(paths, port_block, engine=engine) as hal0:
        status, body = await hal0.call("GET", "/api/slots/primary/failure")
        assert (status, body["error"]["code"]) == (404, "request.not_found")
        status, body = await hal0.call("POST", "/api/slots/primary/reset")
        assert (status, body["error"]["code"]) == (409, "slot.illegal_transition")
        status, job = await hal0.call("POST", "/api/slots/primary/load?wait=true")
        assert (status, job["state"], job["error"]["code"]) == (200, "failed", "slot.load_failed")
        status, failure = await hal0.call("GET", "/api/slots/primary/failure")
        assert (status, failure["code"], failure["failure_class"]) == (200, "slot.load_failed", "permanent")
        assert (await hal0.call("GET", "/api/health"))[1]["status"] == "degraded"
        status, body = await hal0.call("GET", "/api/slots/primary/logs")
        assert (status, [line["text"] for line in body["items"]]) == (200, failure["log_tail"])
        async with hal0.api.get("/api/slots/primary/logs?follow=true&tail=1") as response:
            assert (await response.text()).count("data: ") == 1
        engine.program = Program()
        status, job = await hal0.call("POST", "/api/slots/primary/reset?wait=true")
        assert (status, job["kind"], job["state"]) == (200, "load", "done")
        assert (await hal0.call("GET", "/api/health"))[1]["status"] == "ok"


@pytest.mark.parametrize(
    ("path", "body", "code", "param"),
    [
        ("load", b"{", "request.invalid_json", None),
        ("load", b"[]", "request.invalid", None),
        ("load", b'"one"', "request.invalid", None),
        ("load", b'{"modle": "one"}', "request.invalid", "modle"),
        ("load", b'{"model": 1}', "request.invalid", "model"),
        ("load", b'{"model": "nowhere"}', "model.not_found", "model"),
        ("swap", b"", "request.invalid", "model"),
        ("swap", b"{}", "request.invalid", "model"),
        ("swap", b'{"model": "one", "force": true}', "request.invalid", "force"),
        ("unload", b'{"drain_s": -5}', "request.invalid", "drain_s"),
        ("reset", b'{"now": true}', "request.invalid", "now"),
        ("load?wait=perhaps", b"", "request.invalid", "wait"),
        ("load?wait=true&timeout_s=nan", b"", "request.invalid", "timeout_s"),
        ("load?wait=true&timeout_s=-1", b"", "request.invalid", "timeout_s"),
        ("load?wait=true&timeout_s=1e9", b"", "request.invalid", "timeout_s"),
    ],
)
async def test_a_bad_request_is_refused_naming_the_member_and_changes_nothing(
    hal0: Operator, path: str, body: bytes, code: str, param: str | None
) -> None:
    status, answer = await hal0.call("POST", f"/api/slots/primary/{path}", data=body)
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (
        404 if code == "model.not_found" else 400,
        code,
        param,
    )
    assert answer["error"]["message"].startswith("cannot ")
    assert (await hal0.call("GET", "/api/jobs"))[1]["items"] == []
    assert hal0.running.phase() is Phase.OFFLINE


async def test_a_body_that_is_too_large_or_compressed_is_refused(hal0: Operator) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 32768

    for data in (b" " * 300_000, pieces()):
        status, body = await hal0.call("POST", "/api/slots/primary/load", data=data)
        assert (status, body["error"]["code"]) == (413, "request.too_large")
    status, body = await hal0.call(
        "POST", "/api/slots/primary/load", data=b"{}", headers={"Content-Encoding": "gzip"}, compress=False
    )
    assert (status, body["error"]["code"]) == (415, "request.encoding")


async def test_a_slot_without_a_model_says_so(hal0: Operator) -> None:
    status, body = await hal0.call("POST", "/api/slots/embed/load")
    assert (status, body["error"]["code"]) == (409, "slot.no_model")


async def test_logs_are_read_and_followed_to_the_end_of_the_container(hal0: Operator) -> None:
    status, body = await hal0.call("GET", "/api/slots/primary/logs")
    assert (status, body["error"]["code"]) == (503, "slot.offline")
    await hal0.running.load()
    status, body = await hal0.call("GET", "/api/slots/primary/logs?tail=1")
    assert (status, [line["text"] for line in body["items"]]) == (200, ["loading model"])
    assert (await hal0.call("GET", "/api/slots/primary/logs?tail=0"))[1]["items"] == []
    async with hal0.api.get("/api/slots/primary/logs?follow=true") as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        assert b'"text":"loading model"' in await response.content.readuntil(b"\n\n")
        await hal0.call("POST", "/api/slots/primary/unload?wait=true")
        assert await asyncio.wait_for(response.content.read(), 5) == b""


async def test_a_follower_does_not_delay_the_end_of_hal0(paths: Paths, port_block: range) -> None:
    loop = asyncio.get_running_loop()
    connector = aiohttp.UnixConnector(str(paths.run_dir / "hal0.sock"))
    async with aiohttp.ClientSession("http://hal0", connector=connector) as patient:  # it stays longer than hal0
        async with operator(paths, port_block) as hal0:
            await hal0.running.load()
            response = await patient.get("/api/slots/primary/logs?follow=true")
            await response.content.readuntil(b"\n\n")
            began = loop.time()
        assert loop.time() - began < 4  # the grace time is 5 s
        response.close()
