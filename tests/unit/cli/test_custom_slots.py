"""`hal0ctl slot create` and `delete` against a scripted hal0: what is sent, what is asked, what is refused."""

import io
from typing import Any

import pytest

from hal0.cli.exits import Exit
from hal0.vocab import SlotState
from tests.fakes.api_server import ApiServer, error
from tests.fakes.api_views import MODEL, slot_view
from tests.unit.cli.conftest import Run

CREATE = ("slot", "create", "coder", "--model", MODEL)


@pytest.fixture(autouse=True)
def made(api: ApiServer) -> None:
    view = slot_view("coder")
    api.slots["coder"] = view
    api.replies["POST", "/api/slots"] = (201, view.model_dump(mode="json"))
    api.replies["DELETE", "/api/slots/coder"] = (200, {"name": "coder"})


def sent(api: ApiServer) -> list[tuple[str, str]]:
    return [(method, path) for method, path, _ in api.requests if method != "GET"]


@pytest.mark.parametrize(
    ("flags", "fields"),
    [
        ((), {}),
        (("--ctx", "8192", "--parallel", "2"), {"context_size": 8192, "parallel": 2}),
        (("--provider", "llama.cpp", "--device", "cpu"), {"provider": "llama.cpp", "device": "cpu"}),
        (("--idle-timeout", "0", "--port", "8090"), {"idle_timeout_s": 0.0, "port": 8090}),
        (("--arg", "flash-attn=on", "--arg", "--no-mmap"), {"extra_args": ["--flash-attn", "on", "--no-mmap"]}),
        (("--arg", "-t=2"), {"extra_args": ["-t", "2"]}),
    ],
)
def test_flags_become_fields(api: ApiServer, hal0ctl: Run, flags: tuple[str, ...], fields: dict[str, Any]) -> None:
    ran = hal0ctl(*CREATE, *flags)
    assert ran.code == 0
    assert api.requests[-1] == ("POST", "/api/slots", {"name": "coder", "model": MODEL, **fields})
    assert "hal0ctl slot load coder" in ran.err


def test_create_and_load_waits_until_it_answers(api: ApiServer, hal0ctl: Run) -> None:
    assert hal0ctl(*CREATE, "--load").code == 0
    assert sent(api) == [("POST", "/api/slots"), ("POST", "/api/slots/coder/load")]


def test_a_dry_run_prints_the_file_and_makes_nothing(api: ApiServer, hal0ctl: Run) -> None:
    text = f'model = "{MODEL}"\n'
    draft = {"name": "coder", "file": "/etc/hal0/slots.d/coder.toml", "text": text}
    api.replies["POST", "/api/slots/draft"] = (200, draft)
    ran = hal0ctl(*CREATE, "--dry-run")
    assert (ran.code, ran.out) == (0, text)
    assert draft["file"] in ran.err
    assert sent(api) == [("POST", "/api/slots/draft")]


@pytest.mark.parametrize(
    ("status", "code"),
    [(422, "config.invalid"), (409, "slot.exists"), (409, "slot.reserved"), (409, "config.conflict")],
)
def test_a_refusal_is_passed_on(api: ApiServer, hal0ctl: Run, status: int, code: str) -> None:
    api.replies["POST", "/api/slots"] = error(status, code, "cannot create slot coder")
    ran = hal0ctl(*CREATE, "--load")
    assert ran.code == Exit.REFUSED
    assert f"[{code}]" in ran.err
    assert sent(api) == [("POST", "/api/slots")]


@pytest.mark.parametrize("flags", [("--arg", "=on"), ("--arg", "--=on"), ("--device", "tpu")])
def test_what_has_no_meaning_is_a_usage_error(api: ApiServer, hal0ctl: Run, flags: tuple[str, ...]) -> None:
    assert hal0ctl(*CREATE, *flags).code == Exit.USAGE
    assert api.requests == []


def test_delete_unloads_first(api: ApiServer, hal0ctl: Run) -> None:
    ran = hal0ctl("slot", "delete", "coder", "-y")
    assert (ran.code, ran.err) == (0, "coder is deleted\n")
    assert sent(api) == [("POST", "/api/slots/coder/unload"), ("DELETE", "/api/slots/coder")]


def test_a_pinned_slot_is_refused_before_it_is_unloaded(api: ApiServer, hal0ctl: Run) -> None:
    api.set_slot(slot_view("coder", SlotState.READY, pinned=True))
    api.replies["DELETE", "/api/slots/coder"] = error(409, "slot.pinned", "cannot delete slot coder: it is pinned")
    ran = hal0ctl("slot", "delete", "coder", "-y")
    assert ran.code == Exit.REFUSED
    assert "it is pinned" in ran.err
    assert sent(api) == [("DELETE", "/api/slots/coder")]


def test_delete_without_anybody_to_ask_needs_y(api: ApiServer, hal0ctl: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    ran = hal0ctl("slot", "delete", "coder")
    assert ran.code == Exit.USAGE
    assert "-y" in ran.err
    assert sent(api) == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "code"), [("y\n", Exit.DONE), ("n\n", Exit.INTERRUPTED), ("\n", Exit.INTERRUPTED)])
def test_delete_asks_on_a_terminal(
    api: ApiServer, hal0ctl: Run, monkeypatch: pytest.MonkeyPatch, answer: str, code: Exit
) -> None:
    api.set_slot(slot_view("coder", SlotState.READY))
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    ran = hal0ctl("slot", "delete", "coder")
    assert ran.code == code
    assert "Delete slot coder (ready" in ran.err + ran.out
    assert (("DELETE", "/api/slots/coder") in sent(api)) is (code is Exit.DONE)


def test_a_built_in_slot_is_refused_by_hal0_itself(api: ApiServer, hal0ctl: Run) -> None:
    api.replies["DELETE", "/api/slots/primary"] = error(409, "slot.reserved", "cannot delete slot primary")
    ran = hal0ctl("slot", "delete", "primary", "-y")
    assert ran.code == Exit.REFUSED
    assert sent(api) == [("DELETE", "/api/slots/primary")]
