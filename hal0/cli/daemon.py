"""The daemon seen from outside: who holds the state directory, starting one in the background, asking it to stop."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hal0.client import ClientError
from hal0.lib.atomic import private_dir
from hal0.paths import Paths

PROGRAM: Final = (sys.executable, "-m", "hal0", "serve")
LOG_LIMIT_BYTES: Final = 10 * 1024 * 1024  # checked at each start; one older file is kept
POLL_S: Final = 0.05
STOP_WAIT_S: Final = 150.0  # open streams get 120 s, the rest is hal0's own


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that the lock file names, alive."""

    pid: int
    url: str
    socket: str


def holder(local: Paths) -> Holder | None:
    """Who holds the state directory; None when nobody alive does. A pid that another program got is nobody."""
    try:
        lock = json.loads(local.lock_file.read_bytes())
        found = Holder(int(lock["pid"]), str(lock["url"]), str(lock["socket"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if alive(found.pid) and _holds_a_lock(found.pid) else None


def alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and was not yet fetched by its parent does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state not in ("Z", "X")


def held(local: Paths) -> bool:
    """Whether a hal0 has the state directory, also one that has not yet said who it is."""
    try:
        found = local.lock_file.stat()
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return False
    place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    return any(place in line.split() for line in lines)


def _holds_a_lock(pid: int) -> bool:
    """The lock is held for life, so a process without one merely inherited the pid.

    Looked up, not tried: a trial lock could make a hal0 that starts at this moment refuse to.
    """
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return True  # nothing to be seen here: the living pid has to do
    return any(line.split()[-4] == str(pid) for line in lines)


def log_file(local: Paths) -> Path:
    return local.state_dir / "hal0.log"


def start(local: Paths, arguments: Sequence[str] = (), *, program: Sequence[str] = PROGRAM) -> int:
    """Start the daemon in a session of its own, its output in the log file; returns its pid."""
    log = log_file(local)
    try:
        private_dir(local.state_dir)
        if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
            log.replace(log.with_suffix(".log.1"))
        os.close(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    except OSError as e:
        said = f"cannot start hal0: cannot use the state directory {local.state_dir}: {e.strerror} ({e.filename})"
        hint = "Run this as the user who owns it, or set HAL0_HOME to a directory of your own."
        raise ClientError("state.write_failed", said, hint=hint) from e
    argv = [*program, *arguments]
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    return os.posix_spawn(argv[0], argv, os.environ, file_actions=files, setsid=True)


def wait_until(answers: Callable[[], bool], pid: int | None, local: Paths, *, timeout_s: float) -> None:
    """Until `answers()`; raises ClientError with what the log says when nobody starts any more or it took too long.

    `pid` is our own attempt, None when somebody else's is waited for. An attempt that ended because another hal0 was
    quicker is no failure: then that one is waited for.
    """
    deadline = time.monotonic() + timeout_s
    while not answers():
        how = None
        if pid is not None:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                pid, how = None, f"it ended with exit code {os.waitstatus_to_exitcode(status)}"
        if pid is None and not held(local) and not answers():
            how = how or "the one that was starting has ended"
            raise ClientError("cli.start_failed", f"cannot start hal0: {how}\n{_last_words(log_file(local))}")
        if time.monotonic() > deadline:
            raise ClientError(
                "cli.start_failed", f"cannot start hal0: no answer after {timeout_s:.0f} s, see {log_file(local)}"
            )
        time.sleep(POLL_S)


def _last_words(log: Path, lines: int = 12) -> str:
    """The error that the daemon ended with, else its last lines."""
    try:
        text = log.read_text(errors="replace").splitlines()[-lines:]
    except OSError as e:
        return f"  (its log {log} cannot be read: {e.strerror})"
    errors = [number for number, line in enumerate(text) if line.startswith("error: ")]
    return "\n".join(f"  | {line}" for line in text[errors[-1] if errors else 0 :])


def stop(found: Holder, *, timeout_s: float) -> bool:
    """SIGTERM, then wait for its end; False when it has not ended in time (open streams are being finished)."""
    try:
        os.kill(found.pid, signal.SIGTERM)
    except ProcessLookupError:
        return True
    except PermissionError as e:
        raise ClientError("auth.forbidden", f"cannot stop pid {found.pid}: it belongs to another user") from e
    deadline = time.monotonic() + timeout_s
    while alive(found.pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True
