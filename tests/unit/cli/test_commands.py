"""Each command against a scripted hal0: what is asked of the API, what is said where, and the exit code."""

import io
import json
import threading
import time
from pathlib import Path
from urllib.parse import unquote

import pytest

from hal0.cli.exits import Exit
from hal0.vocab import FailureClass, SlotState
from hal0.wire.jobs import JobKind, JobState, JobView
from hal0.wire.slots import FailureView, LogLineView
from hal0.wire.system import CheckState, CheckView
from tests.fakes.api_server import ApiServer, error, serving
from tests.fakes.api_views import MODEL, slot_view, warming
from tests.unit.cli.conftest import Run


def test_ps_shows_loaded_slots_on_stdout_and_memory_on_stderr(api: ApiServer, hal0ctl: Run) -> None:
    api.slots["img"] = slot_view("img", SlotState.ERROR)
    ran = hal0ctl("ps")
    assert ran.code == 0
    assert [line.split()[0] for line in ran.out.splitlines()] == ["NAME", "primary"]
    assert ran.err == ("Memory 61.1 GB of 82.0 GB, 20.9 GB free.  1 slot needs attention: hal0ctl slot show img\n")


@pytest.mark.parametrize(
    "args", [("-o", "json", "slot", "list"), ("slot", "-o", "json", "list"), ("slot", "ls", "-ojson")]
)
def test_global_flags_before_between_and_after(api: ApiServer, hal0ctl: Run, args: tuple[str, ...]) -> None:
    ran = hal0ctl(*args)
    items = json.loads(ran.out)
    assert [s["name"] for s in items] == ["primary", "embed", "img"]
    assert items[0]["since"].endswith("Z")
    assert items[0].keys() == api.slots["primary"].model_dump().keys()
    assert not ran.err


def test_the_later_flag_wins(api: ApiServer, hal0ctl: Run) -> None:
    assert hal0ctl("-o", "json", "slot", "list", "-o", "name").out == "primary\nembed\nimg\n"


def test_empty_list_is_an_empty_array(api: ApiServer, hal0ctl: Run) -> None:
    assert json.loads(hal0ctl("job", "list", "-o", "json").out) == []
    assert hal0ctl("job", "list", "-o", "jsonl").out == ""


def test_columns(api: ApiServer, hal0ctl: Run) -> None:
    assert hal0ctl("slot", "list", "--columns", "state,name", "--no-headers").out.splitlines()[0] == "ready    primary"
    ran = hal0ctl("slot", "list", "--columns", "nope")
    assert (ran.code, ran.out) == (Exit.USAGE, "")
    assert "there are: name, state" in ran.err


def test_load_waits_and_shows_each_step(api: ApiServer, hal0ctl: Run) -> None:
    def script(server: ApiServer, job: JobView) -> None:
        began = time.time()
        server.set_slot(slot_view("img", SlotState.STARTING, since=began))
        server.set_slot(warming("img", 0.2, since=began + 3))
        server.set_slot(warming("img", 0.57, since=began + 3))
        server.set_slot(slot_view("img", SlotState.READY, model="sdxl"))
        server.end_job(job.id)

    api.script = script
    ran = hal0ctl("slot", "load", "img")
    assert (ran.code, ran.out) == (0, "")
    assert ran.err.splitlines()[-1] == "img is ready with sdxl"
    assert ("POST", "/api/slots/img/load", {}) in api.requests


def test_load_with_model_and_no_wait_prints_the_job(api: ApiServer, hal0ctl: Run) -> None:
    ran = hal0ctl("slot", "load", "primary", "--model", "m", "--no-wait")
    assert (ran.code, ran.out) == (0, "job_0001\n")
    assert ("POST", "/api/slots/primary/load", {"model": "m"}) in api.requests


