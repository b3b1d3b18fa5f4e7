"""The cards over the API: shown as they stand, turned on in one change, undone when a step fails, told to listeners."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hal0.capabilities import orchestrator
from hal0.capabilities.cards import RERANKER
from hal0.config.table import Kept
from hal0.engine.manifest import images_root, read_manifest
from hal0.lib.aio import cancelled
from hal0.paths import Paths
from hal0.vocab import SlotName, Want
from hal0.wire.slots import LiveView
from tests.fakes.engine import FakeEngine
from tests.fakes.program import Program
from tests.functional.operator_app import Operator, operator
from tests.tiny import gguf_models
from tests.unit.hardware import trees

MANIFEST = read_manifest(images_root())
DIES = Program(dies_after_s=0.02, ready_after_s=None, last_words=("cannot load model: bad magic",))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    gguf_models.write_embed(folder / "tiny-embed.gguf")
    gguf_models.write_rerank(folder / f"{RERANKER}.gguf")
    return folder


@pytest.fixture
async def hal0(paths: Paths, port_block: range, tiny: Path) -> AsyncIterator[Operator]:
    async with operator(paths, port_block, engine=FakeEngine(), images=MANIFEST) as served:
        await asyncio.to_thread(_install, tiny, served.services.registry.store)
        await asyncio.to_thread(trees.cpu_only_vm, paths.state_dir / "machine")
        await served.call("POST", "/api/models/scan")
        yield served


def _install(tiny: Path, store: Path) -> None:
    for file in tiny.iterdir():
        (store / file.name).write_bytes(file.read_bytes())


async def child(hal0: Operator, card: str, name: str) -> dict[str, Any]:
    status, view = await hal0.call("GET", f"/api/capabilities/{card}")
    assert status == 200
    return next(it for it in view["children"] if it["name"] == name)


async def turn(hal0: Operator, row: str, **body: Any) -> dict[str, Any]:
    status, job = await hal0.call("POST", f"/api/capabilities/{row}?wait=true", body)
    assert status == 200, job
    return dict(job)


async def test_the_cards_of_a_machine_without_a_gpu(hal0: Operator) -> None:
    status, view = await hal0.call("GET", "/api/capabilities")
    assert status == 200
    assert [card["name"] for card in view["items"]] == ["embed", "voice", "img"]
    assert [(it["name"], it["code"]) for it in view["hidden"]] == [("npu", "device.missing")]
    embed, rerank = view["items"][0]["children"]
    assert (embed["enabled"], embed["state"], embed["model"]) == (False, "offline", None)
    assert [it["model"] for it in embed["models"]] == ["tiny-embed"]
    assert (rerank["state"], rerank["message"]) == ("absent", "not turned on yet")
    ready = {it["device"]: it["ready"] for it in embed["choices"]}
    assert ready == {"vulkan": False, "rocm": False, "cuda": False, "cpu": True}
    status, body = await hal0.call("GET", "/api/capabilities/npu")
    assert (status, body["error"]["code"]) == (503, "device.missing")
    status, body = await hal0.call("GET", "/api/capabilities/chat")
    assert (status, body["error"]["code"]) == (404, "capability.not_found")


async def test_the_first_enable_of_rerank_writes_its_slot_and_loads_it(hal0: Operator, paths: Paths) -> None:
    _, plan = await hal0.call("POST", "/api/capabilities/embed/rerank/plan")
    assert (plan["slot"], plan["creates"], plan["model"]) == ("embed-rerank", True, RERANKER)
    file = paths.slots_config_dir / "embed-rerank.toml"
    assert not file.exists()
    job = await turn(hal0, "embed/rerank")
    assert (job["state"], job["kind"], job["target"]) == ("done", "capability.enable", "embed/rerank")
    assert file.read_text() == (f'provider = "llama.cpp"\nextra_args = ["--reranking"]\nmodel = "{RERANKER}"\n')
    rerank = await child(hal0, "embed", "rerank")
    assert (rerank["enabled"], rerank["state"], rerank["drift"]) == (True, "ready", [])
    assert rerank["port"] == hal0.running.world.ports[5]  # 8086 in a block that begins at 8081
    (container,) = hal0.engine.running
    assert "--reranking" in container.spec.argv
    again = await turn(hal0, "embed/rerank")  # it is so already
    assert again["state"] == "done"
    assert hal0.engine.running == [container]


async def test_a_load_that_fails_leaves_nothing_behind(hal0: Operator, paths: Paths) -> None:
    hal0.engine.program = DIES
    before = paths.config_file.read_text()
    job = await turn(hal0, "embed/rerank")
    assert (job["state"], job["error"]["code"]) == ("failed", "slot.load_failed")
    assert list(paths.slots_config_dir.iterdir()) == []
    assert (await hal0.call("GET", "/api/slots/embed-rerank"))[0] == 404
    job = await turn(hal0, "embed/embed", model="tiny-embed", device="cpu")
    assert job["state"] == "failed"
    assert paths.config_file.read_text() == before
    slot = hal0.running.supervisor.slot("embed")
    assert (slot.life.desired.want, slot.life.desired.model) == (Want.UNLOADED, None)
    assert hal0.engine.running == []
    hal0.engine.program = Program()
    assert (await turn(hal0, "embed/rerank"))["state"] == "done"  # as if it were the first time


async def test_a_mistake_of_hal0s_own_leaves_nothing_behind_either(
    hal0: Operator, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = paths.config_file.read_text()
    monkeypatch.setattr(hal0.running.supervisor, "load", _mistaken)
    for row in ("embed/rerank", "embed/embed"):
        job = await turn(hal0, row, **({"model": "tiny-embed"} if row == "embed/embed" else {}))
        assert (job["state"], job["error"]["code"]) == ("failed", "system.internal")
    assert list(paths.slots_config_dir.iterdir()) == []
    assert paths.config_file.read_text() == before
    assert (await hal0.call("GET", "/api/slots/embed-rerank"))[0] == 404


async def _mistaken(*_: Any) -> None:
    raise RuntimeError("a mistake")


async def test_a_swap_that_fails_keeps_the_model_that_served(hal0: Operator, paths: Paths) -> None:
    await asyncio.to_thread(
        (hal0.services.registry.store / "other.gguf").write_bytes,
        (hal0.services.registry.store / "tiny-embed.gguf").read_bytes(),
    )
    await turn(hal0, "embed/embed", model="tiny-embed")
    before = paths.config_file.read_text()
    hal0.engine.plan(DIES, slot="embed")
    job = await turn(hal0, "embed/embed", model="other")
    assert job["state"] == "failed"
    assert paths.config_file.read_text() == before
    embed = await child(hal0, "embed", "embed")
    assert (embed["model"], embed["state"], embed["drift"]) == ("tiny-embed", "ready", [])


async def test_off_is_unloaded_and_not_loaded_by_requests_and_on_again(hal0: Operator) -> None:
    await turn(hal0, "embed/embed", model="tiny-embed")
    job = await turn(hal0, "embed/embed", enabled=False)
    assert (job["state"], job["kind"]) == ("done", "capability.disable")
    embed = await child(hal0, "embed", "embed")
    assert (embed["enabled"], embed["state"], embed["message"]) == (False, "offline", "turned off")
    status, body = await hal0.call("POST", "/v1/embeddings", {"model": "embed", "input": "x"})
    assert (status, body["error"]["code"]) == (503, "slot.offline")
    _, tried = await hal0.call("POST", "/api/capabilities/embed/embed/test?timeout_s=5")
    assert (tried["ok"], tried["code"], tried["slot"]) == (False, "slot.offline", "embed")
    assert tried["request_id"]
    assert (await turn(hal0, "embed/embed"))["state"] == "done"
    embed = await child(hal0, "embed", "embed")
    assert (embed["enabled"], embed["model"]) == (True, "tiny-embed")


async def test_what_is_refused_changes_nothing(hal0: Operator, paths: Paths) -> None:
    before = paths.config_file.read_text()
    for row, body, status, code in [
        ("embed/embed", {"model": "one"}, 409, "dispatch.capability_mismatch"),
        ("embed/embed", {"model": "nobody"}, 404, "model.not_found"),
        ("embed/embed", {"model": "tiny-embed", "device": "vulkan"}, 503, "device.missing"),
        ("embed/embed", {"model": "tiny-embed", "device": "npu"}, 409, "image.unfit"),
        ("voice/stt", {"device": "vulkan"}, 409, "image.unfit"),
        ("npu/chat", {}, 503, "device.missing"),
        ("embed/nothing", {}, 404, "capability.not_found"),
        ("embed/rerank", {"enabled": False}, 404, "slot.not_found"),
        ("embed/embed", {"on": True}, 400, "request.invalid"),
    ]:
        found, answer = await hal0.call("POST", f"/api/capabilities/{row}", body)
        assert (found, answer["error"]["code"]) == (status, code), row
    assert paths.config_file.read_text() == before
    assert (await hal0.call("GET", "/api/jobs"))[1]["items"] == []


async def test_where_slot_and_card_differ_both_are_shown(hal0: Operator) -> None:
    await turn(hal0, "embed/embed", model="tiny-embed")
    await hal0.call("POST", "/api/slots/embed/swap?wait=true", {"model": RERANKER})
    (drift,) = (await child(hal0, "embed", "embed"))["drift"]
    assert drift == {"key": "model", "card": "tiny-embed", "slot": RERANKER}
    await turn(hal0, "embed/embed", model="tiny-embed")
    assert (await child(hal0, "embed", "embed"))["drift"] == []


async def test_one_thing_at_a_time_and_the_same_thing_is_joined(hal0: Operator) -> None:
    hal0.engine.program = Program(ready_after_s=60)
    _, job = await hal0.call("POST", "/api/capabilities/embed/rerank")
    _, again = await hal0.call("POST", "/api/capabilities/embed/rerank")
    assert again["id"] == job["id"]
    status, body = await hal0.call("POST", "/api/capabilities/embed/rerank", {"enabled": False})
    assert (status, body["error"]["code"]) == (409, "slot.illegal_transition")
    status, ended = await hal0.call("DELETE", f"/api/jobs/{job['id']}")
    assert (status, ended["state"]) == (200, "cancelled")
    assert (await hal0.call("GET", "/api/slots/embed-rerank"))[0] == 404


async def test_a_card_and_a_swap_of_its_slot_at_once_end_as_the_later_one_wants(hal0: Operator) -> None:
    await turn(hal0, "embed/embed", model="tiny-embed")
    hal0.engine.program = Program(ready_after_s=60)
    _, swap = await hal0.call("POST", "/api/slots/embed/swap", {"model": "one"})
    hal0.engine.program = Program()
    card = await turn(hal0, "embed/embed", model="tiny-embed")
    _, swapped = await hal0.call("GET", f"/api/jobs/{swap['id']}?wait=true")
    assert (card["state"], swapped["state"]) == ("done", "superseded")
    row = await child(hal0, "embed", "embed")
    assert (row["model"], row["state"], row["drift"]) == ("tiny-embed", "ready", [])


async def test_a_swap_that_comes_while_a_card_is_written_down_is_obeyed(
    hal0: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await turn(hal0, "embed/embed", model="tiny-embed")
    begun, go_on, put = asyncio.Event(), asyncio.Event(), hal0.services.custom.put

    async def slowly(name: SlotName, fields: Mapping[str, Any]) -> Kept:
        kept = await put(name, fields)
        begun.set()
        await go_on.wait()
        return kept

    monkeypatch.setattr(hal0.services.custom, "put", slowly)
    _, card = await hal0.call("POST", "/api/capabilities/embed/embed", {"enabled": True, "context_size": 256})
    await asyncio.wait_for(begun.wait(), 10)
    _, swap = await hal0.call("POST", "/api/slots/embed/swap", {"model": "one"})
    go_on.set()
    assert (await hal0.services.jobs.get(card["id"]).wait()).state == "superseded"
    assert (await hal0.services.jobs.get(swap["id"]).wait()).state == "done"
    assert (await hal0.call("GET", "/api/slots/embed"))[1]["model"] == "one"


async def test_an_undo_is_not_given_up_half_way(hal0: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on, put_back = asyncio.Event(), asyncio.Event(), hal0.services.custom.put_back

    async def slowly(name: str, kept: Kept) -> None:
        begun.set()
        await go_on.wait()
        await put_back(name, kept)

    monkeypatch.setattr(hal0.services.custom, "put_back", slowly)
    hal0.engine.program = DIES
    _, job = await hal0.call("POST", "/api/capabilities/embed/rerank")
    await asyncio.wait_for(begun.wait(), 10)
    status, refused = await hal0.call("DELETE", f"/api/jobs/{job['id']}")
    assert (status, refused["error"]["code"]) == (409, "slot.illegal_transition")
    go_on.set()
    assert (await hal0.services.jobs.get(job["id"]).wait()).state == "failed"
    assert (await hal0.call("GET", "/api/slots/embed-rerank"))[0] == 404


async def test_listeners_hear_of_cards(hal0: Operator) -> None:
    await hal0.call("GET", "/api/capabilities")  # the first look
    cards = hal0.services.capabilities
    assert [event.id for event in cards.snapshot_events()] == ["embed", "voice", "img"]
    async with hal0.api.get("/api/events?topics=capability") as events:
        assert (await _event(events.content))["topic"] == "hello"
        cards.configured(hal0.services.config())
        assert [(await _event(events.content))["id"] for _ in range(3)] == ["embed", "voice", "img"]
        await turn(hal0, "embed/embed", model="tiny-embed")
        cards.configured(hal0.services.config())
        told = await _event(events.content)
        assert (told["topic"], told["id"], told["value"]["children"][0]["model"]) == (
            "capability",
            "embed",
            "tiny-embed",
        )


async def test_listeners_hear_of_slots_that_change_under_a_card(
    hal0: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orchestrator, "_FIRST_LOOK_S", 0)
    monkeypatch.setattr(orchestrator, "_TELL_EVERY_S", 0.01)
    await turn(hal0, "embed/embed", model="tiny-embed")
    telling = asyncio.create_task(hal0.services.capabilities.keep_telling())
    async with hal0.api.get("/api/events?topics=capability") as events:
        told = await _until(events.content, lambda embed: embed["state"] == "ready")
        await hal0.call("POST", "/api/slots/embed/swap?wait=true", {"model": RERANKER})
        told = await _until(events.content, lambda embed: embed["drift"])
        assert told["drift"] == [{"key": "model", "card": "tiny-embed", "slot": RERANKER}]
        await hal0.call("POST", "/api/slots/embed/unload?wait=true")
        await _until(events.content, lambda embed: embed["state"] == "offline")
    await cancelled(telling)


async def test_what_a_busy_row_s_engine_tells_is_on_its_card(hal0: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orchestrator, "_FIRST_LOOK_S", 0)
    monkeypatch.setattr(orchestrator, "_TELL_EVERY_S", 0.01)
    live = LiveView(tokens_per_second=7.5, prompt_tokens_per_second=None, deferred=0, context_used=9, at=1.0)
    cards = hal0.services.capabilities
    monkeypatch.setattr(cards, "_world", replace(cards._world, live={"embed": live}.get))
    await turn(hal0, "embed/embed", model="tiny-embed")
    assert (await child(hal0, "embed", "embed"))["live"] is None  # nobody asks it anything
    telling = asyncio.create_task(cards.keep_telling())
    async with hal0.api.get("/api/events?topics=capability") as events:
        with hal0.running.supervisor.slot("embed").serving():
            told = await _until(events.content, lambda embed: embed["live"])
        assert told["live"]["tokens_per_second"] == 7.5
        await _until(events.content, lambda embed: not embed["live"])
    await cancelled(telling)


async def _until(stream: aiohttp.StreamReader, told: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    """The row embed/embed once it is so."""
    while True:
        event = await _event(stream)
        if event["topic"] == "capability" and event["id"] == "embed":
            row: dict[str, Any] = event["value"]["children"][0]
            if told(row):
                return row


async def _event(stream: aiohttp.StreamReader) -> Any:
    raw = await asyncio.wait_for(stream.readuntil(b"\n\n"), 5)
    return json.loads(raw.partition(b"data: ")[2])
