"""Where loopback proves nothing: published containers and rootless network namespaces."""

import pytest

from hal0.access.place import keyless_off, read_rootless_network, rootless_network

HOST = "         0          0 4294967295\n"
MAPPED = "         0       1000          1\n         1     100000      65536\n"


@pytest.mark.parametrize(
    ("container", "own_network", "rootless", "off"),
    [
        (None, False, False, False),
        (None, True, False, False),
        ("podman", False, False, False),
        ("podman", True, False, True),
        ("docker", True, True, True),
        (None, False, True, True),
    ],
)
def test_a_port_that_others_forward_takes_the_right_away(
    container: str | None, own_network: bool, rootless: bool, off: bool
) -> None:
    assert (keyless_off(container=container, own_network=own_network, rootless=rootless) is not None) is off


@pytest.mark.parametrize(
    ("uid_map", "euid", "own", "init", "rootless"),
    [
        (HOST, 0, "net:[1]", "net:[1]", False),
        (HOST, 0, "net:[2]", "net:[1]", False),  # a network namespace of root's own making
        (HOST, 1000, "net:[1]", None, False),  # an ordinary user may not look at PID 1
        (MAPPED, 0, "net:[2]", None, True),
        (MAPPED, 0, "net:[2]", "net:[1]", True),
        (MAPPED, 0, None, None, True),
        (MAPPED, 0, "net:[2]", "net:[2]", False),  # root of a system container, where PID 1 is its own
        (MAPPED, 1000, "net:[2]", None, False),  # an ordinary user in a system container
    ],
)
def test_a_rootless_network_is_one_that_pid_1_is_not_in(
    uid_map: str, euid: int, own: str | None, init: str | None, rootless: bool
) -> None:
    assert rootless_network(uid_map, euid=euid, own=own, init=init) is rootless


def test_the_machine_of_this_test_is_read_without_complaint() -> None:
    assert read_rootless_network() in (True, False)