@pytest.mark.parametrize("args", [("primary", "m"), ("primary", "--model", "m"), ("primary", "--model=m")])
def test_swap_takes_both_spellings(api: ApiServer, hal0ctl: Run, args: tuple[str, ...]) -> None:
    assert hal0ctl("slot", "swap", *args).code == 0
    assert ("POST", "/api/slots/primary/swap", {"model": "m"}) in api.requests


@pytest.mark.parametrize(
    ("state", "member", "code"),
    [
        (JobState.FAILED, {"code": "slot.memory_budget", "message": "cannot load: needs 33.8 GB"}, Exit.REFUSED),
        (JobState.FAILED, {"code": "model.not_found", "message": "cannot find m"}, Exit.NOT_FOUND),
        (JobState.FAILED, {"code": "slot.load_failed", "message": "cannot load"}, Exit.FAILED),
        (JobState.SUPERSEDED, None, Exit.FAILED),
        (JobState.CANCELLED, None, Exit.FAILED),
    ],
)
def test_a_job_that_ends_badly_decides_the_exit_code(
    api: ApiServer, hal0ctl: Run, state: JobState, member: dict[str, str] | None, code: Exit
) -> None:
    api.script = lambda server, job: server.end_job(job.id, state, error=member)
    ran = hal0ctl("slot", "load", "primary")
    assert (ran.code, ran.out) == (code, "")
    assert (member["message"] if member else state.value) in ran.err


def test_a_wait_that_is_too_short_names_the_job_that_continues(api: ApiServer, hal0ctl: Run) -> None:
    api.script = lambda server, job: None
    ran = hal0ctl("slot", "load", "primary", "--timeout", "0.2")
    assert (ran.code, ran.out) == (Exit.TIMED_OUT, "")
    assert "hal0ctl job wait job_0001" in ran.err


def test_a_job_is_seen_to_end_even_if_every_event_is_lost(api: ApiServer, hal0ctl: Run) -> None:
    api.silent_events = True
    assert hal0ctl("slot", "load", "primary").code == 0


def test_a_restart_of_hal0_is_waited_through(home: Path, hal0ctl: Run) -> None:
    socket = home / "run" / "hal0.sock"
    before = ApiServer(slots={"primary": slot_view("primary")}, script=lambda server, job: None)
    up = threading.Event()

    def restart() -> None:
        with serving(before, socket):
            up.set()
            before.listened_to()
        socket.unlink()
        done = {i: job.model_copy(update={"state": JobState.DONE, "ended_at": 2.0}) for i, job in before.jobs.items()}
        with serving(ApiServer(slots={"primary": slot_view("primary", SlotState.READY)}, jobs=done), socket):
            finished.wait(20)

    finished = threading.Event()
    thread = threading.Thread(target=restart)
    thread.start()
    assert up.wait(20)
    ran = hal0ctl("slot", "load", "primary")
    finished.set()
    thread.join(20)
    assert ran.code == 0, ran.err


def test_a_log_that_fails_midway_is_an_error(api: ApiServer, hal0ctl: Run) -> None:
    api.log_error = {"code": "engine.unreachable", "message": "cannot read the log"}
    ran = hal0ctl("logs", "primary", "-f")
    assert ran.code == Exit.FAILED
    assert "[engine.unreachable]" in ran.err


def test_unload_of_several_says_which_failed(api: ApiServer, hal0ctl: Run) -> None:
    ran = hal0ctl("slot", "unload", "primary", "nope", "--drain", "3")
    assert ran.code == Exit.PARTLY
    assert "error: nope:" in ran.err
    assert ("POST", "/api/slots/primary/unload", {"drain_s": 3.0}) in api.requests
    assert hal0ctl("slot", "unload").code == Exit.USAGE


def test_unload_all(api: ApiServer, hal0ctl: Run) -> None:
    assert hal0ctl("slot", "unload", "--all").code == 0
    assert [r[1] for r in api.requests if r[0] == "POST"] == ["/api/slots/primary/unload"]


