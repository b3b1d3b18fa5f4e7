"""The state directory as one process's own: made private, locked for life, with an instance id."""

import errno
import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hal0.errors import Hal0Error
from hal0.lib.atomic import private_dir, write_atomic
from hal0.paths import Paths


class Home:
    """Held while `open_home` is entered."""

    def __init__(self, paths: Paths, instance: str, lock_fd: int, started_at: float) -> None:
        self.paths = paths
        self.instance = instance
        self._lock_fd = lock_fd
        self._started_at = started_at

    def announce(self, url: str, socket: Path) -> None:
        """Write into the lock who holds it and where it listens. Blocking."""
        text = json.dumps(
            {"pid": os.getpid(), "start_time": self._started_at, "url": url, "socket": str(socket)}
        ).encode()
        os.ftruncate(self._lock_fd, 0)
        os.pwrite(self._lock_fd, text, 0)
        os.fsync(self._lock_fd)


@contextmanager
def open_home(paths: Paths, started_at: float) -> Iterator[Home]:
    """Take the state directory. Raises server.already_running, or state.write_failed when it cannot be made."""
    try:
        for directory in (paths.state_dir, paths.slots_dir, paths.run_dir, paths.spool_dir):
            private_dir(directory)
        paths.models_dir.mkdir(parents=True, exist_ok=True)
        lock_fd = os.open(paths.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as err:
        text = f"cannot use the state directory {paths.state_dir}: {err.strerror} ({err.filename})"
        hint = "Run hal0 as the user who owns it, or set HAL0_HOME to a directory of your own."
        raise Hal0Error("state.write_failed", text, hint=hint) from err
    try:
        _lock(lock_fd, paths)
        yield Home(paths, _instance(paths.instance_file), lock_fd, started_at)
    finally:
        os.close(lock_fd)  # gives the lock back


def _lock(lock_fd: int, paths: Paths) -> None:
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as err:
        if err.errno not in (errno.EACCES, errno.EAGAIN):
            raise
        holder = _holder(lock_fd)
        text = f"cannot start: hal0 with pid {holder} already runs on {paths.state_dir}"
        raise Hal0Error("server.already_running", text, details={"pid": holder}) from err


def _holder(lock_fd: int) -> int | None:
    """The pid in the lock; None while its holder has not written it yet."""
    try:
        pid = json.loads(os.pread(lock_fd, 4096, 0))["pid"]
    except (ValueError, KeyError, TypeError):
        return None
    return pid if isinstance(pid, int) else None


def _instance(file: Path) -> str:
    """Eight hex digits that tell this installation's containers from everybody else's; made once."""
    try:
        known = file.read_text().strip()
    except FileNotFoundError:
        known = ""
    if len(known) == 8 and all(c in "0123456789abcdef" for c in known):
        return known
    fresh = secrets.token_hex(4)
    write_atomic(file, fresh.encode())
    return fresh
