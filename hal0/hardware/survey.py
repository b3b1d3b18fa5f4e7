"""All that is known of a machine without trying anything: what there is, who may use it, what kind of place it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hal0.hardware import groups, host, kfd, nodes, snapshot
from hal0.hardware.host import Host
from hal0.hardware.nodes import Node
from hal0.hardware.snapshot import Machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """`gfx` is the instruction set of AMD's GPUs by render node; `nvidia_cdi`: podman can be given NVIDIA's.

    `groups` are the numbers of the groups `render` and `video` here; `subordinate_ids`: this user has some, which
    podman without root needs.
    """

    machine: Machine
    host: Host = field(default_factory=Host)
    nodes: tuple[Node, ...] = ()
    gfx: Mapping[str, str] = field(default_factory=dict)
    nvidia_cdi: bool = False
    groups: Mapping[str, int] = field(default_factory=dict)
    subordinate_ids: bool = True

    def node(self, path: str | None) -> Node | None:
        return next((node for node in self.nodes if node.path == path), None)


def read(root: Path = Path("/")) -> Survey:
    """Below `root`. Blocking, some milliseconds: call it in a thread. Never raises; what cannot be read is absent."""
    machine = snapshot.read(root)
    return Survey(
        machine=machine,
        host=host.read(root, cpu_flags=machine.cpu.flags),
        nodes=nodes.read(root),
        gfx=kfd.read(root),
        nvidia_cdi=nodes.nvidia_cdi(root),
        groups=groups.read(root),
        subordinate_ids=groups.subordinate_ids(root),
    )
