"""Setting a machine up over the API: proposed, pulled from a hub, loaded; cut short and gone on with."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from hal0.capabilities.cards import RERANKER
from hal0.engine.manifest import images_root, read_manifest
from hal0.models import catalog
from hal0.models.catalog import CatalogEntry, CatalogFile
from hal0.paths import Paths
from hal0.vocab import Capability, ModelId, ProviderName
from tests.fakes.engine import FakeEngine
from tests.fakes.hub import REVISION, Hub, hub, status
from tests.fakes.program import Program
from tests.fakes.slots import settled
from tests.functional.operator_app import Operator, operator
from tests.tiny import gguf_models
from tests.unit.hardware import trees

MANIFEST = read_manifest(images_root())
CHAT, EMBED, RERANK = Capability.CHAT, Capability.EMBED, Capability.RERANK
MODELS = {"tiny-chat": CHAT, "tiny-embed": EMBED, RERANKER: RERANK}
SLOTS = {"primary": "tiny-chat", "embed": "tiny-embed", "embed-rerank": RERANKER}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("tiny")
    made = [
        gguf_models.write_chat(folder / "tiny-chat.gguf"),
        gguf_models.write_embed(folder / "tiny-embed.gguf"),
        gguf_models.write_rerank(folder / f"{RERANKER}.gguf"),
    ]
    return {path.name: path.read_bytes() for path in made}


@dataclass
class Machine:
    """A hal0 whose catalog has a model for each of three slots."""

    hal0: Operator
    hub: Hub
    paths: Paths

    async def proposal(self) -> dict[str, dict[str, Any]]:
        status, view = await self.hal0.call("GET", "/api/setup")
        assert status == 200, view
        return {it["slot"]: it for it in view["items"]}

    async def set_up(self, **slots: str) -> dict[str, Any]:
        """The job, ended."""
        body = {"slots": {name.replace("_", "-"): model for name, model in slots.items()}} if slots else {}
        status, job = await self.hal0.call("POST", "/api/setup?wait=true", body)
        assert status == 200, job
        return dict(job)

    async def begin(self) -> str:
        status, job = await self.hal0.call("POST", "/api/setup")
        assert status == 202, job
        return str(job["id"])

    async def loaded(self) -> dict[str, str]:
        _, view = await self.hal0.call("GET", "/api/slots")
        return {slot["name"]: slot["model"] for slot in view["items"] if slot["state"] == "ready"}

    def configuration(self) -> list[str]:
        return [path.read_text() for path in sorted(self.paths.config_dir.rglob("*.toml"))]


@pytest.fixture
async def machine(
    paths: Paths, port_block: range, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Machine]:
    curated = {ModelId(name): _entry(name, files[f"{name}.gguf"]) for name in MODELS}
    monkeypatch.setattr(catalog, "_by_id", lambda: curated)
    async with hub() as far:
        far.files = dict(files)
        config = {"models": {"hf_endpoint": far.endpoint}}
        async with operator(paths, port_block, engine=FakeEngine(), config=config, images=MANIFEST) as hal0:
            await asyncio.to_thread(trees.cpu_only_vm, paths.state_dir / "machine")
            yield Machine(hal0, far, paths)


def _entry(name: str, data: bytes) -> CatalogEntry:
    return CatalogEntry(
        id=ModelId(name), name=name, purpose=f"To {MODELS[name]}.", license="mit", provider=ProviderName.LLAMACPP,
        capabilities=frozenset({MODELS[name]}), recommended_for=MODELS[name], on_cpu=True, context_length=512,
        cache_bytes_per_token=None, repo="acme/tiny", revision=REVISION, folder="",
        files=(CatalogFile(name=f"{name}.gguf", size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest()),),
    )  # fmt: skip


async def test_a_new_machine_is_set_up_and_then_nothing_is_left_to_do(machine: Machine) -> None:
    proposed = await machine.proposal()
    assert {slot: it["model"] for slot, it in proposed.items()} == {**SLOTS, "stt": None, "tts": None, "img": None}
    assert {it["why"] for it in proposed.values() if it["model"] is None} == {
        "no model of the catalog fits into this machine's memory"
    }
    primary = proposed["primary"]  # what it has is the demonstration, which is none
    assert (primary["device"], primary["license"], primary["installed"], primary["done"]) == (
        "cpu",
        "mit",
        False,
        False,
    )
    job = await machine.set_up()
    assert (job["state"], job["kind"], job["error"]) == ("done", "machine.setup", None)
    assert await machine.loaded() == SLOTS
    assert {slot for slot, it in (await machine.proposal()).items() if it["done"]} == set(SLOTS)

    before = machine.configuration(), list(machine.hal0.engine.running), len(machine.hub.asked)
    again = await machine.set_up()
    assert (again["state"], again["note"]) == ("done", "everything is set up")
    assert (machine.configuration(), list(machine.hal0.engine.running), len(machine.hub.asked)) == before


async def test_what_an_operator_has_chosen_stays(machine: Machine) -> None:
    await machine.set_up()
    await machine.hal0.call("POST", "/api/slots/primary/unload?wait=true")
    await machine.hal0.call("POST", "/api/capabilities/embed/rerank?wait=true", {"enabled": False})
    proposed = await machine.proposal()
    assert proposed["primary"]["done"], "unloaded by hand is not undone"
    assert (proposed["embed-rerank"]["model"], proposed["embed-rerank"]["why"]) == (None, "it is turned off")
    await machine.set_up()
    assert await machine.loaded() == {"embed": "tiny-embed"}
    await machine.set_up(primary="tiny-chat", embed_rerank=RERANKER)  # unless it is asked for
    assert await machine.loaded() == SLOTS


async def test_one_slots_failure_is_told_and_stops_no_other(machine: Machine) -> None:
    kept = machine.hub.files.pop("tiny-embed.gguf")
    machine.hal0.engine.plan(
        Program(dies_after_s=0.02, ready_after_s=None, last_words=("cannot load model: bad magic",)), slot="primary"
    )
    job = await machine.set_up()
    assert (job["state"], job["error"]["code"]) == ("failed", "setup.incomplete")
    assert job["error"]["details"]["done"] == ["embed-rerank"]
    failed = job["error"]["details"]["failed"]
    assert {slot: it["code"] for slot, it in failed.items()} == {
        "primary": "slot.load_failed",
        "embed": "model.not_found",
    }
    assert failed["embed"]["message"] in job["error"]["message"]
    assert "cannot set up 2 of 3 slots: primary: " in job["error"]["message"]

    machine.hub.files["tiny-embed.gguf"] = kept
    fetched = len(machine.hub.asked)
    assert (await machine.set_up())["state"] == "done"  # goes on where it stopped
    assert await machine.loaded() == SLOTS
    assert len(machine.hub.asked) == fetched + 2  # a look at the one that was missing, and the file


async def test_it_is_given_up_and_gone_on_with(machine: Machine) -> None:
    machine.hub.held = True
    job_id = await machine.begin()
    await _until_coming(machine, "tiny-chat")
    assert await machine.begin() == job_id, "who asks again gets the one under way"
    _, job = await machine.hal0.call("DELETE", f"/api/jobs/{job_id}")
    assert job["state"] == "cancelled"
    _, pulls = await machine.hal0.call("GET", "/api/pulls")
    assert {(pull["model"], pull["state"]) for pull in pulls["items"]} == {(model, "paused") for model in MODELS}
    assert machine.hal0.engine.running == []
    machine.hub.held = False
    assert (await machine.set_up())["state"] == "done"
    assert await machine.loaded() == SLOTS


async def test_a_download_that_somebody_else_wants_too_goes_on_when_it_is_given_up(machine: Machine) -> None:
    machine.hub.held = True
    _, pull = await machine.hal0.call("POST", "/api/pulls", {"model": "tiny-chat"})
    job_id = await machine.begin()
    await _until_coming(machine, "tiny-chat")
    await settled(lambda: len(machine.hal0.services.pulls().views()) == len(MODELS))
    await machine.hal0.call("DELETE", f"/api/jobs/{job_id}")
    machine.hub.held = False
    assert (await machine.hal0.services.jobs.get(pull["id"]).wait()).state == "done"


async def test_a_load_that_is_given_up_is_undone(machine: Machine) -> None:
    machine.hal0.engine.program = Program(ready_after_s=60)
    before = machine.configuration()
    job_id = await machine.begin()
    await settled(lambda: bool(machine.hal0.engine.running))
    await machine.hal0.call("DELETE", f"/api/jobs/{job_id}")
    assert (await machine.hal0.services.jobs.get(job_id).wait()).state == "cancelled"
    assert machine.configuration() == before
    assert await machine.loaded() == {}


async def test_the_end_of_hal0_interrupts_the_watching_alone(machine: Machine) -> None:
    machine.hub.held = True
    job_id = await machine.begin()
    await _until_coming(machine, "tiny-chat")
    await machine.hal0.services.setup().aclose()
    assert machine.hal0.services.jobs.get(job_id).view.state == "interrupted"
    machine.hub.held = False
    assert (await machine.set_up())["state"] == "done"  # joins the downloads, which went on
    assert await machine.loaded() == SLOTS


async def test_what_comes_is_told_as_one(machine: Machine) -> None:
    machine.hub.held = True
    job = machine.hal0.services.jobs.get(await machine.begin())
    await _until_coming(machine, "tiny-chat")
    await settled(lambda: (told := job.view.progress) is not None and bool(told.fraction))
    told = job.view.progress
    assert told is not None
    assert told.pace is not None
    assert told.pace.total_bytes is not None
    assert 0 < told.pace.done_bytes < told.pace.total_bytes
    assert told.message.startswith("primary: ")
    machine.hub.held = False
    assert (await job.wait()).state == "done"


async def _until_coming(machine: Machine, model: str) -> None:
    """Some of the model is here."""
    async with asyncio.timeout(20):
        while True:
            _, pulls = await machine.hal0.call("GET", "/api/pulls")
            if any(pull["model"] == model and pull["pace"]["done_bytes"] for pull in pulls["items"]):
                return
            await asyncio.sleep(0.01)


async def test_what_is_refused_begins_nothing(machine: Machine) -> None:
    status_, body = await machine.hal0.call("POST", "/api/setup", {"slots": {"coder": "tiny-chat"}})
    assert (status_, body["error"]["code"]) == (404, "slot.not_found")
    assert "setup knows primary, embed, embed-rerank, stt, tts, img" in body["error"]["message"]
    assert (await machine.hal0.call("POST", "/api/setup", {"models": {}}))[0] == 400
    status_, body = await machine.hal0.call("POST", "/api/setup", {"slots": {"primary": "tiny-cat"}})
    assert (status_, body["error"]["code"]) == (404, "model.not_found")
    assert (await machine.hal0.call("GET", "/api/jobs"))[1]["items"] == []
    machine.hub.listing = status(500)
    job = await machine.set_up(primary="acme/nothing", embed="tiny-embed")
    assert job["error"]["details"]["done"] == ["embed"]
    assert list(job["error"]["details"]["failed"]) == ["primary"]
