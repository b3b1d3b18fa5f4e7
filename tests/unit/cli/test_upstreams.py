"""`hal0ctl upstream` against a scripted hal0: what is sent, where a key may come from, and the exit codes."""

import io
from pathlib import Path
from typing import Any

import pytest

from hal0.cli.exits import Exit
from hal0.wire.upstreams import AuthView, CircuitView, UpstreamState, UpstreamTestView, UpstreamView
from tests.fakes.api_server import ApiServer, error
from tests.unit.cli.conftest import Run

URL = "http://far.example/v1"


def view(name: str = "far", **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "name": name, "base_url": URL, "kind": "openai", "enabled": True, "state": UpstreamState.ONLINE,
        "message": "2 models", "auth": AuthView(style="bearer", header=None, env="FAR_KEY", present=True),
        "prefix": "far/", "only": [], "priority": 50, "weight": 1, "models": 2, "listed_at": 1.0, "latency_ms": 9.0,
        "circuit": CircuitView(state="closed", failures=0, retry_at=None), "in_flight": 0, "requests": 3, "failures": 0,
    }  # fmt: skip
    return UpstreamView(**{**values, **changes}).model_dump(mode="json")


@pytest.fixture(autouse=True)
def known(api: ApiServer) -> None:
    listed = {"items": [view(), view("off", enabled=False, state=UpstreamState.DISABLED)], "presets": []}
    api.replies["GET", "/api/upstreams"] = (200, listed)
    api.replies["GET", "/api/upstreams/far"] = (200, view())
    api.replies["POST", "/api/upstreams"] = (201, view())
    for name in ("far", "off"):
        api.replies["POST", f"/api/upstreams/{name}/refresh"] = (200, view(name))
    api.replies["PATCH", "/api/upstreams/far"] = (200, view())
    api.replies["DELETE", "/api/upstreams/far"] = (200, {"name": "far"})


def test_the_list_says_how_each_is(hal0ctl: Run) -> None:
    ran = hal0ctl("upstream", "list")
    assert ran.code == 0
    head, far, off = ran.out.splitlines()
    assert head.split()[:3] == ["NAME", "STATE", "MODELS"]
    assert far.split()[:4] == ["far", "online", "2", URL]
    assert off.split()[:2] == ["off", "disabled"]


def test_one_is_shown_with_its_circuit(hal0ctl: Run) -> None:
    ran = hal0ctl("upstream", "show", "far")
    assert "circuit   closed" in ran.out
    assert "yes" in ran.out


@pytest.mark.parametrize(
    ("flags", "fields"),
    [
        (("--base-url", URL), {"base_url": URL}),
        (("--preset", "openrouter", "--key-env", "K"), {"preset": "openrouter", "key_env": "K"}),
        (
            ("--base-url", URL, "--kind", "hal0", "--prefix", "box/"),
            {"base_url": URL, "kind": "hal0", "prefix": "box/"},
        ),
        (("--base-url", URL, "--model", "a", "--model", "b"), {"base_url": URL, "models": ["a", "b"]}),
        (("--base-url", URL, "--priority", "9", "--weight", "3"), {"base_url": URL, "priority": 9, "weight": 3}),
    ],
)
def test_flags_become_fields(api: ApiServer, hal0ctl: Run, flags: tuple[str, ...], fields: dict[str, Any]) -> None:
    ran = hal0ctl("upstream", "add", "far", *flags)
    assert ran.code == 0
    assert api.requests[-1] == ("POST", "/api/upstreams", {"name": "far", **fields})
    assert "hal0ctl upstream test far" in ran.err


