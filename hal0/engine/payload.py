"""ContainerSpec to podman's create body, pure: what a slot may do is decided here and nowhere else.

Ordinary hosts get everything: no capabilities, no new privileges, an init, limits, a bounded log that people can
read. What a restricted host refuses (`HostProfile`) is left out item by item; nothing else ever is.
The body works on podman 4.3 and 5.x alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from hal0.engine.base import ContainerSpec, Mount

# llama.cpp and Mesa keep compiled shaders below /tmp and HOME; half a gigabyte holds every pipeline of a large model.
_TMP_OPTIONS: Final = ("rw", "nosuid", "nodev", "size=512m", "mode=1777")


_NO_GROUP: Final = 65534


class Feature(StrEnum):
    """A confinement or convenience that a host may refuse."""

    INIT = "init"
    NO_NEW_PRIVILEGES = "no_new_privileges"
    DROP_CAPABILITIES = "drop_capabilities"
    PIDS_LIMIT = "pids_limit"
    MEMORY_LIMIT = "memory_limit"
    LOG_FILE = "log_file"
    BRIDGE = "bridge"
    APPARMOR = "apparmor"
    SELINUX = "selinux"


@dataclass(frozen=True, slots=True)
class HostProfile:
    """What this host refuses, each with its reason in one line, and the limits it can grant.

    `rootless`: podman runs without root rights, where a container may have a network of its own without a bridge.
    """

    left_out: Mapping[Feature, str] = field(default_factory=lambda: MappingProxyType({}))
    nofile: int | None = None  # set where podman's own default may not be raised to
    nproc: int | None = None
    memlock: int = -1  # bytes that a process may be allowed to pin; -1 is all
    rootless: bool = False

    def allows(self, feature: Feature) -> bool:
        return feature not in self.left_out


def create_body(spec: ContainerSpec, profile: HostProfile) -> dict[str, Any]:
    """The JSON of POST /libpod/containers/create."""
    body: dict[str, Any] = {
        "name": spec.name,
        "image": spec.image,
        "command": list(spec.argv),
        "env": dict(spec.env),
        "labels": dict(spec.labels),
        "mounts": [*(_bind(mount) for mount in spec.mounts), _TMP],
        "devices": [{"path": device} for device in spec.devices],
        "stop_timeout": spec.stop_timeout_s,
        "restart_policy": "no",  # hal0 decides about restarts; two deciders would race
        "healthconfig": {"test": ["NONE"]},  # needs systemd timers; hal0 probes by itself
        "httpproxy": False,  # the host's proxy, and the password in it, are none of a slot's business
        "resource_limits": _limits(spec, profile),
        **_network(spec, profile),
        **_confinement(profile),
        **_identity(spec, profile),
    }
    if profile.allows(Feature.LOG_FILE):
        body["log_configuration"] = {"driver": "k8s-file", "size": spec.log_bytes}
    if rlimits := _rlimits(spec, profile):
        body["r_limits"] = rlimits
    return body


_TMP: Final[dict[str, Any]] = {"type": "tmpfs", "source": "tmpfs", "destination": "/tmp", "options": list(_TMP_OPTIONS)}  # noqa: S108


def _bind(mount: Mount) -> dict[str, Any]:
    return {
        "type": "bind",
        "source": str(mount.source),
        "destination": mount.target,
        "options": ["ro" if mount.read_only else "rw", "rbind", "nosuid", "nodev"],
    }


def _identity(spec: ContainerSpec, profile: HostProfile) -> dict[str, Any]:
    """Whom its processes are. Files are given to a user, devices to groups: it has no group but those."""
    if not profile.rootless:
        groups = {"groups": [str(gid) for gid in spec.groups]}
        return groups if spec.user is None else {**groups, "user": f"{spec.user}:{_NO_GROUP}"}
    # Without root rights the caller is root inside, and nobody outside; anybody else there could not read the caller's
    # files. The host's groups have no number there: the caller's own are kept.
    kept = {"annotations": {"run.oci.keep_original_groups": "1"}} if spec.groups else {}
    return kept if spec.user is None else {**kept, "user": "0:0"}


def _network(spec: ContainerSpec, profile: HostProfile) -> dict[str, Any]:
    if spec.network in {"host", "none"}:
        return {"netns": {"nsmode": spec.network}}
    if spec.network == "bridge" and not profile.allows(Feature.BRIDGE):
        if not profile.rootless:
            return {"netns": {"nsmode": "host"}}
        network: dict[str, Any] = {"netns": {"nsmode": "slirp4netns"}}  # publishes ports as a bridge does
    else:
        network = {"netns": {"nsmode": "bridge"}}
    if spec.network != "bridge":
        network["networks"] = {spec.network: {}}
    if (publish := spec.publish) is not None:
        network["portmappings"] = [
            {
                "host_ip": publish.host_ip,
                "host_port": publish.host_port,
                "container_port": publish.container_port,
                "protocol": "tcp",
            }
        ]
    return network


def _confinement(profile: HostProfile) -> dict[str, Any]:
    body: dict[str, Any] = {}
    if profile.allows(Feature.DROP_CAPABILITIES):
        body["cap_drop"] = ["ALL"]
    if profile.allows(Feature.NO_NEW_PRIVILEGES):
        body["no_new_privileges"] = True
    if profile.allows(Feature.INIT):
        body["init"] = True
    if not profile.allows(Feature.APPARMOR):
        body["apparmor_profile"] = "unconfined"
    if not profile.allows(Feature.SELINUX):
        body["selinux_opts"] = ["disable"]
    return body


def _limits(spec: ContainerSpec, profile: HostProfile) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    if profile.allows(Feature.PIDS_LIMIT):
        limits["pids"] = {"limit": spec.pids_limit}
    if spec.memory_bytes is not None and profile.allows(Feature.MEMORY_LIMIT):
        # swap is memory plus swap: equal figures mean that weights are never swapped out
        limits["memory"] = {"limit": spec.memory_bytes, "swap": spec.memory_bytes}
    return limits


def _rlimits(spec: ContainerSpec, profile: HostProfile) -> list[dict[str, Any]]:
    wanted = (
        ("nofile", profile.nofile),
        ("nproc", profile.nproc),
        ("memlock", profile.memlock if spec.locks_memory else None),
    )
    return [{"type": name, "soft": value, "hard": value} for name, value in wanted if value is not None]
