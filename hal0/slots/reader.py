"""As whom an engine runs: nobody, unless its model's files are closed to others. Pure."""

import os
import shlex
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from hal0.engine.base import Mount
from hal0.errors import Hal0Error

UNREADABLE: Final = "unreadable"  # the detail of an error that names what nobody can read
_FILE: Final = (stat.S_IROTH, stat.S_IRUSR)
_FOLDER: Final = (stat.S_IROTH | stat.S_IXOTH, stat.S_IRUSR | stat.S_IXUSR)


def paths_of(files: Iterable[Path], mounts: Iterable[Mount]) -> Iterator[Path]:
    """What has to be read inside: the files, and the folders they are in as far as those are mounted, too."""
    sources = [mount.source for mount in mounts]
    yield from sources
    for file in files:
        yield file
        yield from (folder for folder in file.parents if any(source in folder.parents for source in sources))


def reader_of(model: str, usual: int, found: Mapping[Path, os.stat_result]) -> int:
    """The user who may read all that was found: `usual`, or whose it is.

    Inside nobody has root's power to pass over permissions, not even root. So files that only their owner may read
    are read by their owner. Raises slot.load_failed where no single user could read them all.
    """
    owners: dict[int, Path] = {}
    for path, status in found.items():
        others, owner = _FOLDER if stat.S_ISDIR(status.st_mode) else _FILE
        if status.st_mode & others == others:
            continue
        if status.st_mode & owner != owner:
            raise _unreadable(model, path, "not even its owner may read it")
        owners.setdefault(status.st_uid, path)
    if len(owners) > 1:
        raise _unreadable(model, list(owners.values())[1], "it and others may be read by their owners only, who differ")
    return next(iter(owners), usual)


def refuse_closed(model: str, closed: Sequence[Path]) -> None:
    """For a hal0 that is not root. Raises slot.load_failed with the first of these, which its user may not read."""
    if closed:
        raise _unreadable(model, closed[0], "hal0's own user may not read it, and without root nobody else can")


def _unreadable(model: str, path: Path, why: str) -> Hal0Error:
    """With the line that helps in its message: that is all of an error that a slot keeps and shows."""
    said = f"cannot load {model}: {path}: {why}; run: chmod a+rX {shlex.quote(str(path))}"
    return Hal0Error("slot.load_failed", said, details={UNREADABLE: str(path)})
