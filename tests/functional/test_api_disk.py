"""What models take on disk, whether they are still what came, and where others are: over the operator API."""

import asyncio
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from hal0.api.usage import last_uses
from hal0.capabilities import prober
from hal0.hardware import disk
from hal0.models import demo
from hal0.models.published import digests
from hal0.models.registry import Registry
from hal0.paths import Paths
from hal0.pulls import verifying
from hal0.slots.logbook import Logbook
from hal0.slots.record import HISTORY, Load
from tests.fakes.hub import hub, status
from tests.functional.curating import Curate, file
from tests.functional.operator_app import Operator, operator
from tests.functional.pulling import FILE, GGUF, MODEL
from tests.unit.hardware import trees


async def _verified(hal0: Operator, model: str) -> dict[str, Any]:
    _, job = await hal0.call("POST", f"/api/models/{model}/verify?wait=true", {})
    return dict(job)


# ---- still what came ----


async def test_a_model_is_read_again_and_held_against_what_came(paths: Paths, port_block: range) -> None:
    async with hub() as far, operator(paths, port_block, config={"models": {"hf_endpoint": far.endpoint}}) as hal0:
        far.files[FILE] = GGUF
        await hal0.call("POST", "/api/pulls?wait=true", {"model": "acme/tiny"})
        job = await _verified(hal0, MODEL)
        assert (job["kind"], job["state"], job["note"]) == ("model.verify", "done", "1 file is what came")

        place = hal0.services.registry.require(MODEL).files[0]
        await asyncio.to_thread(place.write_bytes, GGUF[:-1] + b"\x01")
        job = await _verified(hal0, MODEL)
        assert (job["state"], job["error"]["code"]) == ("failed", "model.checksum")
        assert str(place) in job["error"]["message"]
        assert job["error"]["hint"] == f"hal0ctl model delete {MODEL}, then hal0ctl pull {MODEL}"


async def test_what_nobody_published_is_held_against_what_came_too(
    paths: Paths, port_block: range, tmp_path: Path
) -> None:
    await asyncio.to_thread((tmp_path / "Mine.gguf").write_bytes, GGUF)
    async with operator(paths, port_block) as hal0:
        await hal0.call("POST", "/api/pulls?wait=true", {"model": str(tmp_path / "Mine.gguf")})
        assert (await _verified(hal0, "mine"))["note"] == "1 file is what came"

        place = hal0.services.registry.require("mine").files[0]
        await asyncio.to_thread(place.write_bytes, GGUF[:-1] + b"\x01")
        hint = f"hal0ctl model delete mine, then hal0ctl pull {tmp_path / 'Mine.gguf'}"
        assert (await _verified(hal0, "mine"))["error"]["hint"] == hint


async def test_of_what_was_put_there_by_hand_the_catalog_or_the_place_knows(
    paths: Paths, port_block: range, curate: Curate
) -> None:
    async with operator(paths, port_block) as hal0:
        assert (await _verified(hal0, "one"))["note"] == "of 1 nobody has said what it has to be"
        curate("one", file("one.gguf", b"other"))
        assert (await _verified(hal0, "one"))["error"]["code"] == "model.checksum"


def test_a_blob_is_called_by_its_digest(tmp_path: Path) -> None:
    store, blobs = tmp_path / "store", tmp_path / "blobs"
    store.mkdir()
    blobs.mkdir()
    (blobs / f"sha256-{demo.DIGEST}").write_bytes(GGUF)
    (store / "m.gguf").symlink_to(blobs / f"sha256-{demo.DIGEST}")
    registry = Registry(store, (), tmp_path / "registry.toml")
    registry.scan()
    known = digests(registry.require("m"), None, store)
    assert known == {store / "m.gguf": demo.DIGEST}


