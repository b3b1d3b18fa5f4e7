"""`/api/upstreams` over real sockets: what is shown, and that an answered change is in the file and in force."""

import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from hal0.paths import Paths
from tests.fakes.backend import Backend, Talk, running
from tests.functional.operator_app import Operator, operator

SECRET = "sk-never-shown"


@asynccontextmanager
async def served(paths: Paths, ports: range, **upstreams: Any) -> AsyncIterator[Operator]:
    async with operator(paths, ports, config={"upstreams": upstreams} if upstreams else None) as it:
        yield it


def url(backend: Backend) -> str:
    return f"http://{backend.host}:{backend.port}/v1"


def on_disk(paths: Paths) -> dict[str, Any]:
    text = paths.config_file.read_text()
    assert text.startswith("# mine\n")
    upstreams: dict[str, Any] = tomllib.loads(text).get("upstreams", {})
    return upstreams


async def test_added_tested_changed_and_deleted(paths: Paths, port_block: range) -> None:
    async with running() as far, served(paths, port_block) as it:
        status, view = await it.call(
            "POST", "/api/upstreams", {"name": "far", "base_url": url(far), "prefix": "far/", "key": SECRET}
        )
        assert (status, view["state"], view["auth"]) == (
            201,
            "unknown",
            {"style": "bearer", "header": None, "env": None, "present": True},
        )
        assert on_disk(paths)["far"]["auth"] == {"style": "bearer", "secret": SECRET}
        assert paths.config_file.stat().st_mode & 0o777 == 0o600  # it holds a key now

        status, tested = await it.call("POST", "/api/upstreams/far/test")
        assert (status, tested["ok"], tested["status"], tested["models"]) == (200, True, 200, 1)
        assert far.seen[-1].header("Authorization") == f"Bearer {SECRET}"
        status, listed = await it.call("GET", "/api/upstreams/far/models")
        assert [(model["id"], model["theirs"]) for model in listed["items"]] == [("far/fake", "fake")]
        status, view = await it.call("GET", "/api/upstreams/far")
        assert (view["state"], view["models"]) == ("online", 1)
        async with it.tcp.get("/v1/models") as response:
            assert "far/fake" in {model["id"] for model in (await response.json())["data"]}

        status, view = await it.call("PATCH", "/api/upstreams/far", {"enabled": False})
        assert (status, view["state"], on_disk(paths)["far"]["enabled"]) == (200, "disabled", False)
        async with it.tcp.get("/v1/models") as response:
            assert "far/fake" not in {model["id"] for model in (await response.json())["data"]}
        status, view = await it.call("PATCH", "/api/upstreams/far", {"enabled": None, "prefix": None})
        assert (view["enabled"], view["prefix"]) == (True, None)
        assert set(on_disk(paths)["far"]) == {"base_url", "auth"}

        status, gone = await it.call("DELETE", "/api/upstreams/far")
        assert (status, gone, on_disk(paths)) == (200, {"name": "far"}, {})
        assert (await it.call("GET", "/api/upstreams/far"))[0] == 404


async def test_a_preset_fills_the_table_and_what_is_given_wins(paths: Paths, port_block: range) -> None:
    async with served(paths, port_block) as it:
        body = {"name": "or", "preset": "openrouter", "priority": 70}
        status, view = await it.call("POST", "/api/upstreams", body)
        assert (status, view["base_url"]) == (201, "https://openrouter.ai/api/v1")
        assert (view["state"], view["auth"]["env"]) == ("key_missing", "OPENROUTER_API_KEY")
        assert on_disk(paths)["or"]["auth"] == {"style": "bearer", "env": "OPENROUTER_API_KEY"}
        status, view = await it.call("POST", "/api/upstreams", {"name": "claude", "preset": "anthropic", "key": SECRET})
        assert on_disk(paths)["claude"]["auth"] == {"style": "header", "header": "x-api-key", "secret": SECRET}
        status, listed = await it.call("GET", "/api/upstreams")
        assert [item["name"] for item in listed["items"]] == ["or", "claude"]
        assert {"openrouter", "ollama", "hal0"} <= {preset["name"] for preset in listed["presets"]}
        assert SECRET not in str(listed)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"name": "x", "base_url": "ftp://x"}, "config.invalid", "base_url"),
        ({"name": "x", "base_url": "http://u:secret@x/v1"}, "config.invalid", "base_url"),
        ({"name": "X Y", "base_url": "http://x/v1"}, "config.invalid", "name"),
        ({"name": "x", "base_url": "http://x/v1", "colour": "red"}, "config.invalid", "colour"),
        ({"name": "x", "preset": "nobody"}, "config.invalid", "preset"),
        ({"name": "x", "preset": "hal0"}, "config.invalid", "base_url"),
        ({"name": "there", "base_url": "http://x/v1"}, "upstream.exists", None),
        ({"name": "x", "base_url": "http://x/v1", "auth": {"style": "bearer"}}, "config.invalid", "auth"),
    ],
)
async def test_a_wrong_one_is_refused_and_nothing_written(
    paths: Paths, port_block: range, body: dict[str, Any], code: str, param: str | None
) -> None:
    async with served(paths, port_block, there={"base_url": "http://there.example/v1"}) as it:
        before = paths.config_file.read_bytes()
        status, answered = await it.call("POST", "/api/upstreams", body)
        assert (answered["error"]["code"], answered["error"]["param"]) == (code, param)
        assert status in (409, 422)
        assert "secret@" not in str(answered)
        assert paths.config_file.read_bytes() == before


