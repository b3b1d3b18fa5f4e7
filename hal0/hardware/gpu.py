"""GPU device nodes: what a container must be given, read below a root."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class GpuNodes:
    """Every node below /dev/dri (a directory cannot be passed on whole), and the groups that may use them."""

    paths: tuple[str, ...] = ()
    groups: tuple[int, ...] = ()

    @property
    def renders(self) -> bool:
        """There is a render node: compute and Vulkan work without a display."""
        return any(Path(path).name.startswith("renderD") for path in self.paths)


def dri_nodes(root: Path = Path("/")) -> GpuNodes:
    """Never raises: what cannot be read is not there. Blocking, below a millisecond."""
    paths, groups = [], set()
    try:
        nodes = sorted((root / "dev/dri").iterdir())
    except OSError:
        return GpuNodes()
    for node in nodes:
        if not (node.is_char_device() or root != Path("/")) or node.is_dir():
            continue
        paths.append("/" + str(node.relative_to(root)))
        groups.add(node.stat().st_gid)
    return GpuNodes(tuple(paths), tuple(sorted(groups)))