async def test_a_check_is_joined_given_up_and_ends_with_hal0(
    paths: Paths, port_block: range, monkeypatch: pytest.MonkeyPatch, curate: Curate
) -> None:
    async def endless(*_: object) -> str:
        await asyncio.sleep(60)
        return ""

    monkeypatch.setattr(verifying, "sha256_of", endless)
    curate("one", file("one.gguf", GGUF))
    async with operator(paths, port_block) as hal0:
        _, job = await hal0.call("POST", "/api/models/one/verify", {})
        assert (await hal0.call("POST", "/api/models/one/verify", {}))[1]["id"] == job["id"]
        assert (await hal0.call("DELETE", f"/api/jobs/{job['id']}"))[0] == 200
        _, ended = await hal0.call("GET", f"/api/jobs/{job['id']}?wait=true")
        assert ended["state"] == "cancelled"
        assert (await hal0.call("POST", "/api/models/none/verify", {}))[0] == 404
        await hal0.call("POST", "/api/models/one/verify", {})
        async with asyncio.timeout(5):
            await hal0.services.pulls().aclose()


# ---- the room ----


async def test_what_models_take_who_keeps_them_and_when_they_were_used(paths: Paths, port_block: range) -> None:
    async with operator(paths, port_block) as hal0:
        spare, began = hal0.services.registry.store / "spare.gguf", time.time()
        await asyncio.to_thread(demo.write, spare)
        await asyncio.to_thread(os.utime, spare, (1.0, 1.0))  # as what is moved or linked there
        await hal0.call("POST", "/api/models/scan")
        await hal0.call("POST", "/api/models/bind", {"model": "spare", "slot": "embed"})
        _, view = await hal0.call("GET", "/api/disk")
        kept = {it["id"]: (it["size_bytes"], it["kept_by"], it["removable"]) for it in view["items"]}
        assert kept["spare"] == (len(GGUF), ["bound to embed"], True)
        assert {it["id"]: it["came_at"] for it in view["items"]}["spare"] > began - 10
        assert "slot primary" in kept["one"][1]
        assert view["total_bytes"] >= view["free_bytes"] > 0
        assert (view["store"], view["pulls_bytes"]) == (str(hal0.services.registry.store), 0)


