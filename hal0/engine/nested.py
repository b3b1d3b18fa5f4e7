"""hal0 itself in a container: found out, paths translated, slots addressed. Pure functions of given facts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hal0.engine.base import ContainerInfo, Publish
from hal0.errors import Hal0Error

# File systems that belong to the container: nothing below them exists where podman creates containers.
_INNER: Final = frozenset({"overlay", "proc", "sysfs", "tmpfs", "devpts", "devtmpfs", "mqueue", "cgroup", "cgroup2"})


@dataclass(frozen=True, slots=True)
class PlaceFacts:
    """What tells a container: marker files that exist, the `container` variable of PID 1, its own network or not."""

    markers: frozenset[str]  # of /run/.containerenv, /.dockerenv
    container_variable: str
    own_network: bool


@dataclass(frozen=True, slots=True)
class Bound:
    """A directory of the engine's host (`source`) that hal0 sees at `target`."""

    source: Path
    target: Path


@dataclass(frozen=True, slots=True)
class Addressing:
    """How slots are reached: by a published port on loopback, or by their own address on a shared network."""

    network: str
    published: bool

    def publish(self, host_port: int, container_port: int) -> Publish | None:
        return Publish(host_port, container_port) if self.published else None

    def endpoint(self, info: ContainerInfo, container_port: int) -> tuple[str, int] | None:
        """Host and port to call; None while the container has no address."""
        if self.published:
            return None if info.host_port is None else ("127.0.0.1", info.host_port)
        return None if info.ip is None else (info.ip, container_port)


def inside_container(facts: PlaceFacts) -> str | None:
    """Which kind of container hal0 runs in; None on a host, in a virtual machine and in a system container."""
    if "/run/.containerenv" in facts.markers:
        return "podman"
    if "/.dockerenv" in facts.markers:
        return "docker"
    variable = facts.container_variable
    return variable if variable in {"podman", "docker", "oci", "containerd", "kubernetes"} else None


def addressing(facts: PlaceFacts, *, instance: str) -> Addressing:
    """Loopback ports on a host or with host networking; else one network of hal0's own and nothing published."""
    if inside_container(facts) is None or not facts.own_network:
        return Addressing("bridge", published=True)
    return Addressing(f"hal0-{instance}", published=False)


def bounds_from_mountinfo(mountinfo: str) -> list[Bound]:
    """From /proc/self/mountinfo: real file systems only. Exact where the source is on the host's root file system;
    `bounds_from_inspect` is exact everywhere and comes first where hal0's own container can be inspected."""
    bounds: list[Bound] = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        if len(fields) >= 5 and after.split()[:1] and after.split()[0] not in _INNER:
            bounds.append(Bound(Path(_unescape(fields[3])), Path(_unescape(fields[4]))))
    return bounds


def bounds_from_inspect(document: Mapping[str, Any]) -> list[Bound]:
    """From podman's own description of hal0's container."""
    mounts = (mount for mount in document.get("Mounts") or () if mount.get("Source") and mount.get("Destination"))
    return [Bound(Path(mount["Source"]), Path(mount["Destination"])) for mount in mounts]


def translate(path: Path, bounds: Iterable[Bound]) -> Path:
    """The path where podman creates containers. Raises engine.failed with the line to add for a path under no mount."""
    under = [bound for bound in bounds if path.is_relative_to(bound.target)]
    if not under:
        where = path if path.suffix == "" else path.parent
        raise Hal0Error(
            "engine.failed",
            f"cannot give {path} to a slot: hal0 runs in a container and this path is not mounted from the host",
            hint=f"Start hal0's container with: -v {where}:{where}",
        )
    best = max(under, key=lambda bound: len(bound.target.parts))
    return best.source / path.relative_to(best.target)


def memory_bytes(*, host_total: int, own_limit: int | None, inside: bool) -> int:
    """The memory slots can have: hal0's own cgroup limit counts only where slots live under it too."""
    if inside or own_limit is None:
        return host_total  # slots are siblings of hal0's container, not children
    return min(host_total, own_limit)


def _unescape(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text
