"""`hal0ctl up` once the daemon answers: image, demonstration model, load, and a text that is true."""

import json
import shlex
import socket
from pathlib import Path
from typing import Any

import pytest

from hal0.cli import first_model
from hal0.cli.exits import Exit
from hal0.cli.welcome import local_url, own_command
from hal0.vocab import SlotState
from hal0.wire.jobs import JobKind, JobState, JobView
from tests.fakes.api_server import ApiServer, error
from tests.fakes.api_views import image_view, slot_view
from tests.unit.cli.conftest import Run


@pytest.fixture(autouse=True)
def _internet_is_said_to_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")


def _posted(api: ApiServer) -> list[str]:
    return [path for method, path, _ in api.requests if method == "POST"]


def test_from_nothing_to_a_loaded_demo(api: ApiServer, hal0ctl: Run) -> None:
    def script(server: ApiServer, job: JobView) -> None:
        if job.kind is JobKind.LOAD:
            server.set_slot(slot_view("primary", SlotState.READY, model="demo", demo=True))
        server.end_job(job.id)

    api.slots["primary"] = slot_view("primary", SlotState.OFFLINE, model=None)
    api.images["cpu"] = image_view("cpu")
    api.replies["POST", "/api/models/demo"] = (200, {"id": "demo"})
    api.replies["GET", "/api/catalog"] = (200, CATALOG)
    api.script = script
    ran = hal0ctl("up")
    assert ran.code == 0
    assert _posted(api) == ["/api/images/cpu/build", "/api/models/demo", "/api/slots/primary/load"]
    assert "wrote demo, a tiny demonstration model whose answers are noise" in ran.err
    assert "curl -N http://127.0.0.1:8080/v1/chat/completions" in ran.out
    assert "hal0ctl setup\n" in ran.out


def test_what_is_there_is_not_made_again(api: ApiServer, hal0ctl: Run) -> None:
    ran = hal0ctl("up")
    assert ran.code == 0
    assert _posted(api) == []
    assert "hal0 is already running" in ran.err
    assert "hal0ctl setup\n" not in ran.out


def test_installed_models_need_no_demo_and_a_present_image_no_build(api: ApiServer, hal0ctl: Run) -> None:
    api.slots["primary"] = slot_view("primary", SlotState.OFFLINE)
    api.images["cpu"] = image_view("cpu", local_id="sha256:1", source="local")
    api.replies["POST", "/api/models/demo"] = error(409, "model.exists", "models are installed")
    assert hal0ctl("up").code == 0
    assert _posted(api) == ["/api/models/demo", "/api/slots/primary/load"]


def test_a_pull_that_fails_is_followed_by_a_build(api: ApiServer, hal0ctl: Run) -> None:
    def script(server: ApiServer, job: JobView) -> None:
        if job.kind is JobKind.IMAGE_PULL:
            member = {"code": "engine.failed", "message": "cannot pull: no such host"}
            server.end_job(job.id, JobState.FAILED, error=member)
        else:
            server.end_job(job.id)

    api.slots["primary"] = slot_view("primary", SlotState.OFFLINE)
    api.images["cpu"] = image_view("cpu", digest="sha256:2", pullable=True)
    api.script = script
    ran = hal0ctl("up")
    assert ran.code == 0
    assert _posted(api)[:2] == ["/api/images/cpu/pull", "/api/images/cpu/build"]
    assert "no such host; building it instead" in ran.err


def test_json_output_is_one_object(api: ApiServer, hal0ctl: Run) -> None:
    answer = json.loads(hal0ctl("up", "-o", "json").out)
    assert answer["primary"]["state"] == "ready"
    assert answer["status"]["version"] == "0.1.0"


def test_up_is_for_this_machine(hal0ctl: Run) -> None:
    assert hal0ctl("up", "--url", "http://box:8080").code == Exit.USAGE


