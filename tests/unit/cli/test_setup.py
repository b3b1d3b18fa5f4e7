"""`hal0ctl setup` against a scripted hal0: what is shown, what is sent, and how half a success ends."""

import json
from pathlib import Path
from typing import Any

import pytest

from hal0.cli.exits import Exit
from hal0.vocab import Capability, Device
from hal0.wire.jobs import JobKind, JobState, JobView
from hal0.wire.setup import SetupView, SuggestionView
from tests.fakes.api_server import ApiServer
from tests.unit.cli.conftest import Run

GB = 10**9


def suggestion(slot: str, model: str | None, **changes: Any) -> SuggestionView:
    values: dict[str, Any] = {
        "slot": slot, "capability": Capability.CHAT, "model": model, "purpose": "To talk.", "license": "apache-2.0",
        "size_bytes": 2 * GB, "memory_bytes": 3 * GB, "device": Device.CPU, "installed": False, "done": False,
        "why": "",
    }  # fmt: skip
    return SuggestionView(**{**values, **changes})


NOTHING: dict[str, Any] = {"size_bytes": 0, "memory_bytes": 0, "device": None, "license": "", "purpose": ""}


def view(**done: bool) -> dict[str, Any]:
    items = [
        suggestion("primary", "qwen3-4b-q4_k_m", **done),
        suggestion("embed", "nomic", installed=True, size_bytes=GB // 10, **done),
        suggestion("img", None, why="no GPU was found", **NOTHING),
    ]
    return SetupView(
        machine="CPU only", memory_bytes=8 * GB, on_gpu=False, needed_bytes=6 * GB, download_bytes=2 * GB,
        disk_free_bytes=50 * GB, items=items,
    ).model_dump(mode="json")  # fmt: skip


@pytest.fixture(autouse=True)
def proposal(api: ApiServer) -> None:
    api.replies["GET", "/api/setup"] = (200, view())


def accept(api: ApiServer, script: Any = None) -> None:
    api.script = script
    job = api.start_job(JobKind.SETUP, "this machine")
    api.replies["POST", "/api/setup"] = (202, job.model_dump(mode="json"))


def sent(api: ApiServer) -> list[Any]:
    return [body for method, path, body in api.requests if (method, path) == ("POST", "/api/setup")]


def test_the_proposal_is_a_line_per_slot_and_a_sum(api: ApiServer, hal0ctl: Run) -> None:
    ran = hal0ctl("setup", "--dry-run")
    assert ran.code == 0
    head, primary, embed, img = ran.out.splitlines()
    assert head.split()[:4] == ["SLOT", "MODEL", "DOWNLOAD", "MEMORY"]
    assert primary.split() == [
        "primary",
        "qwen3-4b-q4_k_m",
        "2.0",
        "GB",
        "3.0",
        "GB",
        "cpu",
        "apache-2.0",
        "To",
        "talk.",
    ]
    assert embed.split()[:3] == ["embed", "nomic", "here"]
    assert img.split() == ["img", "-", "-", "-", "-", "-", "no", "GPU", "was", "found"]
    assert "CPU only: 2.0 GB to download of 50.0 GB free, 6.0 GB of 8.0 GB of memory once they are loaded" in ran.err
    assert sent(api) == []
    assert json.loads(hal0ctl("setup", "--dry-run", "-o", "json").out) == view()


def test_it_asks_first_and_without_a_terminal_it_wants_a_yes(
    api: ApiServer, hal0ctl: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Path("/dev/null").open() as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        ran = hal0ctl("setup")
    assert (ran.code, sent(api)) == (Exit.USAGE, [])
    assert "Set up primary, embed?" in ran.err


def test_what_was_proposed_is_sent_with_what_was_said_put_over_it(api: ApiServer, hal0ctl: Run) -> None:
    accept(api)
    ran = hal0ctl("setup", "--yes", "--slot", "img=sd15", "--slot", "primary=mine", "--skip", "embed")
    assert ran.code == 0, ran.err
    assert sent(api) == [{"slots": {"primary": "mine", "img": "sd15"}}]
    assert "Try it: hal0ctl chat" in ran.err
    assert hal0ctl("setup", "--yes", "--slot", "img").code == Exit.USAGE
    assert "there are primary, embed, img" in hal0ctl("setup", "--yes", "--skip", "embde").err


def test_where_everything_is_set_up_nothing_is_sent(api: ApiServer, hal0ctl: Run) -> None:
    api.replies["GET", "/api/setup"] = (200, view(done=True))
    ran = hal0ctl("setup")
    assert (ran.code, sent(api)) == (0, [])
    assert "Everything is set up." in ran.err


@pytest.mark.parametrize(("done", "code"), [(["primary"], Exit.PARTLY), ([], Exit.FAILED)])
def test_what_failed_is_said_and_half_a_success_is_partly_done(
    api: ApiServer, hal0ctl: Run, done: list[str], code: Exit
) -> None:
    failed = {"embed": {"code": "pull.failed", "message": "cannot pull nomic"}}

    def fails(server: ApiServer, job: JobView) -> None:
        member = {
            "code": "setup.incomplete", "message": "cannot set up 1 of 2 slots: embed: cannot pull nomic",
            "details": {"done": done, "failed": failed}, "hint": "hal0ctl setup goes on where it stopped.",
            "type": "server_error", "param": None, "request_id": None,
        }  # fmt: skip
        server.end_job(job.id, JobState.FAILED, error=member)

    accept(api, fails)
    ran = hal0ctl("setup", "--yes")
    assert ran.code == code
    assert "cannot set up 1 of 2 slots: embed: cannot pull nomic.   [setup.incomplete]" in ran.err
    assert "hint: hal0ctl setup goes on where it stopped." in ran.err
