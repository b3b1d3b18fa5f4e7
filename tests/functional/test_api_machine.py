"""The machine through the operator API: images as jobs, models on disk, the demo model, what needs attention."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from hal0.engine.base import ImageInfo
from hal0.errors import Hal0Error
from hal0.models.demo import DEMO_MODEL_ID
from hal0.paths import Paths
from hal0.vocab import Phase
from hal0.wire.jobs import JobState
from tests.fakes.engine import Delays, FakeEngine, FlakyEngine
from tests.functional.operator_app import IMAGES, operator

PULLED = ImageInfo("a" * 64, (), (f"r.example/vulkan@{IMAGES['vulkan'].digest}",), 150_000_000)


def engine_with_registry(pull_s: float = 0.05) -> FakeEngine:
    engine = FakeEngine(delays=Delays(pull=pull_s))
    ref = IMAGES["vulkan"].pull_ref
    assert ref is not None
    engine.registry[ref] = PULLED
    return engine


async def test_images_are_listed_with_where_they_come_from(paths: Paths, port_block: range) -> None:
    async with operator(paths, port_block, engine=engine_with_registry()) as hal0:
        status, body = await hal0.call("GET", "/api/images")
        assert status == 200
        vulkan, rocm = body["items"]
        assert (vulkan["key"], vulkan["source"], vulkan["pullable"], vulkan["local_id"]) == (
            "vulkan",
            "pull",
            True,
            None,
        )
        assert (rocm["source"], rocm["pullable"], rocm["buildable"]) == ("none", False, False)


async def test_a_pull_is_a_job_and_its_image_is_announced(paths: Paths, port_block: range) -> None:
    async with operator(paths, port_block, engine=engine_with_registry()) as hal0:
        bus = hal0.services.bus
        status, job = await hal0.call("POST", "/api/images/vulkan/pull?wait=true")
        assert (status, job["kind"], job["target"], job["state"]) == (200, "image.pull", "vulkan", "done")
        assert job["progress"]["fraction"] == 1.0
        announced = [kept.event(0) for kept in bus._ring if kept.topic == "image"]
        assert [(event.id, (event.value or {})["local_id"]) for event in announced] == [("vulkan", PULLED.id)]
        status, image = await hal0.call("POST", "/api/images/vulkan/verify")
        assert (status, image["source"]) == (200, "local")


async def test_who_asks_again_gets_the_pull_under_way_and_may_end_it(paths: Paths, port_block: range) -> None:
    async with operator(paths, port_block, engine=engine_with_registry(pull_s=60)) as hal0:
        _, job = await hal0.call("POST", "/api/images/vulkan/pull")
        _, again = await hal0.call("POST", "/api/images/vulkan/pull", {"force": True})
        assert (again["id"], again["state"]) == (job["id"], "running")
        status, ended = await hal0.call("DELETE", f"/api/jobs/{job['id']}")
        assert (status, ended["state"]) == (200, "cancelled")
        _, anew = await hal0.call("POST", "/api/images/vulkan/pull")
        assert anew["id"] != job["id"]


async def test_only_images_that_nothing_starts_from_are_pruned(paths: Paths, port_block: range) -> None:
    engine = engine_with_registry()
    former, chosen = (f"r.example/vulkan@sha256:{letter * 64}" for letter in "ab")
    engine.images |= {"1" * 64: ImageInfo("1" * 64, (), (former,), 7), "2" * 64: ImageInfo("2" * 64, (), (chosen,), 7)}
    async with operator(paths, port_block, engine=engine, config={"profiles": {"old": {"image": chosen}}}) as hal0:
        status, body = await hal0.call("POST", "/api/images/prune")
        assert (status, body) == (200, {"removed": [{"id": "1" * 64, "size_bytes": 7}], "kept": []})


async def test_an_image_that_cannot_be_had_says_why(paths: Paths, port_block: range) -> None:
    engine = FlakyEngine()
    engine.fail("image_pull", ValueError("a bug"))
    async with operator(paths, port_block, engine=engine) as hal0:
        for verb in ("build", "pull", "verify"):
            status, body = await hal0.call("POST", f"/api/images/nothing/{verb}")
            assert (status, body["error"]["code"]) == (404, "image.not_found")
        status, body = await hal0.call("POST", "/api/images/vulkan/verify")
        assert (status, body["error"]["code"]) == (503, "image.missing")
        status, job = await hal0.call("POST", "/api/images/rocm/build?wait=true")
        assert (status, job["state"], job["error"]["code"]) == (200, "failed", "image.missing")
        status, job = await hal0.call("POST", "/api/images/vulkan/pull?wait=true")
        assert (job["state"], job["error"]["code"]) == ("failed", "system.internal")
        status, body = await hal0.call("POST", "/api/images/vulkan/pull", {"forced": True})
        assert (status, body["error"]["param"]) == (400, "forced")


async def test_a_pull_ends_with_hal0(paths: Paths, port_block: range) -> None:
    loop = asyncio.get_running_loop()
    async with operator(paths, port_block, engine=engine_with_registry(pull_s=600)) as hal0:
        _, job = await hal0.call("POST", "/api/images/vulkan/pull")
        began = loop.time()
    assert loop.time() - began < 5
    assert hal0.services.jobs.get(job["id"]).view.state is JobState.INTERRUPTED


async def test_the_demo_model_is_written_and_loaded_where_nothing_is_installed(paths: Paths, port_block: range) -> None:
    async with operator(paths, port_block, empty=True) as hal0:
        status, body = await hal0.call("POST", "/api/models/demo")
        assert (status, body) == (200, {"id": DEMO_MODEL_ID})
        await hal0.running.reaches(Phase.READY)
        _, slot = await hal0.call("GET", "/api/slots/primary")
        assert (slot["model"], slot["demo"]) == (DEMO_MODEL_ID, True)
        _, models = await hal0.call("GET", "/api/models")
        assert [(m["id"], m["demo"], m["slots"]) for m in models["items"]] == [(DEMO_MODEL_ID, True, ["primary"])]
        status, body = await hal0.call("POST", "/api/models/demo")
        assert (status, body["error"]["code"]) == (409, "model.exists")


async def test_where_models_are_installed_no_demo_is_written(paths: Paths, port_block: range) -> None:
    async with operator(paths, port_block) as hal0:
        status, body = await hal0.call("POST", "/api/models/demo")
        assert (status, body["error"]["code"]) == (409, "model.exists")
        assert not list(hal0.services.registry.store.glob("hal0-demo*"))


async def test_a_scan_finds_what_was_copied_in_and_what_is_broken(paths: Paths, port_block: range) -> None:
    async with operator(paths, port_block, empty=True) as hal0:
        store = hal0.services.registry.store
        await asyncio.to_thread(store.mkdir)
        (store / "broken.gguf").write_bytes(b"GGUF")
        assert (await hal0.call("GET", "/api/models"))[1]["problems"] == []
        status, body = await hal0.call("POST", "/api/models/scan")
        assert status == 200
        assert [problem["file"] for problem in body["problems"]] == [str(store / "broken.gguf")]
        _, status_view = await hal0.call("GET", "/api/status")
        assert any("broken.gguf" in line for line in status_view["attention"])


async def test_a_store_that_cannot_be_written_is_named(paths: Paths, port_block: range) -> None:
    async with operator(paths, port_block, empty=True) as hal0:
        store: Path = hal0.services.registry.store
        await asyncio.to_thread(store.write_text, "a file where the directory should be")
        status, body = await hal0.call("POST", "/api/models/demo")
        assert (status, body["error"]["code"]) == (507, "state.write_failed")
        assert str(store) in body["error"]["message"]


async def test_status_counts_slots_and_memory(paths: Paths, port_block: range) -> None:
    async with operator(paths, port_block) as hal0:
        await hal0.running.load()
        body: Any
        status, body = await hal0.call("GET", "/api/status")
        assert status == 200
        assert (body["slots"]["ready"], body["slots"]["offline"], body["slots"]["error"]) == (1, 4, 0)
        assert 0 < body["memory_available_bytes"] < body["memory_total_bytes"]
        assert body["attention"] == []
        assert body["socket"] == str(hal0.socket)


async def test_saved_files_that_are_not_in_force_fail_a_check_with_the_cure(paths: Paths, port_block: range) -> None:
    problem = Hal0Error("config.invalid", "cannot use the configuration: hal0.toml:3: bogus: unknown key")
    async with operator(
        paths, port_block, change=lambda services: replace(services, config_problem=lambda: problem)
    ) as hal0:
        _, health = await hal0.call("GET", "/api/health")
        (check,) = [check for check in health["checks"] if check["name"] == "configuration"]
        assert (health["status"], check["state"], check["fix"]) == ("degraded", "fail", problem.hint)
        assert "hal0.toml:3: bogus: unknown key" in check["message"]
        _, status = await hal0.call("GET", "/api/status")
        assert status["attention"] == [f"configuration: {check['message']}"]


async def test_a_silent_podman_is_what_needs_attention(paths: Paths, port_block: range) -> None:
    engine = FlakyEngine()
    engine.fail("containers", *[Hal0Error("engine.unreachable", "cannot reach podman")] * 100)
    async with operator(paths, port_block, engine=engine) as hal0:
        _, health = await hal0.call("GET", "/api/health")
        assert (health["status"], health["engine"]["reachable"]) == ("degraded", False)
        _, status = await hal0.call("GET", "/api/status")
        assert status["attention"] == ["podman: it does not answer"]
        assert (await hal0.call("GET", "/api/slots"))[0] == 200
