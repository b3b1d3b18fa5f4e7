"""Would it fit, over the API: what is here, what the catalog knows, what only the hub knows, and what nobody knows."""

import asyncio
import errno
from pathlib import Path
from typing import Any

import pytest

from hal0.models import demo
from hal0.models.absent import Absent
from hal0.models.entry import entry_of
from hal0.models.gguf import read
from hal0.models.records import ModelRecord
from hal0.paths import Paths
from hal0.vocab import ModelId
from tests.fakes.hub import hub
from tests.functional.curating import Curate, file
from tests.functional.operator_app import Operator, operator
from tests.functional.pulling import FILE, GGUF, MODEL
from tests.vloop import until


async def _fit(hal0: Operator, model: str, **asked: Any) -> dict[str, Any]:
    status, view = await hal0.call("GET", "/api/models/fit", params={"model": model, **asked})
    assert status == 200, view
    assert sum(term["bytes"] for term in view["terms"]) == view["need_bytes"]
    return dict(view)


@pytest.fixture
def cache_bytes(tmp_path: Path) -> int:
    """Of the demonstration model, per token."""
    demo.write(tmp_path / "d.gguf")
    found = entry_of(read(tmp_path / "d.gguf"), ModelId("d"), created=0).cache_bytes_per_token
    assert found
    return found


async def test_a_model_that_is_here(paths: Paths, port_block: range, cache_bytes: int) -> None:
    async with operator(paths, port_block) as hal0:
        view = await _fit(hal0, "one", context="256")
        assert (view["verdict"], view["message"], view["installed"]) == ("fits", "fits now", True)
        assert (view["slot"], view["context"], view["pool"], view["guess"]) == ("primary", 256, "RAM", False)
        terms = {term["name"]: term["bytes"] for term in view["terms"]}
        assert terms["weights"] == int(len(GGUF) * 1.02)
        assert terms["context of 256 tokens"] == 256 * cache_bytes
        assert view["need_bytes"] < view["free_bytes"] <= view["total_bytes"]
        assert (await _fit(hal0, "one"))["context"] > 256


async def test_one_of_the_catalog_is_weighed_without_the_hub(paths: Paths, port_block: range, curate: Curate) -> None:
    curate("big", file("big.gguf", GGUF, size_bytes=10**13), cache_bytes_per_token=1000, context_length=1024)
    async with operator(paths, port_block) as hal0:
        view = await _fit(hal0, "big")
        assert (view["verdict"], view["installed"], view["size_bytes"]) == ("too_large", False, 10**13)
        assert view["message"].startswith("too large by 101")
        assert view["short_bytes"] == view["pool_need_bytes"] - view["free_bytes"]
        assert {term["name"]: term["bytes"] for term in view["terms"]}["context of 1024 tokens"] == 1024 * 1000


async def test_one_of_the_hub_is_weighed_by_its_list_and_its_head(
    paths: Paths, port_block: range, cache_bytes: int
) -> None:
    async with hub() as far, operator(paths, port_block, config={"models": {"hf_endpoint": far.endpoint}}) as hal0:
        far.files[FILE] = GGUF
        view = await _fit(hal0, "acme/tiny:Q4_K_M", context="128")
        assert (view["model"], view["size_bytes"], view["installed"], view["guess"]) == (MODEL, len(GGUF), False, False)
        terms = {term["name"]: term["bytes"] for term in view["terms"]}
        assert terms["context of 128 tokens"] == 128 * cache_bytes
        far.files["odd-Q4_K_M.gguf"] = b"GGUF, and nothing that could be read"
        view = await _fit(hal0, "acme/tiny/odd-Q4_K_M.gguf")
        assert (view["verdict"], view["guess"]) == ("fits", True)
        assert await hal0.call("GET", "/api/pulls") == (200, {"items": []})

        # What came from there is not asked for again.
        registry = hal0.services.registry
        await asyncio.to_thread((registry.store / FILE).write_bytes, GGUF)
        record = ModelRecord(id=ModelId(MODEL), files=(FILE,), source={"repo": "acme/tiny"})
        await asyncio.to_thread(registry.remember, record)
        far.files.clear()
        assert (await _fit(hal0, "acme/tiny:Q4_K_M"))["installed"]