@pytest.mark.parametrize(("name", "code"), [("primary", 0), ("img", Exit.CHECK_FAILED), ("nope", Exit.NOT_FOUND)])
def test_is_ready_is_quiet(api: ApiServer, hal0ctl: Run, name: str, code: int) -> None:
    ran = hal0ctl("slot", "is-ready", name)
    assert (ran.code, ran.out) == (code, "")


def test_wait_for_a_state(api: ApiServer, hal0ctl: Run) -> None:
    assert hal0ctl("slot", "wait", "primary").code == 0
    assert hal0ctl("slot", "wait", "img", "--for", "offline").code == 0
    ran = hal0ctl("slot", "wait", "img", "--for", "ready", "--timeout", "0.2")
    assert ran.code == Exit.TIMED_OUT


def test_wait_gives_up_on_a_permanent_failure(api: ApiServer, hal0ctl: Run) -> None:
    failure = FailureView(
        failure_class=FailureClass.PERMANENT, code="slot.load_failed", message="cannot load: not a GGUF", exit_code=1,
        signal=None, oom=False, log_tail=["\x1b[31mbad magic"], at=1.0, attempt=1, next_attempt_at=None,
    )  # fmt: skip
    api.slots["img"] = slot_view("img", SlotState.ERROR, failure=failure)
    ran = hal0ctl("slot", "wait", "img")
    assert ran.code == Exit.FAILED
    assert "not a GGUF" in ran.err
    shown = hal0ctl("slot", "show", "img").out
    assert "| bad magic" in shown
    assert "\x1b" not in shown


def test_unknown_slot_offers_the_nearest(api: ApiServer, hal0ctl: Run) -> None:
    ran = hal0ctl("slot", "show", "primry")
    assert (ran.code, ran.out) == (Exit.NOT_FOUND, "")
    assert "Did you mean 'primary'?" in ran.err


@pytest.mark.parametrize("name", ["a b", "primär", "слот", "primary/resolved", "primary?x", "primary#x", "a\nb", "%2e"])
@pytest.mark.parametrize("noun", ["slot", "upstream", "profile", "provider", "job"])
def test_a_name_is_asked_for_as_it_was_typed(api: ApiServer, hal0ctl: Run, noun: str, name: str) -> None:
    assert hal0ctl(noun, "show", name).code == Exit.NOT_FOUND
    [(_, path, _)] = api.requests
    assert unquote(path) == f"/api/{noun}s/{name}"
    assert path.count("/") == 3
    assert not set("?# ") & set(path)


@pytest.mark.parametrize(("args", "near"), [(("slto",), "slot"), (("slot", "lst"), "list")])
def test_unknown_command_offers_the_nearest(hal0ctl: Run, args: tuple[str, ...], near: str) -> None:
    ran = hal0ctl(*args)
    assert ran.code == Exit.USAGE
    assert f"Did you mean {near!r}?" in ran.err


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        (401, "auth.required", Exit.NOT_ALLOWED),
        (403, "auth.forbidden", Exit.NOT_ALLOWED),
        (404, "slot.not_found", Exit.NOT_FOUND),
        (409, "slot.illegal_transition", Exit.REFUSED),
        (422, "config.invalid", Exit.REFUSED),
        (500, "system.internal", Exit.FAILED),
        (504, "engine.timeout", Exit.FAILED),
        (507, "slot.memory_budget", Exit.REFUSED),
        (409, "a.code_of_tomorrow", Exit.REFUSED),
    ],
)
def test_exit_codes_of_errors(api: ApiServer, hal0ctl: Run, status: int, code: str, exit_code: Exit) -> None:
    api.replies["GET", "/api/slots"] = error(status, code, "cannot do it")
    ran = hal0ctl("ps", "-o", "json")
    assert (ran.code, ran.out) == (exit_code, "")
    assert json.loads(ran.err)["error"] == {
        "code": code, "message": "cannot do it", "details": {}, "hint": None, "request_id": "req_01",
    }  # fmt: skip


