"""Models and downloads over the operator API: shown, named, bound, deleted, pulled."""

import asyncio
import os
from pathlib import Path

from hal0.models import demo
from hal0.paths import Paths
from hal0.vocab import Phase
from tests.fakes.hub import Cut, hub
from tests.functional.operator_app import operator
from tests.unit.hardware import trees

FILE = "tiny-Q4_K_M.gguf"


async def test_a_model_is_pulled_listed_and_deleted(paths: Paths, port_block: range) -> None:
    async with hub() as far, operator(paths, port_block, config={"models": {"hf_endpoint": far.endpoint}}) as hal0:
        far.files[FILE] = demo.build()
        status, job = await hal0.call("POST", "/api/pulls?wait=true", {"model": "acme/tiny"})

        assert (status, job["kind"], job["state"], job["target"]) == (200, "model.pull", "done", "tiny-q4_k_m")
        _, entry = await hal0.call("GET", "/api/models/tiny-q4_k_m")
        assert (entry["license"], entry["source"]["repo"], entry["removable"]) == ("apache-2.0", "acme/tiny", True)
        assert entry["sha256"] == demo.DIGEST
        kv = entry["kv"]
        assert sum(kv["heads"]) * (kv["key_length"] + kv["value_length"]) * 2 == entry["cache_bytes_per_token"] > 0
        assert {"host", "repo", "file", "revision", "etag"} <= entry["source"].keys()
        _, pulls = await hal0.call("GET", "/api/pulls")
        assert pulls == {"items": []}

        status, gone = await hal0.call("DELETE", "/api/models/tiny-q4_k_m")
        assert (status, gone["freed_bytes"]) == (200, len(far.files[FILE]))
        assert (await hal0.call("GET", "/api/models/tiny-q4_k_m"))[0] == 404
        assert not await asyncio.to_thread(Path(entry["file"]).exists)


async def test_a_pull_is_paused_shown_resumed_and_given_up(paths: Paths, port_block: range) -> None:
    async with hub() as far, operator(paths, port_block, config={"models": {"hf_endpoint": far.endpoint}}) as hal0:
        far.files[FILE], far.held = demo.build(), True
        _, job = await hal0.call("POST", "/api/pulls", {"model": "acme/tiny"})
        path = f"/api/pulls/{job['id']}"

        status, paused = await hal0.call("POST", f"{path}/pause")
        assert (status, paused["state"], paused["pace"]["total_bytes"]) == (200, "paused", len(far.files[FILE]))
        assert (await hal0.call("POST", f"{path}/resume"))[0] == 202
        _, shown = await hal0.call("GET", path)
        assert shown["state"] in ("queued", "running")

        status, given_up = await hal0.call("DELETE", path)
        assert (status, given_up["state"]) == (200, "cancelled")
        status, body = await hal0.call("GET", path)
        assert (status, body["error"]["code"]) == (404, "pull.not_found")


async def test_a_pull_is_given_up_as_every_job_is(paths: Paths, port_block: range) -> None:
    async with hub() as far, operator(paths, port_block, config={"models": {"hf_endpoint": far.endpoint}}) as hal0:
        far.files[FILE], far.held = demo.build(), True
        far.faults.append(Cut(0))
        _, job = await hal0.call("POST", "/api/pulls", {"model": "acme/tiny"})

        _, ended = await hal0.call("DELETE", f"/api/jobs/{job['id']}")

        assert ended["state"] == "cancelled"


async def test_what_cannot_be_pulled_is_said_at_once(paths: Paths, port_block: range) -> None:
    async with hub() as far, operator(paths, port_block, config={"models": {"hf_endpoint": far.endpoint}}) as hal0:
        for model, expected in (
            ("nothing-i-know", "model.not_found"),
            ("acme/absent", "model.not_found"),
            ("ftp://x/y.gguf", "request.invalid"),
            ("a/b/../../c.gguf", "request.invalid"),
            ("/no/such.gguf", "model.not_found"),
        ):
            _, body = await hal0.call("POST", "/api/pulls", {"model": model})
            assert body["error"]["code"] == expected, model


async def test_a_loaded_model_is_not_deleted(paths: Paths, port_block: range) -> None:
    async with operator(paths, port_block) as hal0:
        await hal0.running.load()
        status, body = await hal0.call("DELETE", "/api/models/one")

        assert (status, body["error"]["code"]) == (409, "model.in_use")
        assert body["error"]["details"]["slots"] == ["primary"]
        await hal0.call("POST", "/api/slots/primary/unload?wait=true")
        await hal0.running.reaches(Phase.OFFLINE)
        assert (await hal0.call("DELETE", "/api/models/one"))[0] == 200


