"""The processes behind a container, found in /proc and proven to be its own before anything is sent to them."""

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hal0.client import Json

_PROC: Final = Path("/proc")


class Skip(Exception):
    """A fault that this machine, or this user, cannot be given; says why."""


@dataclass(frozen=True, slots=True)
class Behind:
    """`first` is the container's first process, `engine` what answers requests, `conmon` podman's watchman."""

    first: int
    engine: int
    conmon: int


def behind(slot: Json) -> Behind:
    """The processes of the slot's container. Raises Skip when they cannot be seen, or proven to be its own."""
    container = next((c for c in slot["containers"] if c["role"] == "current"), None)
    if container is None or not container["pid"] or not container["id"]:
        raise Skip("hal0 does not know the pid of the slot's container")
    first: int = container["pid"]
    conmon = parents().get(first, 0)
    if container["id"] not in " ".join(words(conmon)):
        raise Skip(f"pid {first} cannot be seen to be the slot's container from here (another PID namespace?)")
    return Behind(first, next(iter(tree(first)[1:]), first), conmon)


def send(pid: int, number: signal.Signals) -> None:
    """Raises Skip where that is not allowed."""
    try:
        os.kill(pid, number)
    except PermissionError as e:
        raise Skip(f"pid {pid} belongs to another user: run the drill as the user that hal0 runs as") from e


def send_all(pids: Iterable[int], number: signal.Signals) -> None:
    """As `send`; those that have ended are passed over."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            send(pid, number)


def tree(pid: int) -> list[int]:
    """The process and all its descendants, parents first."""
    known = parents()
    found = [pid]
    for one in found:  # grows while it is walked
        found += [child for child, parent in known.items() if parent == one]
    return found


def service(socket: str) -> int | None:
    """The `podman system service` that listens on `socket`."""
    for pid in _pids():
        argv = words(pid)
        if "service" in argv and f"unix://{socket}" in argv and "podman" in argv[0]:
            return pid
    return None


def same_namespace(pid: int) -> bool:
    """Whether the process counts pids as we do: then it can watch containers by pidfd."""
    try:
        return (_PROC / str(pid) / "ns" / "pid").readlink() == (_PROC / "self" / "ns" / "pid").readlink()
    except OSError:
        return False


def parents() -> dict[int, int]:
    """Every process and its parent."""
    found = {}
    for pid in _pids():
        try:
            stat = (_PROC / str(pid) / "stat").read_text()
        except OSError:  # it ended meanwhile
            continue
        found[pid] = int(stat.rpartition(")")[2].split()[1])
    return found


def words(pid: int) -> list[str]:
    """Its command line; empty when there is no such process."""
    try:
        return (_PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit())