def test_a_seed_that_is_not_here_is_not_fetched_because_hal0_is_started(api: ApiServer, hal0ctl: Run) -> None:
    api.slots["primary"] = slot_view("primary", SlotState.OFFLINE, model="big-q4_k_m")
    api.images["cpu"] = image_view("cpu", local_id="sha256:1", source="local")
    api.replies["POST", "/api/models/demo"] = error(409, "model.exists", "models are installed")
    api.replies["GET", "/api/models/big-q4_k_m"] = error(503, "model.not_downloaded", "it is not downloaded, 20.0 GB")
    ran = hal0ctl("up")
    assert ran.code == 0
    assert _posted(api) == ["/api/models/demo"]
    assert "it is not downloaded, 20.0 GB; hal0ctl slot load primary fetches it" in ran.err


@pytest.mark.parametrize(
    "told", [error(404, "request.not_found", "there is no such path"), (200, {"items": [], "memory_bytes": 1})]
)
def test_a_hal0_from_before_the_catalog_or_its_hub_still_comes_up(
    api: ApiServer, hal0ctl: Run, told: tuple[int, dict[str, Any]]
) -> None:
    api.set_slot(slot_view("primary", SlotState.READY, model="demo", demo=True))
    api.replies["GET", "/api/catalog"] = told
    ran = hal0ctl("up")
    assert ran.code == 0
    assert "cp FILE.gguf" in ran.out


CHOICE = {"id": "big-q4_k_m", "name": "Big", "size_bytes": 20 * 10**9, "license": "mit", "slots": ["primary"]}
CATALOG = {"items": [{"id": "small", "slots": []}, CHOICE], "memory_bytes": 64 * 10**9, "hub": "https://hub.example"}


def test_the_advice_is_what_the_catalog_recommends_to_talk_to(tmp_path: Path) -> None:
    assert first_model.first_choice(CATALOG) == CHOICE
    told = first_model.advice(tmp_path, "sudo hal0ctl", internet=True, choice=CHOICE)
    assert "Big (20.0 GB) to talk to" in told[0]
    assert told[1].strip() == "sudo hal0ctl setup"


@pytest.mark.parametrize(("internet", "why"), [(False, "no internet"), (True, "none that fits this machine")])
def test_without_internet_or_memory_the_advice_is_another(tmp_path: Path, internet: bool, why: str) -> None:
    assert first_model.first_choice({"items": [{"id": "small", "slots": ["embed"]}]}) is None
    told = first_model.advice(tmp_path, "sudo hal0ctl", internet=internet, choice=None)
    assert why in told[0]
    assert told[-1].strip().startswith("sudo cp FILE.gguf")


def test_printed_commands_work_from_this_shell(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "hal0ctl"
    program.parent.mkdir()
    program.write_text("")
    program.chmod(0o755)
    found, elsewhere = {"PATH": str(program.parent)}, {"PATH": "/nowhere"}
    assert own_command(found, program=str(program)) == "hal0ctl"
    assert own_command(elsewhere, program=".venv/bin/hal0ctl") == ".venv/bin/hal0ctl"
    assert own_command({**found, "HAL0_HOME": "/x"}, program=str(program)) == "HAL0_HOME=/x hal0ctl"
    spaced = own_command({**elsewhere, "HAL0_HOME": "/my models"}, program="/my code/bin/hal0ctl")
    assert shlex.split(spaced) == ["HAL0_HOME=/my models", "/my code/bin/hal0ctl"]
    told = first_model.advice(Path("/my models/var"), "hal0ctl", internet=False, choice=None)
    assert shlex.split(told[-1])[:3] == ["cp", "FILE.gguf", "/my models/var/"]
    assert own_command({**found, "SUDO_UID": "1000"}, program=str(program), uid=0) == "sudo hal0ctl"


def test_the_internet_is_looked_for_within_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HTTPS_PROXY")
    monkeypatch.delenv("https_proxy", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert first_model.internet(f"http://127.0.0.1:{port}/mirror", timeout_s=5)
    for nowhere in (f"http://127.0.0.1:{port}", f"mirror.example:{port}", "http://[x", "http://x:99999"):
        assert not first_model.internet(nowhere, timeout_s=0.2)


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://0.0.0.0:8080", "http://127.0.0.1:8080"),
        ("http://[::]:8081", "http://127.0.0.1:8081"),
        ("http://192.0.2.7:9", "http://192.0.2.7:9"),
        ("http://[2001:db8::1]:9", "http://[2001:db8::1]:9"),
    ],
)
def test_local_url(url: str, local: str) -> None:
    assert local_url(url) == local