async def test_a_slot_that_stands_for_one_has_nothing_to_load(paths: Paths, port_block: range) -> None:
    async with running() as far, served(paths, port_block, far={"base_url": url(far)}) as it:
        slot = {"name": "coder", "provider": "upstream", "upstream": "far", "model": "fake", "autoload": True}
        status, view = await it.call("POST", "/api/slots", slot)
        assert (status, view["state"], view["message"]) == (201, "offline", "its requests go to upstream 'far'")
        for verb, body in (("load", {}), ("restart", {}), ("swap", {"model": "one"})):
            status, answered = await it.call("POST", f"/api/slots/coder/{verb}", body)
            assert (status, answered["error"]["code"]) == (409, "slot.illegal_transition")
        status, answered = await it.over_tcp("POST", "/v1/chat/completions", {"model": "coder", "messages": []})
        assert (status, answered["object"]) == (200, "chat.completion")
        assert (await it.call("DELETE", "/api/slots/coder"))[0] == 200


async def test_a_key_that_is_not_there_is_a_matter_for_somebody(paths: Paths, port_block: range) -> None:
    auth = {"style": "bearer", "env": "UNSET"}
    async with served(paths, port_block, far={"base_url": "http://far.example/v1", "auth": auth}) as it:
        _, status = await it.call("GET", "/api/status")
        assert any("far" in line and "UNSET" in line for line in status["attention"])


async def test_one_that_a_slot_stands_for_cannot_be_deleted(paths: Paths, port_block: range) -> None:
    async with served(paths, port_block, far={"base_url": "http://far.example/v1"}) as it:
        slot = {"name": "coder", "provider": "upstream", "upstream": "far", "model": "m"}
        assert (await it.call("POST", "/api/slots", slot))[0] == 201
        status, answered = await it.call("DELETE", "/api/upstreams/far")
        assert (status, answered["error"]["code"]) == (409, "upstream.in_use")
        assert answered["error"]["details"]["slots"] == ["coder"]


async def test_a_test_tells_what_is_wrong_and_a_refresh_fails_with_it(paths: Paths, port_block: range) -> None:
    async def rejects(talk: Talk) -> None:
        await talk.json({"error": "no"}, "401 Unauthorized")

    async with running() as far, served(paths, port_block, far={"base_url": url(far)}) as it:
        far.listing = rejects
        status, tested = await it.call("POST", "/api/upstreams/far/test")
        assert (status, tested["ok"], tested["status"], tested["code"]) == (200, False, 401, "upstream.broken")
        assert "rejected the key" in tested["message"]
        status, answered = await it.call("POST", "/api/upstreams/far/refresh")
        assert (status, answered["error"]["code"]) == (502, "upstream.broken")
        assert (await it.call("GET", "/api/upstreams/far"))[1]["state"] == "key_rejected"
        far.listing = None
        assert (await it.call("POST", "/api/upstreams/far/refresh"))[1]["state"] == "online"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/upstreams/nobody"),
        ("GET", "/api/upstreams/nobody/models"),
        ("PATCH", "/api/upstreams/nobody"),
        ("DELETE", "/api/upstreams/nobody"),
        ("POST", "/api/upstreams/nobody/test"),
        ("POST", "/api/upstreams/nobody/refresh"),
    ],
)
async def test_an_unknown_one_is_a_404(paths: Paths, port_block: range, method: str, path: str) -> None:
    async with served(paths, port_block) as it:
        status, answered = await it.call(method, path, {} if method != "GET" else None)
        assert (status, answered["error"]["code"]) == (404, "upstream.not_found")
