"""What this host is like, read without podman: capabilities, cgroups, tools; and the containers.conf it needs."""

import resource
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import tomlkit

_CAP_SYS_RESOURCE: Final = 24
PODMAN_NOFILE: Final = 1048576  # podman's own default for nofile and nproc; raising to it needs CAP_SYS_RESOURCE
_NPROC: Final = 32768  # eight times a slot's pids limit; a service started elsewhere often has no more to give
_HELPERS: Final = ("conmon", "netavark", "aardvark-dns", "catatonit", "iptables", "nft", "slirp4netns", "pasta")
_HELPER_DIRS: Final = (
    "/usr/local/libexec/podman:/usr/local/lib/podman:/usr/libexec/podman:/usr/lib/podman"
    ":/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin"
)
_INSTALL: Final[Mapping[str, str]] = {
    "debian": "apt-get install -y --no-install-recommends podman runc netavark aardvark-dns conmon catatonit iptables",
    "fedora": "dnf install -y podman netavark aardvark-dns catatonit iptables-nft",
    "arch": "pacman -S --needed podman netavark aardvark-dns catatonit iptables-nft crun",
    "suse": "zypper install -y podman netavark aardvark-dns catatonit iptables",
    "alpine": "apk add podman netavark aardvark-dns catatonit iptables crun",
}
_RELATIVES: Final[Mapping[str, str]] = {"ubuntu": "debian", "rhel": "fedora", "centos": "fedora", "opensuse": "suse"}


class CgroupMode(StrEnum):
    V2 = "v2"
    HYBRID = "hybrid"  # v1 controllers with a v2 tree beside them: crun refuses it
    V1 = "v1"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """Static facts. The `_hard` ones are this process's hard limits (memlock in bytes); None means without limit."""

    uid: int
    sys_resource: bool
    cgroups: CgroupMode
    systemd: bool
    tools: frozenset[str]
    nofile_hard: int | None
    nproc_hard: int | None
    selinux_enforcing: bool
    boot_id: str
    kernel: str
    distribution: tuple[str, ...]  # ID and ID_LIKE of os-release, most exact first
    memlock_hard: int | None = None

    @property
    def memlock(self) -> int:
        """Bytes that a process of a container may be allowed to pin; -1 is all."""
        return -1 if self.sys_resource or self.memlock_hard is None else self.memlock_hard

    @property
    def nofile(self) -> int | None:
        """The file limit to ask for where podman's default cannot be had; None elsewhere."""
        return self._grantable(self.nofile_hard)

    @property
    def nproc(self) -> int | None:
        limit = self._grantable(self.nproc_hard)
        return None if limit is None else min(limit, _NPROC)

    def _grantable(self, hard: int | None) -> int | None:
        if self.sys_resource or self.uid != 0 or hard is None or hard >= PODMAN_NOFILE:
            return None  # rootless podman lowers its defaults by itself
        return hard


def read_facts(environ: Mapping[str, str], *, uid: int, root: Path = Path("/")) -> HostFacts:
    """Read below `root`. Blocking, about a millisecond; never raises: what cannot be read counts as absent."""
    release = _os_release(_text(root / "etc/os-release"))
    search = f"{environ.get('PATH', '')}:{_HELPER_DIRS}"
    return HostFacts(
        uid=uid,
        sys_resource=has_capability(_text(root / "proc/self/status"), _CAP_SYS_RESOURCE),
        cgroups=cgroup_mode(_text(root / "proc/self/mountinfo")),
        systemd=(root / "run/systemd/system").is_dir(),
        tools=frozenset(tool for tool in ("podman", "crun", "runc", *_HELPERS) if shutil.which(tool, path=search)),
        nofile_hard=_hard(resource.RLIMIT_NOFILE),
        nproc_hard=_hard(resource.RLIMIT_NPROC),
        memlock_hard=_hard(resource.RLIMIT_MEMLOCK),
        selinux_enforcing=_text(root / "sys/fs/selinux/enforce").strip() == "1",
        boot_id=_text(root / "proc/sys/kernel/random/boot_id").strip(),
        kernel=_text(root / "proc/sys/kernel/osrelease").strip(),
        distribution=(release.get("ID", ""), *release.get("ID_LIKE", "").split()),
    )


def has_capability(status: str, bit: int) -> bool:
    """From /proc/self/status: is capability number `bit` effective?"""
    masks = (line.split()[1] for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(next(masks, "0"), 16) >> bit & 1)


def cgroup_mode(mountinfo: str) -> CgroupMode:
    """From /proc/self/mountinfo."""
    kinds: dict[str, str] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup"):
            kinds[before.split()[4]] = after.split()[0]
    if kinds.get("/sys/fs/cgroup") == "cgroup2":
        return CgroupMode.V2
    if "cgroup" in kinds.values():
        return CgroupMode.HYBRID if "cgroup2" in kinds.values() else CgroupMode.V1
    return CgroupMode.NONE


def containers_conf(facts: HostFacts, base: str = "") -> str | None:
    """`base` plus what this host needs and `base` does not say; None when it needs nothing, as ordinary hosts do.

    `base` is the configuration in force: podman 4.3 reads the file named by CONTAINERS_CONF instead of it.
    """
    needs: list[tuple[str, str, object]] = []
    limits = [f"{name}={value}:{value}" for name, value in (("nofile", facts.nofile), ("nproc", facts.nproc)) if value]
    if limits:
        needs.append(("containers", "default_ulimits", limits))
    if facts.cgroups is CgroupMode.HYBRID and {"crun", "runc"} <= facts.tools:
        needs.append(("engine", "runtime", "runc"))
    if not facts.systemd:  # podman guesses this right on most hosts; a wrong guess fails every start
        needs += [("engine", "cgroup_manager", "cgroupfs"), ("engine", "events_logger", "file")]
    document = tomlkit.parse(base)
    missing = [need for need in needs if need[1] not in document.get(need[0], {})]
    if not missing:
        return None
    for table, key, value in missing:
        if table not in document:
            document[table] = tomlkit.table()
        document[table][key] = value
    return tomlkit.dumps(document)


def install_line(distribution: tuple[str, ...]) -> str:
    """The exact command that brings podman here."""
    for name in distribution:
        family = _RELATIVES.get(name.partition("-")[0], name.partition("-")[0])
        if family in _INSTALL:
            return _INSTALL[family]
    return "install podman 4.3 or newer with netavark, conmon, catatonit and iptables"


def _os_release(text: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {key: value.strip("\"'") for key, _, value in pairs}


def _hard(limit: int) -> int | None:
    hard = resource.getrlimit(limit)[1]
    return None if hard == resource.RLIM_INFINITY else hard


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
