"""Device files: which of them a container could be given, and whether this process may open them."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hal0.hardware import sysfs

_FOLDERS: Final = ("dev/dri", "dev/accel")
_SINGLE: Final = ("dev/kfd", "dev/nvidiactl", "dev/nvidia-uvm", "dev/dxg")
_CDI_FOLDERS: Final = ("etc/cdi", "var/run/cdi", "run/cdi")
_CDI_NVIDIA: Final = "nvidia.com/gpu"


@dataclass(frozen=True, slots=True)
class Node:
    """One device file; `usable`: this user may open it for reading and writing. `group` is its numeric owner group."""

    path: str
    usable: bool = True
    group: int = 0


def read(root: Path = Path("/")) -> tuple[Node, ...]:
    """The nodes of GPUs and NPUs below `root`, by path. Blocking, below a millisecond; never raises."""
    paths = [entry for folder in _FOLDERS for entry in sysfs.entries(root / folder)]
    paths += [root / name for name in _SINGLE]
    return tuple(sorted((node for path in paths if (node := _node(root, path))), key=lambda node: node.path))


def nvidia_cdi(root: Path = Path("/")) -> bool:
    """A CDI specification names NVIDIA's GPUs, so that podman can hand them on. Blocking, short; never raises."""
    files = (entry for folder in _CDI_FOLDERS for entry in sysfs.entries(root / folder))
    return any(_CDI_NVIDIA in (sysfs.text(file) or "") for file in files if file.suffix in {".yaml", ".json"})


def _node(root: Path, path: Path) -> Node | None:
    try:
        if path.is_dir():
            return None
        group = path.stat().st_gid
    except OSError:
        return None
    return Node(f"/{path.relative_to(root)}", os.access(path, os.R_OK | os.W_OK), group)
