"""How a slot is started and who said so; profiles; engines; what one slot does."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from hal0.paths import Paths
from tests.functional.operator_app import Operator, operator


@pytest.fixture
async def hal0(paths: Paths, port_block: range) -> AsyncIterator[Operator]:
    async with operator(paths, port_block) as served:
        yield served


async def test_a_profile_is_made_used_changed_and_deleted(hal0: Operator, paths: Paths) -> None:
    status, view = await hal0.call("PUT", "/api/profiles/mine", {"like": "low-memory", "context_size": 8192})
    assert status == 200
    assert (view["builtin"], view["context_size"], view["parallel"], view["used_by"]) == (False, 8192, 1, [])
    assert view["extra_args"][:2] == ["--cache-ram", "0"]
    assert "[profiles.mine]" in paths.config_file.read_text()
    await hal0.call("POST", "/api/slots", {"name": "coder", "model": "one", "profile": "mine"})
    status, body = await hal0.call("DELETE", "/api/profiles/mine")
    assert (status, body["error"]["code"], body["error"]["details"]["slots"]) == (409, "profile.in_use", ["coder"])
    status, view = await hal0.call("PUT", "/api/profiles/mine", {"parallel": None, "note": "short"})
    assert (view["parallel"], view["note"], view["context_size"], view["used_by"]) == (None, "short", 8192, ["coder"])
    await hal0.call("DELETE", "/api/slots/coder")
    assert (await hal0.call("DELETE", "/api/profiles/mine")) == (200, {"name": "mine"})
    names = [it["name"] for it in (await hal0.call("GET", "/api/profiles"))[1]["items"]]
    assert names == ["vulkan", "rocm", "cuda", "cpu", "moe", "long-context", "low-memory"]


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/api/profiles/moe", {"note": "x"}, 422, "config.invalid"),
        ("/api/profiles/Bad!", {"note": "x"}, 422, "config.invalid"),
        ("/api/profiles/mine", {"like": "nobody"}, 404, "profile.not_found"),
        ("/api/profiles/mine", {"context_size": 1}, 422, "config.invalid"),
        ("/api/profiles/mine", {"extra_args": ["--host", "x"]}, 422, "config.invalid"),
        ("/api/profiles/mine", {"nonsense": 1}, 422, "config.invalid"),
    ],
)
async def test_what_is_no_profile_is_refused_and_changes_nothing(
    hal0: Operator, paths: Paths, path: str, body: dict[str, object], status: int, code: str
) -> None:
    before = paths.config_file.read_text()
    got, answer = await hal0.call("PUT", path, body)
    assert (got, answer["error"]["code"]) == (status, code)
    assert paths.config_file.read_text() == before


async def test_a_profile_that_is_not_there(hal0: Operator) -> None:
    for method in ("GET", "DELETE"):
        status, body = await hal0.call(method, "/api/profiles/nobody")
        assert (status, body["error"]["code"]) == (404, "profile.not_found")


async def test_every_value_of_a_start_says_who_said_it(hal0: Operator, paths: Paths) -> None:
    await hal0.call(
        "PUT",
        "/api/profiles/mine",
        {"context_size": 8192, "extra_args": ["-fa", "on", "--lora", "/models/a"], "request_defaults": {"top_k": 9}},
    )
    await hal0.call(
        "POST",
        "/api/slots",
        {
            "name": "coder", "model": "one", "profile": "mine", "device": "cpu", "env": {"A": "1"},
            "extra_args": ["--flash-attn", "off", "--lora", "/models/b"], "request_defaults": {"seed": 7},
        },
    )  # fmt: skip
    status, view = await hal0.call("GET", "/api/slots/coder/resolved")
    assert (status, view["profile"], view["missing"]) == (200, "mine", None)
    fields = {it["name"]: (it["value"], it["origin"]) for it in view["fields"]}
    assert fields["context_size"] == (8192, "profile mine")
    assert fields["device"] == ("cpu", "slot")
    assert fields["model"] == ("one", "slot")
    assert fields["idle_timeout_s"] == (600, "default")
    own = paths.slots_config_dir / "coder.toml"
    assert next(it["where"] for it in view["fields"] if it["name"] == "device").startswith(f"{own}:")
    flags = {it["name"]: it for it in view["flags"]}
    assert flags["flash-attn"]["words"] == ["--flash-attn", "off"]
    assert flags["flash-attn"]["origin"] == "slot"
    assert flags["flash-attn"]["overrides"] == [{"words": ["-fa", "on"], "origin": "profile mine"}]
    loras = [(it["words"][1], it["origin"]) for it in view["flags"] if it["name"] == "lora"]
    assert loras == [("/models/a", "profile mine"), ("/models/b", "slot")]
    assert {it["name"]: it["origin"] for it in view["env"]}["A"] == "slot"
    assert {it["name"]: it["origin"] for it in view["request_defaults"]} == {"top_k": "profile mine", "seed": "slot"}
    assert view["command"][-4:] == ["--flash-attn", "off", "--lora", "/models/b"]


async def test_who_may_only_look_sees_no_variables_value(hal0: Operator) -> None:
    wanted = {"name": "coder", "model": "one", "device": "cpu", "env": {"A_TOKEN": "secret-word"}}
    assert (await hal0.call("POST", "/api/slots", wanted))[0] == 201
    for scope, seen in (("read", False), ("admin", True)):
        _, made = await hal0.call("POST", "/api/keys", {"label": scope, "scopes": [scope]})
        headers = {"Authorization": f"Bearer {made['key']}"}
        status, view = await hal0.over_tcp("GET", "/api/slots/coder/resolved", headers=headers)
        assert status == 200
        assert "A_TOKEN" in {it["name"] for it in view["env"]}
        assert ("secret-word" in str(view)) is seen


async def test_without_a_model_there_is_no_command_and_it_says_why(hal0: Operator) -> None:
    await hal0.call("POST", "/api/slots", {"name": "coder", "model": "nobody"})
    _, view = await hal0.call("GET", "/api/slots/coder/resolved")
    assert view["command"] is None
    assert "nobody" in view["missing"]
    status, body = await hal0.call("GET", "/api/slots/nobody/resolved")
    assert (status, body["error"]["code"]) == (404, "slot.not_found")


async def test_the_engines_and_who_uses_them(hal0: Operator) -> None:
    _, body = await hal0.call("GET", "/api/providers")
    by_name = {it["name"]: it for it in body["items"]}
    assert list(by_name) == ["llama.cpp", "flm", "moonshine", "kokoro", "comfyui", "upstream"]
    assert "primary" in by_name["llama.cpp"]["slots"]
    assert by_name["flm"]["at_once"] == 1
    status, one = await hal0.call("GET", "/api/providers/flm")
    assert (status, one) == (200, by_name["flm"])
    status, answer = await hal0.call("GET", "/api/providers/nobody")
    assert (status, answer["error"]["code"]) == (404, "provider.not_found")


async def test_what_a_slot_has_done(hal0: Operator) -> None:
    status, view = await hal0.call("GET", "/api/slots/primary/metrics")
    assert status == 200
    assert (view["slot"], view["in_flight"], view["requests"], view["live"], view["engine"]) == (
        "primary",
        0,
        {},
        None,
        {},
    )


async def test_the_events_of_one_slot_are_of_no_other(hal0: Operator) -> None:
    async with hal0.api.get("/api/slots/primary/events") as events:
        await hal0.call("POST", "/api/slots/embed/unload?wait=true")
        await hal0.call("POST", "/api/slots/primary/load?wait=true")
        seen: list[tuple[str, str]] = []
        while ("slot", "ready") not in seen:
            event = await asyncio.wait_for(events.content.readuntil(b"\n\n"), 5)
            if event.startswith(b":"):
                continue
            data = json.loads(event.partition(b"data: ")[2])
            if data["topic"] == "hello":
                continue
            value = data["value"]
            assert "primary" in (data["id"], value.get("target"))
            seen.append((data["topic"], value["state"]))
    assert ("job", "running") in seen or ("job", "queued") in seen
