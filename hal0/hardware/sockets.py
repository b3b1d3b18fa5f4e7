"""Which program holds a TCP port, from /proc: for error messages that name it."""

import contextlib
from pathlib import Path
from typing import Final

from hal0.hardware import sysfs

_LISTEN: Final = "0A"


def listener_of(port: int, proc: Path = Path("/proc")) -> str | None:
    """`name (pid N)` of a program that listens on `port`; None when it cannot be told. Blocking."""
    inodes = {inode for table in ("tcp", "tcp6") for inode in _inodes(proc / "net" / table, port)}
    for process in proc.iterdir() if inodes else ():
        if process.name.isdigit() and _holds(process, inodes):
            with contextlib.suppress(OSError):
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
    return None


def _inodes(table: Path, port: int) -> list[str]:
    try:
        lines = table.read_text().splitlines()[1:]
    except OSError:
        return []
    rows = (line.split() for line in lines)
    return [row[9] for row in rows if row[3] == _LISTEN and int(row[1].rpartition(":")[2], 16) == port]


def _holds(process: Path, inodes: set[str]) -> bool:
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for fd in sysfs.entries(process / "fd"):
        with contextlib.suppress(OSError):  # closed meanwhile, as the one that this list was read by
            if str(fd.readlink()) in wanted:
                return True
    return False
