"""hal0ctl on a real terminal: progress redrawn in place, Ctrl-C, widths and colours; and none of it off one."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hal0.cli.exits import Exit
from hal0.vocab import SlotState
from hal0.wire.jobs import JobView
from tests.fakes.api_server import ApiServer, serving
from tests.fakes.api_views import MODEL, slot_view, warming

REPOSITORY = Path(__file__).parents[2]
RUN = "import sys; from hal0.cli.main import main; sys.exit(main())"
DEADLINE_S = 60.0


@pytest.fixture
def api(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    for name in ("NO_COLOR", "COLUMNS", "LINES", "HAL0_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("TERM", "xterm")
    (home / "run").mkdir(parents=True)
    slots = [slot_view("primary", SlotState.SERVING), slot_view("img")]
    with serving(ApiServer(slots={s.name: s for s in slots}), home / "run" / "hal0.sock") as server:
        yield server


class Terminal:
    """hal0ctl with all three streams on a pty of so many columns."""

    def __init__(self, *args: str, columns: int = 100) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        argv = [sys.executable, "-c", RUN, *args]
        # A copy of the environment: GNU readline, once imported, exports COLUMNS behind Python's back.
        env = dict(os.environ)
        self.process = subprocess.Popen(argv, env=env, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        os.close(slave)
        self.text = ""

    def until(self, pattern: str) -> None:
        """Reads until `pattern` was printed."""
        deadline = time.monotonic() + DEADLINE_S
        while not re.search(pattern, self.text):
            assert time.monotonic() < deadline, f"no {pattern!r} in {self.text!r}"
            assert self._read(), f"ended without {pattern!r}: {self.text!r}"

    def end(self) -> int:
        while self._read():
            pass
        return self.process.wait(timeout=DEADLINE_S)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._master], [], [], DEADLINE_S)
        assert ready, f"silent after {self.text!r}"
        try:
            data = os.read(self._master, 65536)
        except OSError:
            return False  # Linux's way to say that the other end is closed
        self.text += data.decode()
        return bool(data)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)


@contextmanager
def terminal(*args: str, columns: int = 100) -> Iterator[Terminal]:
    shown = Terminal(*args, columns=columns)
    try:
        yield shown
    finally:
        shown.close()


def _piped(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-c", RUN, *args]
    environ = {**os.environ, **env}
    return subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def _loading(go_on: threading.Event) -> Callable[[ApiServer, JobView], None]:
    """Start, warm to 57 %, then wait for `go_on`."""

    def script(server: ApiServer, job: JobView) -> None:
        began = time.time()
        server.set_slot(slot_view("img", SlotState.STARTING, since=began - 3.1))
        server.listened_to()
        server.set_slot(warming("img", 0.57, since=began))
        while not (go_on.wait(0.05) or server.stopping.is_set()):
            pass
        server.set_slot(slot_view("img", SlotState.READY, model="sdxl-turbo"))
        server.end_job(job.id)

    return script


def test_a_load_is_drawn_in_place(api: ApiServer) -> None:
    go_on = threading.Event()
    api.script = _loading(go_on)
    with terminal("slot", "load", "img", columns=120) as shown:
        shown.until(r"Warm   57%   \[#{16}\.{12}\]   37/65 layers   \d+\.\d s of ~31 s   3 requests held")
        go_on.set()
        assert shown.end() == Exit.DONE
        lines = [line.rpartition("\r\x1b[K")[2] for line in shown.text.split("\r\n")[:-1]]
        assert lines[0] == "Pull   ok    cached"
        assert re.fullmatch(r"Start  ok    3\.\d s", lines[1])
        assert re.fullmatch(r"Warm   ok    \d+\.\d s", lines[2])
        assert lines[3:] == ["img is ready with sdxl-turbo"]


def test_ctrl_c_lets_go_of_the_wait_and_not_of_the_work(api: ApiServer) -> None:
    go_on = threading.Event()
    api.script = _loading(go_on)
    with terminal("slot", "load", "img") as shown:
        shown.until("57%")
        os.kill(shown.process.pid, signal.SIGINT)
        assert shown.end() == Exit.INTERRUPTED
        assert "The load continues. Follow: hal0ctl job wait job_0001. Stop: hal0ctl job cancel job_0001" in shown.text
        assert "Traceback" not in shown.text
    assert api.jobs["job_0001"].state == "running"
    assert not [r for r in api.requests if r[0] == "DELETE"]


def test_off_a_terminal_progress_is_plain_lines(api: ApiServer) -> None:
    go_on = threading.Event()
    go_on.set()
    api.script = _loading(go_on)
    ran = _piped("slot", "load", "img")
    assert (ran.returncode, ran.stdout) == (0, "")
    assert "\x1b" not in ran.stderr
    assert "\r" not in ran.stderr
    assert "Warm   57%   37/65 layers" in ran.stderr.splitlines()


@pytest.mark.parametrize("flags", [("-q",), ("--progress", "none")])
def test_progress_can_be_switched_off(api: ApiServer, flags: tuple[str, ...]) -> None:
    go_on = threading.Event()
    go_on.set()
    api.script = _loading(go_on)
    ran = _piped("slot", "load", "img", *flags)
    assert ran.returncode == 0
    assert "Warm" not in ran.stderr


@pytest.mark.parametrize(("columns", "cut"), [(60, True), (160, False)])
def test_tables_fit_the_terminal(api: ApiServer, columns: int, cut: bool) -> None:
    with terminal("slot", "list", columns=columns) as shown:
        assert shown.end() == 0
        assert ("…" in shown.text) is cut
        plain = re.sub(r"\x1b\[[0-9;]*m", "", shown.text)
        assert max(map(len, plain.splitlines())) <= columns


def test_piped_tables_are_whole_and_without_colour(api: ApiServer) -> None:
    ran = _piped("slot", "list", COLUMNS="40")
    assert MODEL in ran.stdout
    assert "\x1b" not in ran.stdout


@pytest.mark.parametrize(
    ("env", "flags", "coloured"),
    [({}, (), True), ({"NO_COLOR": "1"}, (), False), ({"TERM": "dumb"}, (), False), ({}, ("--no-color",), False)],
)
def test_colour_only_where_it_is_wanted(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch, env: dict[str, str], flags: tuple[str, ...], coloured: bool
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with terminal("slot", "list", *flags) as shown:
        assert shown.end() == 0
        assert ("\x1b[1;32mserving\x1b[0m" in shown.text) is coloured


def test_watch_redraws_on_a_change_and_ends_with_ctrl_c(api: ApiServer) -> None:
    with terminal("ps", "-w") as shown:
        shown.until("free")
        api.set_slot(warming("img", 0.25))
        shown.until("25%")
        os.kill(shown.process.pid, signal.SIGINT)
        assert shown.end() == Exit.INTERRUPTED
        assert "\x1b[H" in shown.text


def test_a_conversation_remembers_and_ends_with_ctrl_d(api: ApiServer) -> None:
    with terminal("chat") as shown:
        shown.until("> ")
        for line in (b"first\n", b"second\n"):
            count = shown.text.count("Hello there")
            os.write(shown._master, line)
            shown.until(rf"(?s)(Hello there.*){{{count + 1}}}> ")
        os.write(shown._master, b"\x04")
        assert shown.end() == Exit.DONE
    asked = [body["messages"] for _, path, body in api.requests if path == "/v1/chat/completions"]
    assert [len(messages) for messages in asked] == [1, 3]


def test_a_reader_that_has_seen_enough_is_no_traceback(api: ApiServer) -> None:
    for i in range(2000):
        api.slots[f"s{i}"] = slot_view(f"s{i}")
    argv = [sys.executable, "-c", RUN, "slot", "list"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as ran:
        assert ran.stdout is not None
        assert ran.stderr is not None
        ran.stdout.read(10)
        ran.stdout.close()
        assert "Traceback" not in ran.stderr.read()
        assert "BrokenPipe" not in ran.stderr.read()
