"""A service process of hal0's own: held by a pidfd, remembered on file by pid and start time, ended for sure."""

import asyncio
import contextlib
import os
import select
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hal0.engine.exits import pidfd_gone, start_ticks
from hal0.lib.atomic import write_atomic
from hal0.lib.jsonio import JSONDecodeError, dumps, loads

_STOP_S: Final = 5.0  # podman's service ends in milliseconds unless a client holds a stream open


@dataclass(slots=True)
class Child:
    """A running service of ours. `process` is None when an earlier hal0 started it."""

    pid: int
    pidfd: int
    process: asyncio.subprocess.Process | None

    def alive(self) -> bool:
        return not select.select([self.pidfd], [], [], 0)[0]

    async def gone(self) -> None:
        await pidfd_gone(os.dup(self.pidfd))

    async def end(self) -> None:
        """SIGTERM, SIGKILL when that does not help; reaped and forgotten in any case."""
        try:
            for number in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self.pidfd, number)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_STOP_S):
                        await self.gone()
                        break
        finally:
            await self.release()

    async def release(self) -> None:
        """Reap what has ended and close the descriptor; what runs goes on."""
        try:
            if self.process is not None and not self.alive():
                await self.process.wait()
        finally:
            os.close(self.pidfd)


def pid_file(run_dir: Path) -> Path:
    return run_dir / "engine.pid"


def remember(run_dir: Path, pid: int) -> None:
    write_atomic(pid_file(run_dir), dumps({"pid": pid, "start_ticks": start_ticks(pid)}))


def remembered(run_dir: Path) -> tuple[int, int] | None:
    """Pid and pidfd of the service on file, if that very process still lives."""
    try:
        document = loads(pid_file(run_dir).read_bytes())
        pid, ticks = int(document["pid"]), int(document["start_ticks"])
        pidfd = os.pidfd_open(pid)
    except (OSError, JSONDecodeError, KeyError, TypeError, ValueError):
        return None
    if start_ticks(pid) == ticks:
        return pid, pidfd
    os.close(pidfd)
    return None
