"""Device nodes: what a container must be given to reach a GPU or the NPU, read below a root."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hal0.hardware import sysfs
from hal0.vocab import Device

# NVIDIA's devices come with its driver's libraries, through what its toolkit wrote down for container engines.
_CDI_DIRS: Final = ("etc/cdi", "var/run/cdi")
_CDI_KIND: Final = "nvidia.com/gpu"
CDI_ALL: Final = f"{_CDI_KIND}=all"


@dataclass(frozen=True, slots=True)
class Nodes:
    """Nodes (a directory cannot be passed on whole) or CDI names, and the groups that may use them."""

    paths: tuple[str, ...] = ()
    groups: tuple[int, ...] = ()


def device_nodes(root: Path = Path("/")) -> Mapping[Device, Nodes]:
    """By the device of a slot; what is not here has no entry. Blocking, about a millisecond; never raises."""
    dri, kfd, accel = (tuple(_characters(root, name)) for name in ("dev/dri", "dev/kfd", "dev/accel"))
    found: dict[Device, Nodes] = {}
    if any(node.name.startswith("renderD") for node in dri):  # compute and Vulkan work without a display
        found[Device.VULKAN] = _nodes(root, dri)
        if kfd:
            found[Device.ROCM] = _nodes(root, (*kfd, *dri))
    if accel:
        found[Device.NPU] = _nodes(root, accel)
    if any(_CDI_KIND in (sysfs.text(file) or "") for name in _CDI_DIRS for file in sysfs.entries(root / name)):
        found[Device.CUDA] = Nodes((CDI_ALL,))
    return found


def _characters(root: Path, name: str) -> Iterator[Path]:
    """The character device of this name, or those in the directory of this name."""
    path = root / name
    for node in sysfs.entries(path) or (path,):
        try:
            if node.is_char_device() or (root != Path("/") and node.is_file()):
                yield node
        except OSError:
            continue


def _nodes(root: Path, paths: tuple[Path, ...]) -> Nodes:
    groups = set()
    for path in paths:
        try:
            groups.add(path.stat().st_gid)
        except OSError:
            continue
    return Nodes(tuple("/" + str(path.relative_to(root)) for path in paths), tuple(sorted(groups)))
