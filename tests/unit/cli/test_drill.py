"""The drill's own judgement: where it runs, what counts as held, what it cleans up, how a broken answer is told."""

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hal0.cli import drill, drill_processes
from hal0.cli.drill_faults import FAULTS, Fault
from hal0.cli.drill_processes import Skip
from hal0.cli.drill_stage import Result, Stage
from hal0.cli.drill_watch import Talk, watch
from hal0.cli.exits import Exit
from hal0.client import ApiError, Client, Json, Target
from hal0.vocab import By, SlotState
from hal0.wire.jobs import JobKind, JobState, JobView
from tests.fakes.api_server import ApiServer, error
from tests.fakes.api_views import MODEL, slot_view
from tests.unit.cli.conftest import Run

LOADED = JobView(
    id="job_1", kind=JobKind.LOAD, target="drill", state=JobState.DONE, progress=None, error=None, note=None,
    by=By.OPERATOR, started_at=1.0, ended_at=1.5,
)  # fmt: skip


def held(_stage: Stage, result: Result) -> None:
    result.noticed_s, result.recovered_s, result.client = 0.021, 12.0, "answered"
    result.within("it is noticed", result.noticed_s, 0.1)


def missed(_stage: Stage, result: Result) -> None:
    result.promise(kept=False, words="no stream is cut")


def skipped(_stage: Stage, _result: Result) -> None:
    raise Skip("only root can do that")


def refused(_stage: Stage, _result: Result) -> None:
    raise ApiError("slot.deadline", "cannot wait any longer")


def interrupted(_stage: Stage, _result: Result) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def here(api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ApiServer:
    """A hal0 on this machine whose drill slot loads at once; its faults are the test's."""
    (tmp_path / "instance").write_text("a1b2c3d4\n")
    health, status = api.health() | {"pid": os.getpid()}, api.status() | {"state_dir": str(tmp_path)}
    api.replies |= {
        ("GET", "/api/health"): (200, health),
        ("GET", "/api/status"): (200, status),
        ("GET", "/api/models"): (200, {"items": [entry("big", 9), entry("used", 1, "primary")], "problems": []}),
        ("POST", "/api/slots"): (201, slot_view("drill").model_dump(mode="json")),
        ("POST", "/api/slots/drill/load"): (200, LOADED.model_dump(mode="json")),
        ("GET", "/api/slots/drill"): (200, slot_view("drill", SlotState.READY).model_dump(mode="json")),
        ("DELETE", "/api/slots/drill"): (200, {"name": "drill"}),
    }
    monkeypatch.setattr(drill, "FAULTS", (Fault("engine", "test", held),))
    return api


def entry(name: str, size: int, *slots: str) -> dict[str, object]:
    return {"id": name, "size_bytes": size, "capabilities": ["chat"], "slots": list(slots)}


def sent(api: ApiServer) -> list[tuple[str, str]]:
    return [(method, path) for method, path, _ in api.requests if method != "GET"]


def test_it_refuses_a_hal0_that_is_not_here(api: ApiServer, hal0ctl: Run) -> None:
    ran = hal0ctl("drill")
    assert ran.code == Exit.FAILED
    assert "[cli.not_here]" in ran.err
    assert sent(api) == []


def test_a_slot_of_an_earlier_drill_is_not_touched(here: ApiServer, hal0ctl: Run) -> None:
    here.slots["drill"] = slot_view("drill")
    ran = hal0ctl("drill")
    assert ran.code == Exit.REFUSED
    assert "hal0ctl slot delete drill" in ran.err
    assert sent(here) == []


@pytest.mark.parametrize(
    ("runs", "code", "summary"),
    [
        ([held], Exit.DONE, "1 held"),
        ([held, skipped], Exit.DONE, "1 held, 1 skipped"),
        ([skipped], Exit.CHECK_FAILED, "1 skipped"),
        ([held, missed], Exit.CHECK_FAILED, "1 held, 1 missed"),
        ([refused, held], Exit.CHECK_FAILED, "1 held, 1 missed"),
    ],
)
def test_what_was_not_seen_to_hold_does_not_pass(
    here: ApiServer, hal0ctl: Run, monkeypatch: pytest.MonkeyPatch, runs: list[object], code: Exit, summary: str
) -> None:
    faults = tuple(Fault(f"fault{number}", "test", run) for number, run in enumerate(runs))  # type: ignore[arg-type]
    monkeypatch.setattr(drill, "FAULTS", faults)
    ran = hal0ctl("drill")
    assert (ran.code, ran.err.splitlines()[-1]) == (code, summary)
    assert sent(here)[0] == ("POST", "/api/slots")
    assert sent(here)[-1] == ("DELETE", "/api/slots/drill")


def test_an_interrupted_drill_removes_its_slot(here: ApiServer, hal0ctl: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drill, "FAULTS", (Fault("engine", "test", interrupted),))
    assert hal0ctl("drill").code == Exit.INTERRUPTED
    assert sent(here)[-1] == ("DELETE", "/api/slots/drill")


def test_a_slot_that_does_not_load_is_removed_and_nothing_is_tried(here: ApiServer, hal0ctl: Run) -> None:
    here.replies["POST", "/api/slots/drill/load"] = error(409, "slot.memory_budget", "cannot load drill")
    assert hal0ctl("drill").code == Exit.REFUSED
    assert sent(here)[-1] == ("DELETE", "/api/slots/drill")


@pytest.mark.parametrize(
    ("models", "flags", "chosen"),
    [
        ([("big", 9), ("small", 2), ("used", 1, "primary")], (), "small"),
        ([("used", 3, "primary"), ("other", 2, "coder")], (), "other"),
        ([], (), "hal0-demo"),
        ([("small", 2)], ("--model", MODEL), MODEL),
    ],
)
def test_the_model_is_one_that_attracts_nobody(
    here: ApiServer, hal0ctl: Run, models: list[tuple[str, int]], flags: tuple[str, ...], chosen: str
) -> None:
    here.replies["GET", "/api/models"] = (200, {"items": [entry(*model) for model in models], "problems": []})
    here.replies["POST", "/api/models/demo"] = (200, {"id": "hal0-demo"})
    assert hal0ctl("drill", *flags).code == Exit.DONE
    body = next(body for method, path, body in here.requests if (method, path) == ("POST", "/api/slots"))
    assert (body["name"], body["model"], body["load_on_request"]) == ("drill", chosen, False)


def test_the_table_shows_times_and_what_a_client_saw(here: ApiServer, hal0ctl: Run) -> None:
    assert hal0ctl("drill").out.splitlines()[1].split() == ["engine", "held", "21", "ms", "12", "s", "answered"]


@pytest.mark.parametrize(
    ("took_s", "words"),
    [(0.1, []), (0.2, ["it is noticed within 0.1 s, took 0.2 s"]), (None, ["it is noticed within 0.1 s"])],
)
def test_a_time_is_held_against_its_bar(took_s: float | None, words: list[str]) -> None:
    result = Result("engine")
    result.within("it is noticed", took_s, 0.1)
    assert (result.missed, result.outcome) == (words, "missed" if words else "held")


def test_a_change_is_timed_from_the_fault_on(here: ApiServer, home: Path) -> None:
    here.slots["drill"] = slot_view("drill", SlotState.READY)
    del here.replies["GET", "/api/slots/drill"]

    later = threading.Timer(0.2, here.set_slot, (slot_view("drill", SlotState.READY, port=9),))

    def noticed(slot: Json) -> bool:
        if slot["state"] != "error":
            return False
        later.start()
        return True

    client = Client(Target(f"unix://{home}/run/hal0.sock", "test"))
    times = watch(
        client,
        "drill",
        lambda: here.set_slot(slot_view("drill", SlotState.ERROR)),
        noticed=noticed,
        recovered=lambda slot: slot["port"] == 9,
        within_s=60,
    )
    assert times.noticed_s is not None
    assert times.recovered_s is not None
    assert 0 <= times.noticed_s < times.recovered_s
    assert 0.2 <= times.recovered_s < 60


def test_what_never_happens_has_no_time(here: ApiServer, home: Path) -> None:
    here.slots["drill"] = slot_view("drill", SlotState.READY)
    client = Client(Target(f"unix://{home}/run/hal0.sock", "test"))
    never = watch(client, "drill", lambda: None, noticed=lambda _: False, recovered=lambda _: False, within_s=0.1)
    assert (never.noticed_s, never.recovered_s) == (None, None)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
WORD = b'data: {"choices": []}\n\n'
ERROR = b'data: {"error": {"code": "upstream.broken", "message": "m"}}\n\n'
UNTYPED = b'data: {"error": {"message": "m"}}\n\n'
LAST = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@contextlib.contextmanager
def answering(raw: bytes, path: Path) -> Iterator[Client]:
    """A server that answers one request with these bytes and hangs up."""

    def answer() -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as request:
            length = 0
            while line := request.readline().strip():  # the head ends with an empty line
                name, _, value = line.lower().partition(b":")
                length = int(value) if name == b"content-length" else length
            request.read(length)
            connection.sendall(raw)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=answer)
        thread.start()
        yield Client(Target(f"unix://{path}", "test"))
        thread.join()


