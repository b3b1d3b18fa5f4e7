"""Custom slots made and deleted over the API: in the files, in force at once, and gone without a trace."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hal0.paths import Paths
from hal0.vocab import Phase
from tests.functional.operator_app import Operator, operator
from tests.vloop import until


@pytest.fixture
async def hal0(paths: Paths, port_block: range) -> AsyncIterator[Operator]:
    async with operator(paths, port_block) as served:
        yield served


async def test_a_new_slot_is_in_force_and_on_disk_when_it_is_answered(hal0: Operator, paths: Paths) -> None:
    body = {"name": "coder", "model": "Two", "priority": 70, "extra_args": ["--flash-attn", "on"], "profile": None}
    status, view = await hal0.call("POST", "/api/slots", body)
    assert status == 201
    assert (view["name"], view["state"], view["model"], view["priority"]) == ("coder", "offline", "two", 70)
    assert not view["builtin"]
    file = paths.slots_config_dir / "coder.toml"
    assert file.read_text() == 'model = "Two"\npriority = 70\nextra_args = ["--flash-attn", "on"]\n'
    assert (await hal0.call("GET", "/api/slots"))[1]["items"][-1] == view
    status, job = await hal0.call("POST", "/api/slots/coder/load?wait=true")
    assert (status, job["state"]) == (200, "done")


async def test_a_new_slot_is_heard_of_and_so_is_its_end(hal0: Operator) -> None:
    async with hal0.api.get("/api/events") as events:
        await hal0.call("POST", "/api/slots", {"name": "coder", "model": "two"})
        await hal0.call("DELETE", "/api/slots/coder")
        values: list[Any] = []
        while not values or values[-1] is not None:
            event = await asyncio.wait_for(events.content.readuntil(b"\n\n"), 5)
            data = json.loads(event.partition(b"data: ")[2])
            values += [data["value"]] if data["id"] == "coder" else []
    assert values[0]["state"] == "offline"


async def test_deleting_unloads_and_leaves_nothing(hal0: Operator, paths: Paths) -> None:
    await hal0.call("POST", "/api/slots", {"name": "coder", "model": "one"})
    await hal0.call("POST", "/api/slots/coder/swap?wait=true", {"model": "two"})
    directory = hal0.running.tools.store.directory("coder")
    assert (directory / "state.json").exists()
    assert (await hal0.call("DELETE", "/api/slots/coder")) == (200, {"name": "coder"})
    assert not directory.exists()
    assert not (paths.slots_config_dir / "coder.toml").exists()
    assert hal0.engine.all == []
    status, body = await hal0.call("GET", "/api/slots/coder")
    assert (status, body["error"]["code"]) == (404, "slot.not_found")
    # One of the same name later is another slot: the model that was swapped in is forgotten.
    status, view = await hal0.call("POST", "/api/slots", {"name": "coder", "model": "one"})
    assert (status, view["model"]) == (201, "one")


async def test_a_slot_of_hal0_toml_is_deleted_there_and_comments_stay(hal0: Operator, paths: Paths) -> None:
    text = paths.config_file.read_text()
    paths.config_file.write_text(
        text + '\n# for code\n[slots.coder] # goes\nmodel = "two"\n\n[server] # stays\ngrace_s = 5\n'
    )
    paths.slots_config_dir.mkdir()
    (paths.slots_config_dir / "coder.toml").write_text("priority = 3\n")
    status, _ = await hal0.call("POST", "/api/slots", {"name": "other"})  # any edit brings a saved file into force
    assert status == 201
    assert (await hal0.call("GET", "/api/slots/coder"))[1]["priority"] == 3
    assert (await hal0.call("DELETE", "/api/slots/coder"))[0] == 200
    left = paths.config_file.read_text()
    assert "coder" not in left
    assert left.startswith(text)
    assert "[server] # stays\ngrace_s = 5\n" in left
    assert [file.name for file in paths.slots_config_dir.iterdir()] == ["other.toml"]


@pytest.mark.parametrize(
    ("body", "status", "code", "param", "words"),
    [
        ({}, 400, "request.invalid", "name", "required"),
        ({"name": 3}, 400, "request.invalid", "name", "string"),
        ({"name": "Coder"}, 422, "config.invalid", "name", "lower case"),
        ({"name": "../x"}, 422, "config.invalid", "name", "not a slot name"),
        ({"name": "embed-rerank"}, 409, "slot.reserved", None, "hal0's own"),
        ({"name": "primary"}, 409, "slot.reserved", None, "hal0's own"),
        ({"name": "x", "modle": "one"}, 422, "config.invalid", "modle", "did you mean model?"),
        ({"name": "x", "priority": 101}, 422, "config.invalid", "priority", "at most 100"),
        ({"name": "x", "device": "tpu"}, 422, "config.invalid", "device", "vulkan"),
        ({"name": "x", "port": 80}, 422, "config.invalid", "port", "8081 to 8099"),
        ({"name": "x", "port": 8081}, 422, "config.invalid", "slots.x.port", "primary"),
        ({"name": "x", "profile": "none"}, 422, "config.invalid", "slots.x.profile", "low-memory"),
        ({"name": "x", "extra_args": ["--host", "::"]}, 422, "config.invalid", "extra_args", "hal0 chooses"),
        ({"name": "x", "aliases": ["embed"]}, 422, "config.invalid", "slots.x.aliases", "already means"),
    ],
)
@pytest.mark.parametrize("path", ["/api/slots", "/api/slots/draft"])
async def test_a_slot_that_cannot_be_is_refused_naming_field_and_choice(
    hal0: Operator, paths: Paths, path: str, body: Any, status: int, code: str, param: str | None, words: str
) -> None:
    answered, answer = await hal0.call("POST", path, body)
    assert (answered, answer["error"]["code"], answer["error"]["param"]) == (status, code, param)
    assert answer["error"]["message"].startswith("cannot ")
    assert words in json.dumps(answer["error"], ensure_ascii=False)
    assert not paths.slots_config_dir.exists()
    assert len((await hal0.call("GET", "/api/slots"))[1]["items"]) == 5


async def test_every_fault_of_the_fields_is_told_at_once(hal0: Operator) -> None:
    _, answer = await hal0.call("POST", "/api/slots", {"name": "x", "priority": -1, "parallel": "two", "modle": "one"})
    faults = answer["error"]["details"]["faults"]
    assert {fault["key"] for fault in faults} == {"priority", "parallel", "modle"}


async def test_a_draft_shows_the_file_and_writes_nothing(hal0: Operator, paths: Paths) -> None:
    body = {"name": "coder", "model": "two", "env": {"A": "1"}}
    status, draft = await hal0.call("POST", "/api/slots/draft", body)
    assert (status, draft["name"]) == (200, "coder")
    assert draft["file"] == str(paths.slots_config_dir / "coder.toml")
    assert draft["text"] == 'model = "two"\n\n[env]\nA = "1"\n'
    assert not paths.slots_config_dir.exists()


async def test_a_name_is_given_once(hal0: Operator) -> None:
    answers = await asyncio.gather(*(hal0.call("POST", "/api/slots", {"name": "coder"}) for _ in range(5)))
    assert sorted(status for status, _ in answers) == [201, 409, 409, 409, 409]
    assert {answer["error"]["code"] for status, answer in answers if status == 409} == {"slot.exists"}


async def test_a_name_is_free_when_the_old_slot_is_forgotten(hal0: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    store, slow, forget = hal0.running.tools.store, asyncio.Event(), hal0.running.tools.store.forget

    async def forget_slowly(slot: str) -> None:
        await slow.wait()
        await forget(slot)

    monkeypatch.setattr(store, "forget", forget_slowly)
    await hal0.call("POST", "/api/slots", {"name": "coder"})
    deleting = asyncio.create_task(hal0.call("DELETE", "/api/slots/coder"))
    await until(lambda: hal0.running.supervisor.get("coder") is None, within_s=5)
    status, body = await hal0.call("POST", "/api/slots", {"name": "coder"})
    assert (status, body["error"]["code"]) == (409, "slot.exists")
    slow.set()
    assert (await deleting)[0] == 200
    assert (await hal0.call("POST", "/api/slots", {"name": "coder"}))[0] == 201


async def test_a_slot_that_cannot_be_unloaded_is_not_deleted(hal0: Operator, paths: Paths) -> None:
    await hal0.call("POST", "/api/slots", {"name": "coder", "model": "two"})
    await hal0.call("POST", "/api/slots/coder/load?wait=true")
    directory = hal0.running.tools.store.directory("coder")
    aside = directory.rename(directory.with_name("aside"))
    directory.write_text("in the way of every record")
    status, body = await hal0.call("DELETE", "/api/slots/coder")
    assert (status, body["error"]["code"]) == (507, "state.write_failed")
    assert (paths.slots_config_dir / "coder.toml").exists()
    assert (await hal0.call("GET", "/api/slots/coder"))[1]["state"] == "ready"
    directory.unlink()
    aside.rename(directory)
    assert (await hal0.call("DELETE", "/api/slots/coder"))[0] == 200


async def test_built_in_and_unknown_slots_are_not_deleted(hal0: Operator) -> None:
    for name in ("primary", "embed", "stt", "tts", "img"):
        status, body = await hal0.call("DELETE", f"/api/slots/{name}")
        assert (status, body["error"]["code"]) == (409, "slot.reserved")
    status, body = await hal0.call("DELETE", "/api/slots/primery")
    assert (status, body["error"]["code"]) == (404, "slot.not_found")
    assert body["error"]["details"]["did_you_mean"] == "primary"


async def test_files_that_are_wrong_refuse_the_edit_and_stay_as_they_are(hal0: Operator, paths: Paths) -> None:
    wrong = paths.config_file.read_text() + "\n[server]\nport = 'x'\n"
    paths.config_file.write_text(wrong)
    status, body = await hal0.call("POST", "/api/slots", {"name": "coder"})
    assert (status, body["error"]["code"]) == (422, "config.invalid")
    assert "server.port" in body["error"]["message"]
    assert paths.config_file.read_text() == wrong
    assert not paths.slots_config_dir.exists()


async def test_a_caller_that_leaves_does_not_stop_a_deletion(hal0: Operator, paths: Paths) -> None:
    await hal0.call("POST", "/api/slots", {"name": "coder", "model": "two"})
    await hal0.call("POST", "/api/slots/coder/load?wait=true")
    leaving = asyncio.create_task(hal0.call("DELETE", "/api/slots/coder"))
    await until(lambda: hal0.running.phase("coder") is not Phase.READY, within_s=5)
    leaving.cancel()
    await until(lambda: hal0.running.supervisor.get("coder") is None, within_s=5)
    assert not (paths.slots_config_dir / "coder.toml").exists()
