"""Starting, finding and stopping the daemon, on real processes that hold a real lock."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hal0.cli import daemon
from hal0.cli.exits import Exit
from hal0.client import ClientError
from hal0.paths import Paths
from tests.unit.cli.conftest import Run

# What the real daemon does with its lock, without the rest: takes it, says who it is, ends (or not) at SIGTERM.
PROGRAM = """
import fcntl, json, os, signal, sys, time
stubborn, lock = "--stubborn" in sys.argv, open(sys.argv[1], "a+")
signal.signal(signal.SIGTERM, signal.SIG_IGN if stubborn else lambda *_: sys.exit(0))
fcntl.flock(lock, fcntl.LOCK_EX)
lock.truncate(0)
lock.write(json.dumps({"pid": os.getpid(), "start_time": time.time(), "url": "http://0.0.0.0:1", "socket": "/s"}))
lock.flush()
print("up", flush=True)
time.sleep(60)
"""
DEADLINE_S = 20.0


@pytest.mark.parametrize("output", ["table", "json"])
def test_a_home_that_cannot_be_used_is_told_in_words(
    hal0ctl: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("HAL0_HOME", str(file))
    up = hal0ctl("up", "-o", output)
    assert (up.code, up.out) == (Exit.REFUSED, "")
    assert f"cannot use the state directory {file}/var: Not a directory" in up.err
    assert "set HAL0_HOME" in up.err
    assert hal0ctl("doctor").code == Exit.CHECK_FAILED
    added = hal0ctl("context", "add", "box", "--url", "http://127.0.0.1:9", "-o", output)
    assert (added.code, added.out) == (Exit.FAILED, "")
    assert f"cannot use {file}/etc: Not a directory" in added.err


@pytest.fixture
def started(paths: Paths) -> Iterator[Callable[..., int]]:
    """`started(*arguments)`: the program's pid once it holds the lock."""
    pids: list[int] = []

    def start(*arguments: str) -> int:
        program = (sys.executable, "-c", PROGRAM, str(paths.lock_file))
        pid = daemon.start(paths, arguments, program=program)
        pids.append(pid)
        daemon.wait_until(lambda: daemon.holder(paths) is not None, pid, paths, timeout_s=DEADLINE_S)
        return pid

    yield start
    for pid in pids:
        if daemon.alive(pid):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_it_runs_in_a_session_of_its_own_and_logs_to_the_file(paths: Paths, started: Callable[..., int]) -> None:
    pid = started()
    assert os.getsid(pid) == pid
    found = daemon.holder(paths)
    assert found is not None
    assert (found.pid, found.url) == (pid, "http://0.0.0.0:1")
    deadline = time.monotonic() + DEADLINE_S
    while "up" not in daemon.log_file(paths).read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert daemon.log_file(paths).stat().st_mode & 0o777 == 0o600


def test_down_stops_it_and_a_second_down_finds_nothing(started: Callable[..., int], hal0ctl: Run) -> None:
    pid = started()
    ran = hal0ctl("down")
    assert ran.code == Exit.DONE
    assert f"hal0 has stopped (pid {pid})" in ran.err
    assert not daemon.alive(pid)
    assert "not running" in hal0ctl("down").err


def test_down_does_not_wait_for_ever(started: Callable[..., int], hal0ctl: Run) -> None:
    started("--stubborn")
    ran = hal0ctl("down", "--timeout", "0.2")
    assert ran.code == Exit.TIMED_OUT
    assert "still finishing open streams" in ran.err


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"pid": 1}', f'{{"pid": {os.getpid()}, "url": "u", "socket": "s"}}', '{"pid": "x", "url": 1}'],
    ids=["empty", "broken", "no-object", "incomplete", "another-program", "wrong-types"],
)
def test_a_lock_that_nobody_holds_names_nobody(paths: Paths, content: str) -> None:
    """Also when its pid lives on as another program's, such as this test's."""
    paths.state_dir.mkdir(parents=True)
    paths.lock_file.write_text(content)
    assert daemon.holder(paths) is None


def test_a_start_that_fails_shows_the_last_lines_of_the_log(paths: Paths) -> None:
    program = (sys.executable, "-c", "import sys; print('cannot start: port 8080 is taken'); sys.exit(3)")
    pid = daemon.start(paths, program=program)
    with pytest.raises(ClientError, match=r"exit code 3\n  \| cannot start: port 8080 is taken"):
        daemon.wait_until(lambda: False, pid, paths, timeout_s=DEADLINE_S)


def test_a_start_that_another_one_forestalled_waits_for_that_one(paths: Paths, started: Callable[..., int]) -> None:
    other = started()
    late = daemon.start(paths, program=(sys.executable, "-c", "import sys; sys.exit(1)"))
    looks: list[int] = []

    def answers() -> bool:
        looks.append(1)
        return len(looks) > 20  # well after the late one has ended

    daemon.wait_until(answers, late, paths, timeout_s=DEADLINE_S)
    assert daemon.held(paths)
    os.kill(other, signal.SIGKILL)
    with pytest.raises(ClientError, match="the one that was starting has ended"):
        daemon.wait_until(lambda: False, None, paths, timeout_s=DEADLINE_S)


def test_the_log_is_rotated_by_size_at_start(paths: Paths) -> None:
    paths.state_dir.mkdir(parents=True)
    log = daemon.log_file(paths)
    with log.open("wb") as f:
        f.truncate(daemon.LOG_LIMIT_BYTES + 1)
    pid = daemon.start(paths, program=(sys.executable, "-c", "pass"))
    os.waitpid(pid, 0)
    assert log.stat().st_size == 0
    assert Path(f"{log}.1").stat().st_size > daemon.LOG_LIMIT_BYTES
