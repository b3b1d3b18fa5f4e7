"""How much room there is where something is kept, and on what kind of filesystem."""

import os
from dataclasses import dataclass
from pathlib import Path, PurePath

from hal0.hardware import sysfs


@dataclass(frozen=True, slots=True)
class Disk:
    """Bytes; `free_bytes` is what this user may still fill. `filesystem` is the kernel's word, "" where unknown."""

    path: str
    filesystem: str
    total_bytes: int
    free_bytes: int


def read(path: Path, root: Path = Path("/")) -> Disk | None:
    """Of the filesystem that `path` is on, or would be once it is made. None: it cannot be told. Blocking."""
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        found = os.statvfs(there)
    except OSError:
        return None
    size = found.f_frsize
    return Disk(str(path), filesystem(_mounts(root), there.resolve()), found.f_blocks * size, found.f_bavail * size)


def filesystem(mountinfo: str, path: PurePath) -> str:
    """The kind of the mount that holds `path`; of mounts on top of each other the last one counts."""
    best, kind = -1, ""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        words = before.split()
        if len(words) < 5 or not after or not path.is_relative_to(words[4]):
            continue
        depth = len(PurePath(words[4]).parts)
        if depth >= best:
            best, kind = depth, after.split()[0]
    return kind


def _mounts(root: Path) -> str:
    return sysfs.text(root / "proc/self/mountinfo") or ""
