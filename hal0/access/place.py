"""Whether this machine's loopback is only this machine's: where it is not, nobody may use `/v1` without a key."""

import os
from pathlib import Path
from typing import Final

_EVERYBODY: Final = ["0", "0", "4294967295"]  # uid_map of a process that is in no user namespace


def keyless_off(*, container: str | None, own_network: bool, rootless: bool) -> str | None:
    """Why loopback proves nothing here, or None.

    A published port of a container, and a port forwarded into a rootless network namespace, both arrive from
    loopback or from an address inside, whoever called.
    """
    if container is not None and own_network:
        return f"hal0 runs in a {container} container without host networking"
    if rootless:
        return "hal0 runs in a rootless network namespace"
    return None


def rootless_network(uid_map: str, *, euid: int, own: str | None, init: str | None) -> bool:
    """Whether this process, root of a user namespace, is in another network than PID 1.

    `own` and `init` are the network namespaces of this process and of PID 1, None where they may not be looked at:
    PID 1 of a system container shares both namespaces and can be; the host's, seen from inside `podman unshare`, not.
    """
    return euid == 0 and uid_map.split()[:3] != _EVERYBODY and (own is None or own != init)


def read_rootless_network(root: Path = Path("/")) -> bool:
    """`rootless_network` of this process, from procfs below `root`. Blocking, well below a millisecond."""
    try:
        uid_map = (root / "proc/self/uid_map").read_text()
    except OSError:  # a kernel without user namespaces
        return False
    own, init = (_namespace(root / "proc" / pid / "ns/net") for pid in ("self", "1"))
    return rootless_network(uid_map, euid=os.geteuid(), own=own, init=init)


def _namespace(link: Path) -> str | None:
    try:
        return str(link.readlink())
    except OSError:
        return None
