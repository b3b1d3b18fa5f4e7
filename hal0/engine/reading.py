"""A container's processes and how much of its files they have read: from /proc, where hal0 shares the PID namespace."""

from collections.abc import Iterator
from pathlib import Path

from hal0.engine.base import ContainerInfo
from hal0.engine.exits import PROC, is_ours

_DEPTH = 3  # an init, perhaps a wrapper, and the engine


def bytes_read(info: ContainerInfo, proc: Path = PROC) -> int | None:
    """Bytes of files that are in its memory, or went through its hands; None where nobody can tell. Blocking, short.

    Three counters see three ways of reading: mapped files as resident pages, `read` calls as characters, and reading
    past the cache as storage traffic. Each misses the others' share, so the largest is the truth's lower bound.
    """
    resident = called = stored = 0
    pids = processes(info, proc)
    for pid in pids:
        resident += _field(proc / str(pid) / "status", "RssFile:") * 1024
        called += _field(proc / str(pid) / "io", "rchar:")
        stored += _field(proc / str(pid) / "io", "read_bytes:")
    return max(resident, called, stored) if pids else None


def processes(info: ContainerInfo, proc: Path = PROC) -> tuple[int, ...]:
    """Its first process and those below it; none where the pid is not its process in our namespace. Blocking, short."""
    return tuple(_family(info.pid, proc)) if info.pid > 0 and is_ours(info, proc) else ()


def _family(pid: int, proc: Path, depth: int = _DEPTH) -> Iterator[int]:
    yield pid
    if depth:
        for children in proc.glob(f"{pid}/task/*/children"):
            for child in _text(children).split():
                yield from _family(int(child), proc, depth - 1)


def _field(path: Path, name: str) -> int:
    for line in _text(path).splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    return 0


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it ended meanwhile, or may not be looked at
        return ""