@pytest.mark.parametrize("args", [("ps",), ("slot", "load", "primary"), ("slot", "is-ready", "x"), ("job", "list")])
def test_daemon_down(hal0ctl: Run, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]) -> None:
    monkeypatch.setenv("HAL0_URL", "http://127.0.0.1:9")
    ran = hal0ctl(*args)
    assert (ran.code, ran.out) == (Exit.UNREACHABLE, "")
    assert "http://127.0.0.1:9 (HAL0_URL)" in ran.err
    assert "start it with: hal0 serve" in ran.err


def test_jobs(api: ApiServer, hal0ctl: Run) -> None:
    api.script = lambda server, job: None
    hal0ctl("slot", "load", "primary", "--no-wait")
    assert "job_0001  load  primary  running" in hal0ctl("job", "list", "--running").out
    assert hal0ctl("op", "cancel", "job_0001").code == 0
    assert api.jobs["job_0001"].state is JobState.CANCELLED
    assert hal0ctl("job", "wait", "job_0001").code == Exit.FAILED
    assert hal0ctl("job", "show", "job_9").code == Exit.NOT_FOUND
    assert JobKind.LOAD in hal0ctl("job", "show", "job_0001").out


@pytest.mark.parametrize("follow", [(), ("-f",)])
def test_logs_are_stripped_filtered_and_named(api: ApiServer, hal0ctl: Run, follow: tuple[str, ...]) -> None:
    api.logs["primary"] = [LogLineView(stream="stderr", text="\x1b[31mload\x1b[0m\n", at=0.0)]
    api.logs["img"] = [LogLineView(stream="stdout", text=t, at=None) for t in ("noise", "load it")]
    assert hal0ctl("slot", "logs", "primary", "-t", *follow).out == "1970-01-01T00:00:00.000Z load\n"
    ran = hal0ctl("logs", "primary", "img", "--grep", "load", *follow)
    assert sorted(ran.out.splitlines()) == ["img     | load it", "primary | load"]
    assert json.loads(hal0ctl("logs", "primary", "-o", "json", *follow).out)["slot"] == "primary"
    assert hal0ctl("logs", "primary", "--grep", "(").code == Exit.USAGE


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stdin", stream)
    return stream


def _asked(api: ApiServer) -> dict[str, object]:
    return next(body for method, path, body in api.requests if path == "/v1/chat/completions")


@pytest.mark.parametrize(
    ("args", "piped", "model", "prompt"),
    [
        (("hello",), "", "primary", "hello"),
        (("Why", "blue?"), "", "primary", "Why blue?"),
        (("img", "hello"), "", "img", "hello"),
        ((MODEL, "hello"), "", MODEL, "hello"),
        (("-m", "x", "img", "hello"), "", "x", "img hello"),
        (("Summarise:",), "a long text\n", "primary", "Summarise: a long text"),
        ((), "only stdin", "primary", "only stdin"),
    ],
)
def test_chat_target_and_prompt(
    api: ApiServer, hal0ctl: Run, stdin: io.StringIO, args: tuple[str, ...], piped: str, model: str, prompt: str
) -> None:
    stdin.write(piped)
    stdin.seek(0)
    ran = hal0ctl("chat", *args)
    assert (ran.code, ran.out) == (0, "Hello there\n")
    asked = _asked(api)
    assert (asked["model"], asked["messages"]) == (model, [{"role": "user", "content": prompt}])


def test_chat_options_and_stats(api: ApiServer, hal0ctl: Run, stdin: io.StringIO) -> None:
    ran = hal0ctl(
        "chat", "hi", "--system", "be brief", "--max-tokens=5", "--temperature", "0", "--seed", "1", "--stats"
    )
    asked = _asked(api)
    assert (asked["max_tokens"], asked["temperature"], asked["seed"]) == (5, 0.0, 1)
    assert asked["messages"] == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
    assert "7 tokens read, 3 written" in ran.err


