"""Memory limits of this process's own cgroup and of those above it, in both versions of cgroups."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from hal0.hardware import sysfs

# Version 1 says "no limit" with the largest whole number of pages; nothing real comes near an exbibyte.
_UNLIMITED: Final = 2**60


@dataclass(frozen=True, slots=True)
class CgroupLimit:
    """One limit that applies here. `path` is the cgroup's, from the root that this process sees ("/").

    `used_bytes` is what cannot be given back: usage without inactive file pages, which the kernel drops first.
    """

    path: str
    limit_bytes: int
    used_bytes: int

    @property
    def free_bytes(self) -> int:
        return max(self.limit_bytes - self.used_bytes, 0)


def read(root: Path = Path("/")) -> tuple[CgroupLimit, ...]:
    """Every limit below `root` that applies to this process, its own first. Blocking; never raises.

    In a container the process's path may be the host's, which is not mounted here: then what stands above it
    counts, and the mounted root is the container itself.
    """
    found = []
    for mount, files, path in _hierarchies(root):
        for level in (path, *path.parents):
            limit = _limit(mount / level.relative_to("/"), files, str(level))
            if limit is not None:
                found.append(limit)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Files:
    """The names that one version of cgroups gives to the same three figures."""

    limit: str
    usage: str
    inactive: str


_V1: Final = _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2: Final = _Files("memory.max", "memory.current", "inactive_file")


def _hierarchies(root: Path) -> list[tuple[Path, _Files, PurePosixPath]]:
    """Where memory may be limited, from /proc/self/cgroup: lines of `number:controllers:path`."""
    base = root / "sys/fs/cgroup"
    found = []
    for line in (sysfs.text(root / "proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "memory" in controllers.split(","):
            found.append((base / "memory", _V1, _inside(path)))
        elif not controllers:
            unified = base / "unified"  # beside version 1, when both are in use
            found.append((unified if unified.is_dir() else base, _V2, _inside(path)))
    return found


def _inside(path: str) -> PurePosixPath:
    """A path that leaves the root this process sees (`/../..`) says nothing below it."""
    pure = PurePosixPath(path)
    return pure if pure.is_absolute() and ".." not in pure.parts else PurePosixPath("/")


def _limit(directory: Path, files: _Files, path: str) -> CgroupLimit | None:
    limit = sysfs.number(directory / files.limit)  # version 2 says "max", which is no number
    if limit is None or limit >= _UNLIMITED:
        return None
    usage = sysfs.number(directory / files.usage) or 0
    stat = dict(
        line.split(maxsplit=1) for line in (sysfs.text(directory / "memory.stat") or "").splitlines() if " " in line
    )
    inactive = stat.get(files.inactive, "")
    return CgroupLimit(path, limit, max(usage - (int(inactive) if inactive.isdecimal() else 0), 0))
