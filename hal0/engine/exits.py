"""Noticing that a container's first process is gone: a pidfd where hal0 sees the process, podman's events elsewhere."""

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Final

from hal0.engine.base import ContainerInfo, ContainerStatus, EngineEvent, EventKind
from hal0.errors import Hal0Error

PROC: Final = Path("/proc")
_RETRY_S: Final = 0.5  # between looks at a container while podman itself is away


def start_ticks(pid: int, proc: Path = PROC) -> int | None:
    """When the process started, in clock ticks since boot; None when there is no such process.

    A pid and its start time name one process for ever; a pid alone is reused.
    """
    fields = _stat(pid, proc)
    return int(fields[19]) if fields else None  # field 22 of stat(5); the first two are cut off


def began(info: ContainerInfo, proc: Path = PROC) -> int | None:
    """As `start_ticks`, of the container's first process; None where this pid is not that process. Blocking, short."""
    return start_ticks(info.pid, proc) if info.pid > 0 and is_ours(info, proc) else None


def open_pidfd(info: ContainerInfo, proc: Path = PROC) -> int | None:
    """A pidfd of the container's first process; None where this pid is not that process in our namespace.

    Opened first and checked after, so that what was checked is what is watched even when pids are reused.
    """
    if info.pid <= 0:
        return None
    try:
        fd = os.pidfd_open(info.pid)
    except OSError:
        return None
    if is_ours(info, proc):
        return fd
    os.close(fd)
    return None


def is_ours(info: ContainerInfo, proc: Path) -> bool:
    """True when the cgroup names the container, or its parent is the conmon that was started for it."""
    if info.id in _read(proc / str(info.pid) / "cgroup"):
        return True
    fields = _stat(info.pid, proc)
    parent = int(fields[1]) if fields else 0
    return parent > 0 and parent == info.conmon_pid and info.id in _read(proc / str(parent) / "cmdline")


def _stat(pid: int, proc: Path) -> list[str]:
    text = _read(proc / str(pid) / "stat")
    return text.rpartition(")")[2].split()  # the name before it may hold blanks and brackets


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


async def pidfd_gone(fd: int) -> None:
    """Return when the process behind `fd` has ended; closes `fd` in any case."""
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    try:
        loop.add_reader(fd, gone.set)
        try:
            await gone.wait()
        finally:
            loop.remove_reader(fd)
    finally:
        os.close(fd)


async def watch_exit(
    info: ContainerInfo,
    *,
    events: Callable[[], AsyncGenerator[EngineEvent, None]],
    inspect: Callable[[str], Awaitable[ContainerInfo | None]],
) -> None:
    """Return when the run that `info` describes is over; `events` opens a stream of this container's events."""
    fd = await asyncio.to_thread(open_pidfd, info)
    if fd is not None:
        await pidfd_gone(fd)
        return
    async with aclosing(events()) as stream:
        async for event in stream:
            if event.kind is EventKind.RESYNC:
                if not await _still_runs(info, inspect):
                    return
            elif event.kind in {EventKind.DIED, EventKind.REMOVED} and event.at >= (info.started_at or 0.0):
                return


async def _still_runs(info: ContainerInfo, inspect: Callable[[str], Awaitable[ContainerInfo | None]]) -> bool:
    while True:
        try:
            now = await inspect(info.id)
        except Hal0Error:
            await asyncio.sleep(_RETRY_S)
            continue
        if now is None or now.started_at != info.started_at:
            return False
        return now.status in {ContainerStatus.RUNNING, ContainerStatus.STOPPING}
