"""Facts of the host and the containers.conf they ask for."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from hal0.engine.host import (
    CgroupMode,
    HostFacts,
    cgroup_mode,
    containers_conf,
    has_capability,
    install_line,
    read_facts,
)

V2 = "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
HYBRID = (
    "29 20 0:25 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
    "31 29 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "32 29 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
)
V1 = "31 29 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"


def facts(**changes: Any) -> HostFacts:
    """An ordinary host: systemd, cgroup v2, every capability."""
    fields: dict[str, Any] = {
        "uid": 0,
        "sys_resource": True,
        "cgroups": CgroupMode.V2,
        "systemd": True,
        "tools": frozenset({"podman", "crun", "runc", "netavark", "catatonit", "conmon"}),
        "nofile_hard": 524288,
        "nproc_hard": 96000,
        "selinux_enforcing": False,
        "boot_id": "b",
        "kernel": "6.1",
        "distribution": ("debian",),
    }
    return HostFacts(**(fields | changes))


@pytest.mark.parametrize(("text", "mode"), [(V2, "v2"), (HYBRID, "hybrid"), (V1, "v1"), ("", "none")])
def test_cgroup_mode(text: str, mode: str) -> None:
    assert cgroup_mode(text) == mode


@pytest.mark.parametrize(
    ("status", "has"),
    [
        ("Name:\tx\nCapEff:\t000001ffffffffff\n", True),
        ("CapEff:\t000001fffeffffff\n", False),
        ("CapBnd:\t000001ffffffffff\n", False),
        ("", False),
    ],
)
def test_cap_sys_resource_is_bit_24(status: str, has: bool) -> None:
    assert has_capability(status, 24) is has


@pytest.mark.parametrize(
    ("changes", "needs"),
    [
        ({}, None),
        ({"uid": 1000, "sys_resource": False}, None),  # rootless podman lowers its own defaults
        ({"sys_resource": False, "nofile_hard": None, "nproc_hard": 2**21}, None),
        (
            {"sys_resource": False, "nofile_hard": 20000},
            {"containers": {"default_ulimits": ["nofile=20000:20000", "nproc=32768:32768"]}},
        ),
        ({"sys_resource": False, "nofile_hard": None, "nproc_hard": 100},
         {"containers": {"default_ulimits": ["nproc=100:100"]}}),
        ({"cgroups": CgroupMode.HYBRID}, {"engine": {"runtime": "runc"}}),
        ({"cgroups": CgroupMode.HYBRID, "tools": frozenset({"runc"})}, None),
        ({"systemd": False}, {"engine": {"cgroup_manager": "cgroupfs", "events_logger": "file"}}),
    ],
)  # fmt: skip
def test_only_what_the_host_needs_is_configured(changes: dict[str, Any], needs: dict[str, Any] | None) -> None:
    text = containers_conf(facts(**changes))
    assert (None if text is None else tomllib.loads(text)) == needs


def test_the_configuration_in_force_is_kept_and_wins() -> None:
    base = '# mine\n[engine]\nruntime = "crun"\nnum_locks = 4096\n[network]\nnetwork_backend = "netavark"\n'
    restricted = facts(cgroups=CgroupMode.HYBRID, systemd=False)
    text = containers_conf(restricted, base)
    assert text is not None
    assert text.startswith("# mine")
    merged = tomllib.loads(text)
    assert merged["engine"] == {
        "runtime": "crun",
        "num_locks": 4096,
        "cgroup_manager": "cgroupfs",
        "events_logger": "file",
    }
    assert merged["network"] == {"network_backend": "netavark"}
    assert containers_conf(restricted, text) is None


@pytest.mark.parametrize(
    ("distribution", "starts"),
    [
        (("debian",), "apt-get install"),
        (("ubuntu", "debian"), "apt-get install"),
        (("linuxmint", "ubuntu", "debian"), "apt-get install"),
        (("fedora",), "dnf install"),
        (("rocky", "rhel", "centos", "fedora"), "dnf install"),
        (("arch",), "pacman -S"),
        (("opensuse-tumbleweed", "opensuse", "suse"), "zypper install"),
        (("alpine",), "apk add"),
        (("plan9",), "install podman"),
        (("",), "install podman"),
    ],
)
def test_the_install_line_is_the_distributions_own(distribution: tuple[str, ...], starts: str) -> None:
    line = install_line(distribution)
    assert line.startswith(starts)
    assert "podman" in line


def test_facts_are_read_below_a_root_and_absent_files_are_absent_facts(tmp_path: Path) -> None:
    empty = read_facts({"PATH": ""}, uid=0, root=tmp_path)
    assert (empty.cgroups, empty.systemd, empty.sys_resource, empty.boot_id) == (CgroupMode.NONE, False, False, "")
    for name, text in {
        "etc/os-release": 'ID="fedora"\nID_LIKE="rhel centos"\n',
        "proc/self/status": "CapEff:\t000001ffffffffff\n",
        "proc/self/mountinfo": V2,
        "proc/sys/kernel/random/boot_id": "boot\n",
        "proc/sys/kernel/osrelease": "6.9\n",
        "sys/fs/selinux/enforce": "1",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    full = read_facts({"PATH": ""}, uid=0, root=tmp_path)
    assert (full.cgroups, full.systemd, full.sys_resource, full.selinux_enforcing) == (CgroupMode.V2, True, True, True)
    assert (full.boot_id, full.kernel, full.distribution) == ("boot", "6.9", ("fedora", "rhel", "centos"))