async def test_a_models_defaults_count_where_nobody_else_says_it(paths: Paths, port_block: range) -> None:
    async with operator(paths, port_block) as hal0:
        slot = hal0.running.supervisor.slot("primary")
        wanted = {"context_size": 512, "extra_args": ["--mlock"], "request_defaults": {"top_k": 7}}
        status, entry = await hal0.call("PATCH", "/api/models/one", {"defaults": wanted})
        assert (status, entry["defaults"]) == (200, wanted)
        assert slot.snapshot().request_defaults == {"top_k": 7}
        _, view = await hal0.call("GET", "/api/slots/primary/resolved")
        fields = {it["name"]: (it["value"], it["origin"]) for it in view["fields"]}
        assert (fields["context_size"], fields["parallel"]) == ((512, "model"), (None, "default"))
        assert {it["name"]: it["origin"] for it in view["flags"]}["mlock"] == "model"
        assert [(it["name"], it["value"], it["origin"]) for it in view["request_defaults"]] == [("top_k", 7, "model")]
        _, fit = await hal0.call("GET", "/api/models/fit", params={"model": "one", "slot": "embed"})
        assert fit["context"] == 512

        await hal0.running.load()
        [container] = hal0.engine.all
        assert container.spec.argv[-1] == "--mlock"
        _, entry = await hal0.call("PATCH", "/api/models/one", {"defaults": {"extra_args": None, "parallel": 2}})
        assert entry["defaults"] == {"context_size": 512, "parallel": 2, "request_defaults": {"top_k": 7}}

        for body, code in (
            ({"defaults": {"extra_args": ["--host", "::"]}}, "config.invalid"),
            ({"defaults": {"device": "cpu"}}, "config.invalid"),
            ({"default": {}}, "request.invalid"),
        ):
            status, answer = await hal0.call("PATCH", "/api/models/one", body)
            assert (400 <= status < 500, answer["error"]["code"]) == (True, code), body
        assert (await hal0.call("GET", "/api/models/one"))[1]["defaults"] == entry["defaults"]


async def test_no_path_of_hal0_hides_a_model_that_is_called_so(paths: Paths, port_block: range) -> None:
    async with operator(paths, port_block) as hal0:
        registry = hal0.services.registry
        names = ("alias", "bind", "demo", "fit", "scan", "search", "usage")
        for name in names:
            await asyncio.to_thread((registry.store / f"{name}.gguf").write_bytes, demo.build())
        await asyncio.to_thread(registry.scan)
        for name in names:
            assert (await hal0.call("GET", f"/api/models/{name}"))[1]["id"] == name
            assert (await hal0.call("DELETE", f"/api/models/{name}"))[0] == 200
        assert (await hal0.call("GET", "/api/models/fit"))[1]["error"]["code"] == "request.missing_model"


async def test_another_name_and_who_answers(paths: Paths, port_block: range) -> None:
    async with operator(paths, port_block) as hal0:
        _, models = await hal0.call("POST", "/api/models/alias", {"alias": "fast", "model": "one"})
        assert [it["aliases"] for it in models["items"] if it["id"] == "one"] == [["fast"]]
        assert (await hal0.call("GET", "/api/models/fast"))[1]["id"] == "one"
        _, models = await hal0.call("POST", "/api/models/bind", {"model": "far", "slot": "primary"})
        assert models["bindings"] == [{"id": "far", "slot": "primary", "upstream": None, "model": None}]
        assert (await hal0.call("POST", "/api/models/bind", {"model": "far"}))[1]["bindings"] == []

        for body, code in (
            ({"model": "far", "slot": "nope"}, "slot.not_found"),
            ({"model": "far", "upstream": "nope"}, "upstream.not_found"),
            ({"model": "far", "slot": "primary", "upstream": "x"}, "request.invalid"),
        ):
            assert (await hal0.call("POST", "/api/models/bind", body))[1]["error"]["code"] == code


async def test_the_catalog_says_what_this_machine_should_have_and_has(paths: Paths, port_block: range) -> None:
    async with operator(paths, port_block) as hal0:
        await asyncio.to_thread(trees.cpu_only_vm, paths.state_dir / "machine")
        _, shown = await hal0.call("GET", "/api/catalog")
        by_id = {it["id"]: it for it in shown["items"]}
        assert not any(it["installed"] for it in by_id.values())
        assert {"stt", "tts"} <= {slot for it in by_id.values() for slot in it["slots"]}
        small = by_id["qwen3-0.6b-q8_0"]
        assert (small["fits"], small["license"], small["files"][0]["size_bytes"]) == (True, "apache-2.0", 639_446_688)
        assert small["memory_bytes"] <= shown["memory_bytes"]
        assert shown["hub"] == "https://huggingface.co"

        models = hal0.services.registry.store
        await asyncio.to_thread((models / "Qwen3-0.6B-Q8_0.gguf").write_bytes, demo.build())
        await hal0.call("POST", "/api/models/scan")
        _, shown = await hal0.call("GET", "/api/catalog")
        assert [it["id"] for it in shown["items"] if it["installed"]] == ["qwen3-0.6b-q8_0"]


async def test_a_file_whose_name_is_no_text_is_said_and_hides_no_other(paths: Paths, port_block: range) -> None:
    """A name in Latin-1, as old archives leave them, cannot be told to podman or to a client."""
    async with operator(paths, port_block) as hal0:
        store = paths.state_dir / "models"
        await asyncio.to_thread(lambda: (store / os.fsdecode(b"caf\xe9.gguf")).write_bytes(demo.build()))
        asked: tuple[tuple[str, str, dict[str, str] | None], ...] = (
            *(("POST", "/api/models/scan", {}), ("GET", "/api/models", None), ("GET", "/v1/models", None)),
            *(("GET", "/api/disk", None), ("GET", "/api/status", None)),
            ("POST", "/api/pulls/look", {"path": str(store)}),
        )
        for method, path, body in asked:
            assert (await hal0.call(method, path, body))[0] == 200, path
        _, found = await hal0.call("GET", "/api/models")
        assert {"one", "two"} <= {entry["id"] for entry in found["items"]}
        (said,) = [problem["message"] for problem in found["problems"]]
        assert said == f"cannot use {store}/caf?.gguf: its name is not UTF-8; rename it"
