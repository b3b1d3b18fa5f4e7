"""hal0 in a container: where it is, which path is which, how slots are reached."""

from pathlib import Path

import pytest

from hal0.engine.base import ContainerInfo, ContainerStatus, Publish
from hal0.engine.nested import (
    Bound,
    PlaceFacts,
    addressing,
    bounds_from_inspect,
    bounds_from_mountinfo,
    inside_container,
    memory_bytes,
    translate,
)
from hal0.errors import Hal0Error

PODMAN, DOCKER = "/run/.containerenv", "/.dockerenv"


def place(*markers: str, variable: str = "", own_network: bool = True) -> PlaceFacts:
    return PlaceFacts(frozenset(markers), variable, own_network)


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        (place(PODMAN), "podman"),
        (place(DOCKER), "docker"),
        (place(variable="oci"), "oci"),
        (place(variable="lxc"), None),  # a system container is a host of its own
        (place(variable="systemd-nspawn"), None),
        (place(), None),
    ],
)
def test_what_counts_as_inside_a_container(facts: PlaceFacts, kind: str | None) -> None:
    assert inside_container(facts) == kind


@pytest.mark.parametrize(
    ("facts", "network", "publish", "endpoint"),
    [
        (place(), "bridge", Publish(8081, 8080), ("127.0.0.1", 8081)),
        (place(PODMAN, own_network=False), "bridge", Publish(8081, 8080), ("127.0.0.1", 8081)),
        (place(PODMAN), "hal0-abc", None, ("10.0.0.5", 8080)),
    ],
)
def test_slots_are_reached_by_loopback_or_by_their_own_address(
    facts: PlaceFacts, network: str, publish: Publish | None, endpoint: tuple[str, int]
) -> None:
    how = addressing(facts, instance="abc")
    info = ContainerInfo(id="c", name="c", status=ContainerStatus.RUNNING, labels={}, ip="10.0.0.5", host_port=8081)
    gone = ContainerInfo(id="c", name="c", status=ContainerStatus.EXITED, labels={})
    assert how.network == network
    assert how.publish(8081, 8080) == publish
    assert how.endpoint(info, 8080) == endpoint
    assert how.endpoint(gone, 8080) is None


MOUNTINFO = (
    "1 0 0:40 / / rw - overlay overlay rw,lowerdir=/x\n"
    "2 1 8:1 /srv/hal0 /var/lib/hal0 rw - ext4 /dev/sda1 rw\n"
    "3 2 8:1 /big/models /var/lib/hal0/models rw - ext4 /dev/sda1 rw\n"
    "4 1 8:1 /with\\040blank /data rw shared:1 - ext4 /dev/sda1 rw\n"
    "5 1 0:50 / /tmp rw - tmpfs tmpfs rw\n"
    "garbage\n"
)


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("/var/lib/hal0/state.json", "/srv/hal0/state.json"),
        ("/var/lib/hal0/models/a.gguf", "/big/models/a.gguf"),
        ("/var/lib/hal0", "/srv/hal0"),
        ("/data/x", "/with blank/x"),
    ],
)
def test_paths_are_translated_through_the_nearest_mount(path: str, there: str) -> None:
    assert translate(Path(path), bounds_from_mountinfo(MOUNTINFO)) == Path(there)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/models/a.gguf", "-v /models:/models"),
        ("/tmp/x.bin", "-v /tmp:/tmp"),
        ("/var/lib/hal0-other", "-v /var/lib/hal0-other:/var/lib/hal0-other"),
    ],
)
def test_a_path_under_no_mount_is_refused_with_the_line_to_add(path: str, line: str) -> None:
    with pytest.raises(Hal0Error) as caught:
        translate(Path(path), bounds_from_mountinfo(MOUNTINFO))
    assert line in caught.value.hint


def test_podmans_own_description_of_the_container_gives_the_same_kind_of_table() -> None:
    document = {
        "Mounts": [
            {"Type": "bind", "Source": "/srv/models", "Destination": "/models"},
            {"Type": "tmpfs", "Source": "", "Destination": "/tmp"},
        ]
    }
    assert bounds_from_inspect(document) == [Bound(Path("/srv/models"), Path("/models"))]
    assert bounds_from_inspect({}) == []


@pytest.mark.parametrize(
    ("total", "limit", "inside", "expected"),
    [(64, 8, False, 8), (64, None, False, 64), (64, 8, True, 64), (64, 128, False, 64)],
)
def test_memory_is_that_of_the_place_where_slots_live(
    total: int, limit: int | None, inside: bool, expected: int
) -> None:
    assert memory_bytes(host_total=total, own_limit=limit, inside=inside) == expected