async def test_a_store_that_hangs_is_not_waited_for(
    paths: Paths, port_block: range, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()

    def hangs(*_: object) -> None:
        answers.wait()

    async with operator(paths, port_block) as hal0:
        monkeypatch.setattr(disk, "read", hangs)
        monkeypatch.setattr(prober, "_READ_S", 0.05)
        try:
            async with asyncio.timeout(2):
                assert (await hal0.call("GET", "/api/disk"))[0] == 200
        finally:
            answers.set()


def test_a_model_was_used_until_its_slot_got_another() -> None:
    def loaded(*models: str, last_used: float | None) -> Logbook:
        history = tuple(Load(model=model, at=float(at), start_s=1, warm_s=1) for at, model in enumerate(models, 1))
        return Logbook(since=0, history=history, last_used=last_used)

    one, two = loaded("a", "b", "a", last_used=9), loaded("b", last_used=None)
    assert last_uses((one, two), {"b": 2.5, "c": 4}) == ({"a": 9, "b": 3, "c": 4}, None)
    assert last_uses((loaded(*["x"] * HISTORY, last_used=50),), {}) == ({"x": 50}, 1)


async def test_a_model_was_last_used_when_a_request_was_answered_with_it(paths: Paths, port_block: range) -> None:
    async with operator(paths, port_block) as hal0:
        rows = {"gone": 5.0, "one": 7.0}

        async def asked() -> dict[str, float]:
            return rows

        hal0.services.past.reader.last_asked = asked  # type: ignore[method-assign]
        _, view = await hal0.call("GET", "/api/disk")
        assert {it["id"]: it["last_used"] for it in view["items"]}["one"] == 7.0


# ---- taken in ----


async def test_a_file_is_shared_instead_of_copied_and_stays_whose_it_was(
    paths: Paths, port_block: range, tmp_path: Path
) -> None:
    mine = tmp_path / "Mine.gguf"
    await asyncio.to_thread(mine.write_bytes, GGUF)
    async with operator(paths, port_block) as hal0:
        body = {"model": str(mine), "link": True}
        _, job = await hal0.call("POST", "/api/pulls?wait=true", body)
        assert job["state"] == "done", job
        there = hal0.services.registry.require("mine").files[0]
        assert await asyncio.to_thread(there.samefile, mine)
        assert (await hal0.call("DELETE", "/api/models/mine"))[1] == {"id": "mine", "freed_bytes": 0}
        assert await asyncio.to_thread(mine.read_bytes) == GGUF

        await asyncio.to_thread(mine.chmod, 0o600)
        _, job = await hal0.call("POST", "/api/pulls?wait=true", body)
        assert (job["error"]["code"], "only its owner can read it" in job["error"]["message"]) == ("pull.failed", True)
        assert (await asyncio.to_thread(mine.stat)).st_mode & 0o777 == 0o600
        _, job = await hal0.call("POST", "/api/pulls?wait=true", {"model": str(mine)})  # as the refusal said
        assert job["state"] == "done", job
        status_, refusal = await hal0.call("POST", "/api/pulls", {"model": "acme/tiny", "link": True})
        assert (status_, refusal["error"]["param"]) == (400, "link")


# ---- found ----


async def test_models_are_found_in_the_catalog_and_on_the_hub(paths: Paths, port_block: range, curate: Curate) -> None:
    curate(MODEL, file(FILE, GGUF), purpose="Small talk.")
    async with hub() as far, operator(paths, port_block, config={"models": {"hf_endpoint": far.endpoint}}) as hal0:
        rows: list[Any] = [
            {"id": "acme/small-GGUF", "downloads": 9, "gated": "auto", "cardData": {"license": "mit"},
             "gguf": {"total": 1000, "architecture": "llama", "context_length": 512}},
            {"id": "acme/huge-GGUF", "gguf": {"total": 10**14}},
            {"id": "acme/odd", "downloads": -1, "gguf": [], "gated": None},
            {"id": "../../etc"}, "nonsense", {},
        ]  # fmt: skip
        far.found = rows
        await asyncio.to_thread(trees.cpu_only_vm, paths.state_dir / "machine")
        _, view = await hal0.call("GET", "/api/catalog/search", params={"q": "small TALK"})
        assert view["problem"] is None
        assert [(it["name"], it["curated"], it["fits"]) for it in view["items"]] == [
            (MODEL, True, True), ("acme/small-GGUF", False, True), ("acme/huge-GGUF", False, False),
            ("acme/odd", False, None),
        ]  # fmt: skip
        small = view["items"][1]
        assert (small["license"], small["gated"], small["downloads"], small["context_length"]) == ("mit", True, 9, 512)

        far.listing = status(404)
        _, view = await hal0.call("GET", "/api/catalog/search", params={"q": "talk"})
        assert [it["name"] for it in view["items"]] == [MODEL]
        assert "the server does not have it" in view["problem"]
        for words in ("", "x" * 201):
            assert (await hal0.call("GET", "/api/catalog/search", params={"q": words}))[0] == 400


async def test_an_address_that_is_none_hides_nothing_of_the_catalog(
    paths: Paths, port_block: range, curate: Curate
) -> None:
    curate(MODEL, file(FILE, GGUF), purpose="Small talk.")
    async with operator(paths, port_block) as hal0:
        await asyncio.to_thread(trees.cpu_only_vm, paths.state_dir / "machine")
        hal0.services.pulls().looking._environ = {"HF_ENDPOINT": "mirror/secret"}
        _, view = await hal0.call("GET", "/api/catalog/search", params={"q": "talk"})
        assert ([it["name"] for it in view["items"]], view["hub"]) == ([MODEL], None)
        assert "HF_ENDPOINT" in view["problem"]
        assert "secret" not in view["problem"]
        _, view = await hal0.call("GET", "/api/catalog")
        assert ([it["id"] for it in view["items"]], view["hub"]) == ([MODEL], None)
        status, body = await hal0.call("POST", "/api/pulls", {"model": MODEL})
        assert (status, body["error"]["code"]) == (422, "config.invalid")