def test_chat_with_a_picture_and_a_schema(api: ApiServer, hal0ctl: Run, stdin: io.StringIO, tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(b"PNG")
    (tmp_path / "s.json").write_text('{"type": "object"}')
    hal0ctl("chat", "hi", "--image", str(tmp_path / "p.png"), "--json-schema", str(tmp_path / "s.json"))
    text = json.dumps(_asked(api))
    assert "data:image/png;base64,UE5H" in text
    assert '"schema": {"type": "object"}' in text


def test_chat_as_json_is_the_completion(api: ApiServer, hal0ctl: Run, stdin: io.StringIO) -> None:
    assert json.loads(hal0ctl("chat", "hi", "-o", "json").out)["usage"]["completion_tokens"] == 3
    assert not _asked(api).get("stream")


def test_chat_error_frame_is_an_error(api: ApiServer, hal0ctl: Run, stdin: io.StringIO) -> None:
    api.chat_error = {"code": "slot.exited", "message": "cannot go on: the engine stopped"}
    ran = hal0ctl("chat", "hi")
    assert ran.code == Exit.FAILED
    assert "[slot.exited]" in ran.err


def test_chat_without_anything_to_ask(api: ApiServer, hal0ctl: Run, stdin: io.StringIO) -> None:
    assert hal0ctl("chat").code == Exit.USAGE


@pytest.mark.parametrize(("state", "code"), [(CheckState.OK, 0), (CheckState.FAIL, 9), (CheckState.SKIPPED, 0)])
def test_doctor_reports_what_hal0_checked(api: ApiServer, hal0ctl: Run, state: CheckState, code: int) -> None:
    api.checks = [CheckView(name="gpu", state=state, message="m", fix="do it")]
    ran = hal0ctl("doctor")
    assert ran.code == code
    counted = {"ok": "2 ok", "fail": "1 ok, 1 failure", "skipped": "1 ok, 1 skipped"}
    assert ran.out.splitlines()[-1] == counted[state]


def test_doctor_that_is_told_little_says_what_it_could_not_see(api: ApiServer, hal0ctl: Run) -> None:
    """Over TCP health is short: no pid, no checks."""
    api.replies[("GET", "/api/health")] = (200, {"status": "ok", "version": "9.9", "slots": {}})
    ran = hal0ctl("doctor", "-o", "json")
    assert ran.code == 0
    assert [(check["name"], check["state"]) for check in json.loads(ran.out)] == [("daemon", "ok"), ("host", "skipped")]


def test_doctor_without_a_daemon_looks_itself(hal0ctl: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAL0_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("PATH", "/nonexistent")
    ran = hal0ctl("doctor", "-o", "json")
    states = {c["name"]: c["state"] for c in json.loads(ran.out)}
    assert ran.code == Exit.CHECK_FAILED
    assert states == {
        "daemon": "fail", "python": "ok", "podman": "fail", "state": "ok", "run": "ok", "lock": "ok",
        "slots": "skipped",
    }  # fmt: skip


def test_status_exit_code(api: ApiServer, hal0ctl: Run) -> None:
    assert hal0ctl("status", "--exit-code").code == 0
    api.slots["img"] = slot_view("img", SlotState.ERROR)
    ran = hal0ctl("status", "--exit-code")
    assert ran.code == Exit.CHECK_FAILED
    assert "attention slot img failed" in ran.out


def test_version_with_and_without_a_daemon(api: ApiServer, hal0ctl: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert json.loads(hal0ctl("version", "-o", "json").out)["hal0"] == "0.1.0"
    monkeypatch.setenv("HAL0_URL", "http://127.0.0.1:9")
    ran = hal0ctl("version")
    assert ran.code == 0
    assert "cannot reach hal0" in ran.out
