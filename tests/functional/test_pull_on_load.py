"""A load of a slot whose model is not here: an operator's fetches it, a request's only where that is allowed."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from hal0.capabilities.cards import RERANKER
from hal0.engine.manifest import images_root, read_manifest
from hal0.models import demo
from hal0.paths import Paths
from hal0.pulls import bringing
from hal0.vocab import Capability, Phase
from tests.fakes.hub import Hub, hub, status
from tests.functional.curating import Curate, file
from tests.functional.operator_app import Operator, operator
from tests.functional.pulling import FILE, GGUF, MODEL
from tests.unit.hardware import trees
from tests.vloop import until

MANIFEST = read_manifest(images_root())
Serve = Callable[..., Any]
ASK = {"model": "primary", "messages": [{"role": "user", "content": "x"}]}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hal0.pulls.pulls._TELL_S", 0.01)
    monkeypatch.setattr(bringing, "_TELL_S", 0.02)


@pytest.fixture
def served(paths: Paths, port_block: range, curate: Curate) -> Serve:
    """hal0 with one model and a catalog of another, which a hub has."""

    @asynccontextmanager
    async def serve(**options: Any) -> AsyncIterator[tuple[Operator, Hub]]:
        curate(MODEL, file(FILE, GGUF))
        models = options.pop("models", {})
        async with hub() as far:
            far.files[FILE] = GGUF
            config = {"models": {"hf_endpoint": far.endpoint, **models}}
            async with operator(paths, port_block, config=config, **options) as hal0:
                yield hal0, far

    return serve


async def _load(hal0: Operator, model: str | None = MODEL) -> dict[str, Any]:
    _, job = await hal0.call("POST", "/api/slots/primary/load?wait=true", {"model": model} if model else {})
    return dict(job)


async def _slot(hal0: Operator) -> dict[str, Any]:
    return dict((await hal0.call("GET", "/api/slots/primary"))[1])


async def test_an_operators_load_fetches_the_model_and_tells_how_far_it_is(served: Serve) -> None:
    async with served() as (hal0, far):
        far.held = True
        _, job = await hal0.call("POST", "/api/slots/primary/load", {"model": MODEL})
        seen, words = set(), []
        while (slot := await _slot(hal0))["state"] != "ready":
            seen.add((slot["state"], slot["message"].partition(": ")[0]))
            words.append(slot["message"])
            far.held = ("pulling", f"fetching {FILE}") not in seen
            await asyncio.sleep(0.01)

        assert ("pulling", f"fetching {FILE}") in seen
        assert any(said.endswith(", under its licence mit") for said in words)
        assert slot["model"] == MODEL
        _, ended = await hal0.call("GET", f"/api/jobs/{job['id']}?wait=true")
        assert ended["state"] == "done"
        pulled = [it for it in (await hal0.call("GET", "/api/jobs"))[1]["items"] if it["kind"] == "model.pull"]
        assert [(it["state"], it["target"]) for it in pulled] == [("done", MODEL)]


async def test_a_load_that_is_cancelled_pauses_its_download_and_the_next_goes_on(served: Serve) -> None:
    async with served() as (hal0, far):
        far.held = True
        _, job = await hal0.call("POST", "/api/slots/primary/load", {"model": MODEL})
        await until(lambda: bool(far.asked), within_s=20)
        await hal0.call("DELETE", f"/api/jobs/{job['id']}")
        await hal0.running.reaches(Phase.OFFLINE)
        await until(lambda: [it.state for it in hal0.services.pulls().views()] == ["paused"], within_s=20)
        assert (await _slot(hal0))["message"] == f"{MODEL} is not downloaded, 0.0 GB"

        far.held = False
        assert (await _load(hal0))["state"] == "done"
        assert (await hal0.call("GET", "/api/pulls"))[1]["items"] == []


async def test_a_download_that_somebody_began_is_joined_and_goes_on_without_the_load(served: Serve) -> None:
    async with served() as (hal0, far):
        far.held = True
        _, pull = await hal0.call("POST", "/api/pulls", {"model": MODEL})
        _, job = await hal0.call("POST", "/api/slots/primary/load", {"model": MODEL})
        await hal0.running.reaches(Phase.PULLING)
        await hal0.call("DELETE", f"/api/jobs/{job['id']}")
        await hal0.running.reaches(Phase.OFFLINE)
        far.held = False
        _, ended = await hal0.call("GET", f"/api/jobs/{pull['id']}?wait=true")
        assert ended["state"] == "done"


async def test_a_download_that_is_given_up_fails_the_load(served: Serve) -> None:
    async with served() as (hal0, far):
        far.held = True
        _, job = await hal0.call("POST", "/api/slots/primary/load", {"model": MODEL})
        await until(lambda: bool(far.asked), within_s=20)
        (pull,) = (await hal0.call("GET", "/api/pulls"))[1]["items"]
        await hal0.call("DELETE", f"/api/pulls/{pull['id']}")
        _, ended = await hal0.call("GET", f"/api/jobs/{job['id']}?wait=true")
        assert (ended["state"], ended["error"]["code"]) == ("failed", "model.not_downloaded")
        assert "its download was given up" in ended["error"]["message"]


async def test_what_its_publisher_does_not_give_is_said_and_not_tried_again(served: Serve) -> None:
    async with served() as (hal0, far):
        far.faults.append(status(401, X_Error_Code="GatedRepo"))
        error = (await _load(hal0))["error"]
        assert error["code"] == "pull.gated"
        assert "huggingface.co/acme/tiny" in error["message"]
        assert (await _slot(hal0))["failure"]["failure_class"] == "permanent"


async def test_nothing_is_fetched_that_can_never_fit(served: Serve, curate: Curate) -> None:
    async with served() as (hal0, far):
        curate(MODEL, file(FILE, GGUF, size_bytes=10**13))
        status_code, body = await hal0.call("POST", "/api/slots/primary/load", {"model": MODEL})
        assert (status_code, body["error"]["code"]) == (507, "slot.memory_budget")
        assert body["error"]["details"]["terms"][0]["name"] == "weights"
        assert far.asked == []


async def test_what_serves_is_not_given_up_for_what_has_yet_to_come(served: Serve) -> None:
    async with served() as (hal0, far):
        await hal0.running.load(model="one")
        for verb in ("swap", "load"):
            status_code, body = await hal0.call("POST", f"/api/slots/primary/{verb}", {"model": MODEL})
            assert (status_code, body["error"]["code"]) == (503, "model.not_downloaded")
            assert body["error"]["hint"] == f"hal0ctl pull {MODEL}"
        assert (await _slot(hal0))["state"] == "ready"
        assert far.asked == []


async def test_a_request_fetches_nothing_and_is_told_what_would(served: Serve) -> None:
    async with served() as (hal0, far):
        await hal0.call("POST", "/api/slots/primary/load", {"model": MODEL})
        await hal0.call("POST", "/api/slots/primary/unload?wait=true")
        far.asked.clear()
        status_code, body = await hal0.over_tcp("POST", "/v1/chat/completions", ASK)
        assert (status_code, body["error"]["code"]) == (503, "model.not_downloaded")
        assert f"{MODEL} is not downloaded, 0.0 GB" in body["error"]["message"]
        assert body["error"]["hint"] == "hal0ctl slot load primary"
        assert far.asked == []


async def test_a_request_fetches_it_where_the_operator_allows_that(served: Serve) -> None:
    async with served(models={"pull_on_request": True}) as (hal0, far):
        await hal0.running.supervisor.apply(hal0.services.config())
        far.held = True
        await hal0.call("POST", "/api/slots/primary/load", {"model": MODEL})
        await until(lambda: bool(far.asked), within_s=20)
        await hal0.call("POST", "/api/slots/primary/unload?wait=true")
        (paused,) = (await hal0.call("GET", "/api/pulls"))[1]["items"]
        far.held = False
        status_code, body = await hal0.over_tcp("POST", "/v1/chat/completions", {**ASK, "max_tokens": 1})
        assert (status_code, body["error"]["code"]) == (502, "upstream.unreachable")  # of an engine that is but a fake
        assert (await _slot(hal0))["state"] in ("ready", "serving")
        _, pull = await hal0.call("GET", f"/api/jobs/{paused['id']}")
        assert pull["state"] == "done"


async def test_the_first_enable_of_rerank_needs_no_file(paths: Paths, port_block: range, curate: Curate) -> None:
    data = await asyncio.to_thread(demo.build)
    curate(RERANKER, file("bge.gguf", data), capabilities=frozenset({Capability.RERANK}))
    async with hub() as far:
        far.files["bge.gguf"] = data
        config = {"models": {"hf_endpoint": far.endpoint}}
        async with operator(paths, port_block, config=config, images=MANIFEST) as hal0:
            await asyncio.to_thread(trees.cpu_only_vm, paths.state_dir / "machine")
            _, plan = await hal0.call("POST", "/api/capabilities/embed/rerank/plan")
            assert f"fetch {RERANKER} (0.0 GB), which is not here, under its licence mit" in plan["steps"]
            _, job = await hal0.call("POST", "/api/capabilities/embed/rerank?wait=true", {})
            assert job["state"] == "done", job
            assert hal0.running.phase("embed-rerank") is Phase.READY
            assert hal0.services.registry.get(RERANKER) is not None
