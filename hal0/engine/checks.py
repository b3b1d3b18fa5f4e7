"""What health and doctor say about podman and this host: one line per fact, with the cure beside each fault. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from hal0.engine.host import CgroupMode, HostFacts, install_line
from hal0.engine.payload import Feature
from hal0.engine.probe import ProbeResult
from hal0.errors import Hal0Error

_CURE: Final = {
    Feature.INIT: "install catatonit",
    Feature.BRIDGE: "install netavark and iptables; slots share the host's network until then",
    Feature.MEMORY_LIMIT: "give this host the memory cgroup controller (in LXC: features nesting=1)",
    Feature.PIDS_LIMIT: "give this host the pids cgroup controller (in LXC: features nesting=1)",
    Feature.APPARMOR: "load podman's AppArmor profile (in LXC: features nesting=1), or accept slots without it",
    Feature.SELINUX: "nothing to do: slots keep every other confinement",
    Feature.LOG_FILE: "use a podman that can write k8s-file logs",
    Feature.DROP_CAPABILITIES: "use a host that lets podman drop capabilities",
    Feature.NO_NEW_PRIVILEGES: "use a kernel and runtime with no_new_privs",
}

_OUT: Final = "it can reach the network, because no port of an internal one can be published"


class CheckState(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"  # it could not be found out: never taken for ok


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    state: CheckState
    message: str
    fix: str = ""


def checks(
    facts: HostFacts, *, version: str | None, source: str, problem: Hal0Error | None, probed: ProbeResult | None
) -> list[Check]:
    """`version` and `problem` are the service's; `probed` is None until a container could be tried."""
    if problem is not None or version is None:
        message = problem.message if problem is not None else "cannot reach podman"
        hint = problem.hint if problem is not None else install_line(facts.distribution)
        service = Check("podman", CheckState.FAIL, message, hint)
    else:
        service = Check("podman", CheckState.OK, f"podman {version} answers ({source})")
    return [service, *_static(facts), *_tried(probed)]


def _static(facts: HostFacts) -> Iterator[Check]:
    if facts.cgroups is CgroupMode.NONE:
        yield Check("cgroups", CheckState.FAIL, "no cgroups are mounted", "mount cgroup2 at /sys/fs/cgroup")
    elif facts.cgroups is CgroupMode.HYBRID and "runc" not in facts.tools:
        yield Check("cgroups", CheckState.FAIL, "crun refuses hybrid cgroups", "install runc")
    else:
        yield Check("cgroups", CheckState.OK, f"cgroups {facts.cgroups.value}")
    if facts.nofile is not None:
        yield Check(
            "ulimits",
            CheckState.WARN,
            f"without CAP_SYS_RESOURCE slots get {facts.nofile} open files",
            "nothing to do, unless a slot runs out of files",
        )
    else:
        yield Check("ulimits", CheckState.OK, "podman's own limits can be set")


def _tried(probed: ProbeResult | None) -> Iterator[Check]:
    if probed is None:
        yield Check("container", CheckState.SKIPPED, "no container was tried yet: no image is here", "load a slot")
        return
    if probed.problem is not None:
        yield Check("container", CheckState.FAIL, f"no container starts here: {probed.problem}", "see the message")
        return
    left_out = probed.profile.left_out
    yield Check("container", CheckState.OK, f"{'a container' if left_out else 'a confined container'} starts; {_OUT}")
    for feature, why in left_out.items():
        yield Check(feature.value, CheckState.WARN, f"left out: {why}", _CURE[feature])
    yield _storage(probed)


def _storage(probed: ProbeResult) -> Check:
    driver = probed.engine.get("storage")
    if driver is None:
        return Check("storage", CheckState.SKIPPED, "podman did not tell its storage driver")
    if driver == "vfs":
        message = "storage driver vfs copies every image in full for every container"
        return Check("storage", CheckState.WARN, message, "install fuse-overlayfs, or move the store to ext4 or xfs")
    return Check("storage", CheckState.OK, f"storage driver {driver}")
