"""Users and groups as this place numbers them, where they decide who may use a GPU."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from hal0.hardware import sysfs

_DEVICE_GROUPS: Final = ("render", "video")


def read(root: Path = Path("/")) -> Mapping[str, int]:
    """The numbers of the groups that own device files, by name; those that are not there are left out."""
    rows = (line.split(":") for line in (sysfs.text(root / "etc/group") or "").splitlines())
    return {row[0]: int(row[2]) for row in rows if row[0] in _DEVICE_GROUPS and len(row) > 2 and row[2].isdecimal()}


def subordinate_ids(root: Path = Path("/"), uid: int | None = None) -> bool:
    """Whether this user has subordinate ids, without which podman without root unpacks no image; root needs none."""
    uid = os.getuid() if uid is None else uid
    users = {row[2]: row[0] for line in _lines(root / "etc/passwd") if len(row := line.split(":")) > 2}
    names = {str(uid), users.get(str(uid), "")} - {""}
    return uid == 0 or any(line.partition(":")[0] in names for line in _lines(root / "etc/subuid"))


def _lines(path: Path) -> list[str]:
    return (sysfs.text(path) or "").splitlines()