def test_a_key_comes_from_a_file_or_stdin_and_is_never_shown(
    api: ApiServer, hal0ctl: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "key"
    file.write_text(" sk-1\n")
    ran = hal0ctl("upstream", "add", "far", "--base-url", URL, "--key-file", str(file), "-v")
    assert api.requests[-1][2]["key"] == "sk-1"
    assert "sk-1" not in ran.out + ran.err
    monkeypatch.setattr("sys.stdin", io.StringIO("sk-2\n"))
    hal0ctl("upstream", "add", "far", "--base-url", URL, "--key-file", "-")
    assert api.requests[-1][2]["key"] == "sk-2"


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("--base-url", URL, "--key-file", "/nowhere/key"),
        ("--base-url", URL, "--key-file", "/dev/null"),
        ("--base-url", URL, "--key-file", "-", "--key-env", "K"),
        ("--base-url", URL, "--priority", "101"),
        ("--base-url", URL, "--weight", "0"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(api: ApiServer, hal0ctl: Run, flags: tuple[str, ...]) -> None:
    assert hal0ctl("upstream", "add", "far", *flags).code == Exit.USAGE
    assert api.requests == []


@pytest.mark.parametrize(("ok", "code"), [(True, Exit.DONE), (False, Exit.CHECK_FAILED)])
def test_a_test_ends_with_what_it_found(api: ApiServer, hal0ctl: Run, ok: bool, code: Exit) -> None:
    found = UpstreamTestView(
        name="far", ok=ok, status=200, latency_ms=9.4, models=2, code=None if ok else "upstream.broken", message="said"
    )
    api.replies["POST", "/api/upstreams/far/test"] = (200, found.model_dump(mode="json"))
    ran = hal0ctl("upstream", "test", "far")
    assert ran.code == code
    assert ran.out.startswith("far: said in 9 ms")
    assert ("[upstream.broken]" in ran.out) is not ok


def test_refresh_asks_those_that_are_on(api: ApiServer, hal0ctl: Run) -> None:
    assert hal0ctl("upstream", "refresh").code == 0
    assert [path for method, path, _ in api.requests if method == "POST"] == ["/api/upstreams/far/refresh"]


def test_a_refresh_that_fails_in_part_says_so(api: ApiServer, hal0ctl: Run) -> None:
    api.replies["POST", "/api/upstreams/off/refresh"] = error(502, "upstream.unreachable", "cannot reach it")
    ran = hal0ctl("upstream", "refresh", "far", "off")
    assert ran.code == Exit.PARTLY
    assert "off: cannot reach it" in ran.err
    assert hal0ctl("upstream", "refresh", "off").code == Exit.FAILED


@pytest.mark.parametrize(("verb", "on"), [("enable", True), ("disable", False)])
def test_switching(api: ApiServer, hal0ctl: Run, verb: str, on: bool) -> None:
    ran = hal0ctl("upstream", verb, "far")
    assert (ran.code, ran.err) == (0, f"far is {verb}d\n")
    assert api.requests[-1] == ("PATCH", "/api/upstreams/far", {"enabled": on})


def test_delete_asks_unless_told(api: ApiServer, hal0ctl: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert hal0ctl("upstream", "delete", "far").code == Exit.USAGE  # nobody is there to be asked
    assert "DELETE" not in {method for method, _, _ in api.requests}
    assert hal0ctl("upstream", "delete", "far", "-y").code == 0
    assert api.requests[-1][:2] == ("DELETE", "/api/upstreams/far")


def test_models_by_the_names_to_ask_for(api: ApiServer, hal0ctl: Run) -> None:
    model = {"id": "far/m", "theirs": "m", "context_length": 8192, "capabilities": []}
    api.replies["GET", "/api/upstreams/far/models"] = (200, {"items": [model], "listed_at": None})
    assert hal0ctl("upstream", "models", "far", "-o", "name").out == "far/m\n"


@pytest.mark.parametrize(
    ("flags", "fields"),
    [
        (("--priority", "0", "--weight", "3"), {"priority": 0, "weight": 3}),
        (("--prefix", ""), {"prefix": None}),
        (("--model", "a", "--model", "b"), {"models": ["a", "b"]}),
        (("--all-models",), {"models": None}),
        (("--base-url", URL, "--kind", "hal0"), {"base_url": URL, "kind": "hal0"}),
        (("--key-env", "NEW"), {"auth": {"style": "bearer", "env": "NEW"}}),
    ],
)
def test_what_is_set_is_all_that_is_sent(
    api: ApiServer, hal0ctl: Run, flags: tuple[str, ...], fields: dict[str, Any]
) -> None:
    assert hal0ctl("upstream", "set", "far", *flags).code == 0
    assert api.requests[-1] == ("PATCH", "/api/upstreams/far", fields)


@pytest.mark.parametrize(
    ("now", "sent"),
    [
        (AuthView(style="none", header=None, env=None, present=False), {"style": "bearer", "secret": "sk-1"}),
        (
            AuthView(style="header", header="x-api-key", env=None, present=True),
            {"style": "header", "header": "x-api-key", "secret": "sk-1"},
        ),
    ],
)
def test_another_key_goes_where_the_old_one_went_and_is_never_shown(
    api: ApiServer, hal0ctl: Run, tmp_path: Path, now: AuthView, sent: dict[str, str]
) -> None:
    api.replies["GET", "/api/upstreams/far"] = (200, view(auth=now))
    file = tmp_path / "key"
    file.write_text("sk-1\n")
    ran = hal0ctl("upstream", "set", "far", "--key-file", str(file), "-v")
    assert api.requests[-1] == ("PATCH", "/api/upstreams/far", {"auth": sent})
    assert "sk-1" not in ran.out + ran.err


@pytest.mark.parametrize(
    "flags", [(), ("--model", "a", "--all-models"), ("--key-file", "-", "--key-env", "K"), ("--weight", "0")]
)
def test_a_change_that_makes_no_sense_is_not_sent(api: ApiServer, hal0ctl: Run, flags: tuple[str, ...]) -> None:
    assert hal0ctl("upstream", "set", "far", *flags).code == Exit.USAGE
    assert all(method != "PATCH" for method, _, _ in api.requests)