@pytest.mark.parametrize(
    ("raw", "cut", "told", "words"),
    [
        (chunk(WORD) + LAST, False, False, "1 events, came to its end"),
        (chunk(WORD) + chunk(ERROR), True, True, "2 events, error upstream.broken, closed short"),
        (chunk(WORD) + chunk(ERROR) + LAST, True, False, "2 events, error upstream.broken, came to its end"),
        (chunk(WORD) + chunk(UNTYPED), True, False, "2 events, error None, closed short"),
        (chunk(WORD), True, False, "1 events, closed short"),
        (chunk(WORD)[:9], True, False, "0 events, closed short"),
        (LAST, True, False, "0 events, came to its end"),
    ],
)
def test_how_an_answer_ended_is_told_apart(home: Path, raw: bytes, cut: bool, told: bool, words: str) -> None:
    with answering(HEAD + raw, home / "run" / "s") as client, Talk(client, "drill") as talk:
        talk.ended()
        assert (talk.cut, talk.told, talk.in_words()) == (cut, told, words)


def test_a_container_is_only_what_its_conmon_says(tmp_path: Path) -> None:
    conmon = tmp_path / "conmon"
    conmon.symlink_to("/bin/sh")
    script = "sleep 60 & sleep 60 & wait; :"
    with subprocess.Popen([conmon, "-c", f"sh -c '{script}'; :", "c0ffee"]) as process:
        try:
            deadline = time.monotonic() + 10
            while len(found := drill_processes.tree(process.pid)) < 4:
                assert time.monotonic() < deadline
            first, *children = found[1:]
            slot = {"containers": [{"role": "current", "pid": first, "id": "c0ffee"}]}
            behind = drill_processes.behind(slot)
            assert (behind.first, behind.conmon) == (first, process.pid)
            assert behind.engine in children
            slot["containers"][0]["id"] = "decade"
            with pytest.raises(Skip, match="cannot be seen to be"):
                drill_processes.behind(slot)
        finally:
            drill_processes.send_all(reversed(drill_processes.tree(process.pid)), signal.SIGKILL)


def test_a_slot_without_a_container_has_no_processes() -> None:
    with pytest.raises(Skip, match="does not know"):
        drill_processes.behind({"containers": []})


def test_every_fault_has_a_name_of_its_own() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) == 6