async def test_a_head_that_cannot_be_kept_and_a_size_that_no_file_has_are_said(
    paths: Paths, port_block: range, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with hub() as far, operator(paths, port_block, config={"models": {"hf_endpoint": far.endpoint}}) as hal0:
        far.files[FILE] = GGUF
        with monkeypatch.context() as patched:
            patched.setattr("hal0.pulls.weighing.os.truncate", full)
            status, body = await hal0.call("GET", "/api/models/fit", params={"model": "acme/tiny"})
        assert (status, body["error"]["code"]) == (507, "state.write_failed")
        for size in (-5, 1 << 63):
            far.sizes[FILE] = size
            status, body = await hal0.call("GET", "/api/models/fit", params={"model": "acme/tiny"})
            assert (status, body["error"]["code"]) == (404, "model.not_found")


async def test_few_heads_are_held_at_once(paths: Paths, port_block: range, monkeypatch: pytest.MonkeyPatch) -> None:
    held, most, go_on = 0, 0, asyncio.Event()

    async def slow(*_args: object) -> Absent:
        nonlocal held, most
        held, most = held + 1, max(most, held + 1)
        await go_on.wait()
        held -= 1
        return Absent(id=ModelId(MODEL), size_bytes=1000)

    monkeypatch.setattr("hal0.pulls.weighing.weighed", slow)
    async with hub() as far, operator(paths, port_block, config={"models": {"hf_endpoint": far.endpoint}}) as hal0:
        far.files[FILE] = GGUF
        asked = [asyncio.create_task(_fit(hal0, "acme/tiny")) for _ in range(12)]
        await until(lambda: held == 4, within_s=10)
        go_on.set()
        await asyncio.gather(*asked)
        assert most == 4


async def test_what_would_have_to_leave_is_named(paths: Paths, port_block: range, curate: Curate) -> None:
    async with operator(paths, port_block) as hal0:
        await hal0.running.load()
        total = (await _fit(hal0, "one"))["total_bytes"]
        curate("big", file("big.gguf", GGUF, size_bytes=int(total / 1.02 - 2**29)), cache_bytes_per_token=1)
        view = await _fit(hal0, "big", slot="embed", context="128")
        assert (view["verdict"], view["slots"]) == ("if_unloaded", ["primary"])
        assert view["message"] == "fits if primary is unloaded, which its load does by itself"
        assert (await _fit(hal0, "big", context="128"))["verdict"] == "fits"  # its own slot's container leaves first


async def test_what_cannot_be_told_is_said(paths: Paths, port_block: range) -> None:
    async with operator(paths, port_block) as hal0:
        for query, code in (
            ({}, "request.missing_model"),
            ({"model": "one", "context": "many"}, "request.invalid"),
            ({"model": "one", "context": "1"}, "request.invalid"),
            ({"model": "one", "slot": "nope"}, "slot.not_found"),
            ({"model": "one", "parallel": "0"}, "request.invalid"),
            ({"model": "one", "with": "primary"}, "request.invalid"),
            ({"model": "one", "with": "nope"}, "slot.not_found"),
            ({"model": "one", "with": "embed"}, "slot.no_model"),
            ({"model": "nothing-i-know"}, "model.not_found"),
            ({"model": "/etc/passwd"}, "request.invalid"),
            ({"model": "http://127.0.0.1:1/m.gguf"}, "request.invalid"),
        ):
            _, body = await hal0.call("GET", "/api/models/fit", params=query)
            assert body["error"]["code"] == code, query


async def test_slots_that_are_to_be_loaded_besides_make_no_room(
    paths: Paths, port_block: range, curate: Curate
) -> None:
    async with operator(paths, port_block) as hal0:
        alone = await _fit(hal0, "one", parallel="4", context="4096", slot="embed")
        assert (alone["parallel"], alone["context"], alone["beside"]) == (4, 4096, [])
        room = alone["free_bytes"]
        curate("big", file("big.gguf", GGUF, size_bytes=int(room / 1.02 - 2**29)), cache_bytes_per_token=1)
        assert (await _fit(hal0, "big", slot="embed", context="128"))["verdict"] == "fits"
        beside = await _fit(hal0, "big", slot="embed", context="128", **{"with": "primary"})  # not loaded yet
        assert (beside["verdict"], beside["beside"]) == ("too_large", ["primary"])
        assert beside["message"].endswith(" GB beside primary")
        await hal0.running.load()
        assert (await _fit(hal0, "big", slot="embed", context="128"))["verdict"] == "if_unloaded"
        beside = await _fit(hal0, "big", slot="embed", context="128", **{"with": "primary"})
        assert beside["verdict"] == "too_large"


# ---- the quantisations of one model ----


async def _quants(hal0: Operator, model: str, **asked: str) -> tuple[int, dict[str, Any]]:
    return await hal0.call("GET", "/api/catalog/quants", params={"model": model, **asked})


async def test_each_quantisation_is_weighed_with_what_is_known_of_the_model(
    paths: Paths, port_block: range, cache_bytes: int
) -> None:
    async with hub() as far, operator(paths, port_block, config={"models": {"hf_endpoint": far.endpoint}}) as hal0:
        far.files = {FILE: GGUF, "tiny-Q8_0.gguf": GGUF, "tiny-BF16.gguf": GGUF}
        far.sizes["tiny-BF16.gguf"] = 10**13
        await hal0.call("POST", "/api/pulls?wait=true", {"model": "acme/tiny:Q4_K_M"})
        for name in (MODEL, "acme/tiny"):  # one that is here, and its repository
            status, view = await _quants(hal0, name, context="256")
            assert (status, view["repo"], view["slot"], view["context"], view["guess"]) == (
                200, "acme/tiny", "primary", 256, False,
            )  # fmt: skip
            assert [(it["model"], it["quantisation"], it["installed"], it["verdict"]) for it in view["items"]] == [
                (MODEL, "Q4_K_M", True, "fits"), ("tiny-q8_0", "Q8_0", False, "fits"),
                ("tiny-bf16", "BF16", False, "too_large"),
            ]  # fmt: skip
            q8 = view["items"][1]
            assert q8["digests"] == {"tiny-Q8_0.gguf": demo.DIGEST}
            assert q8["need_bytes"] == (await _fit(hal0, MODEL, context="256"))["need_bytes"]
        assert (await hal0.call("GET", f"/api/models/{MODEL}"))[1]["parts"] == [
            {"file": str(hal0.services.registry.store / FILE), "size_bytes": len(GGUF), "sha256": demo.DIGEST}
        ]


async def test_where_nothing_else_is_known_of_a_model_that_is_said(paths: Paths, port_block: range) -> None:
    async with operator(paths, port_block) as hal0:
        for name, code in (
            ("one", "model.not_found"),
            ("/etc/passwd", "request.invalid"),
            ("", "request.missing_model"),
        ):
            assert (await _quants(hal0, name))[1]["error"]["code"] == code
