"""The create body: what every container gets, and what a restricted host loses item by item."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hal0.engine.base import Mount, Publish
from hal0.engine.payload import Feature, HostProfile, create_body
from tests.factories import container_spec

ORDINARY = HostProfile()


def without(*features: Feature) -> HostProfile:
    return HostProfile(dict.fromkeys(features, "refused here"))


def test_a_container_is_confined_limited_and_left_to_hal0() -> None:
    body = create_body(container_spec(memory_bytes=2**30, log_bytes=1000, stop_timeout_s=7), ORDINARY)
    assert body["cap_drop"] == ["ALL"]
    assert body["no_new_privileges"] is True
    assert body["init"] is True
    assert body["resource_limits"] == {"pids": {"limit": 4096}, "memory": {"limit": 2**30, "swap": 2**30}}
    assert body["log_configuration"] == {"driver": "k8s-file", "size": 1000}
    assert body["restart_policy"] == "no"
    assert body["healthconfig"] == {"test": ["NONE"]}
    assert body["httpproxy"] is False
    assert body["stop_timeout"] == 7
    assert "apparmor_profile" not in body
    assert "selinux_opts" not in body
    assert "r_limits" not in body
    assert "privileged" not in body


def test_mounts_devices_and_groups_are_given_one_by_one() -> None:
    spec = container_spec(
        mounts=(Mount(Path("/m/a.gguf"), "/models/a.gguf"), Mount(Path("/out"), "/out", read_only=False)),
        devices=("/dev/dri/renderD128", "nvidia.com/gpu=all"),
        groups=(44, 105),
    )
    body = create_body(spec, ORDINARY)
    binds = [(m["source"], m["destination"], m["options"][0]) for m in body["mounts"] if m["type"] == "bind"]
    assert binds == [("/m/a.gguf", "/models/a.gguf", "ro"), ("/out", "/out", "rw")]
    assert [m["destination"] for m in body["mounts"] if m["type"] == "tmpfs"] == ["/tmp"]
    assert body["devices"] == [{"path": "/dev/dri/renderD128"}, {"path": "nvidia.com/gpu=all"}]
    assert body["groups"] == ["44", "105"]


@pytest.mark.parametrize(
    ("network", "publish", "profile", "expected"),
    [
        ("bridge", None, ORDINARY, {"netns": {"nsmode": "bridge"}}),
        ("host", Publish(8081, 8080), ORDINARY, {"netns": {"nsmode": "host"}}),
        ("none", None, ORDINARY, {"netns": {"nsmode": "none"}}),
        ("hal0-x", None, ORDINARY, {"netns": {"nsmode": "bridge"}, "networks": {"hal0-x": {}}}),
        ("bridge", Publish(8081, 8080), without(Feature.BRIDGE), {"netns": {"nsmode": "host"}}),
        (
            "bridge",
            Publish(8081, 8080),
            replace(without(Feature.BRIDGE), rootless=True),
            {
                "netns": {"nsmode": "slirp4netns"},
                "portmappings": [
                    {"host_ip": "127.0.0.1", "host_port": 8081, "container_port": 8080, "protocol": "tcp"}
                ],
            },
        ),
        (
            "bridge",
            Publish(8081, 8080),
            ORDINARY,
            {
                "netns": {"nsmode": "bridge"},
                "portmappings": [
                    {"host_ip": "127.0.0.1", "host_port": 8081, "container_port": 8080, "protocol": "tcp"}
                ],
            },
        ),
    ],
)
def test_network(network: str, publish: Publish | None, profile: HostProfile, expected: dict[str, Any]) -> None:
    body = create_body(container_spec(network=network, publish=publish), profile)
    assert {key: body[key] for key in ("netns", "networks", "portmappings") if key in body} == expected


@pytest.mark.parametrize(
    ("feature", "lost"),
    [
        (Feature.INIT, {"init"}),
        (Feature.NO_NEW_PRIVILEGES, {"no_new_privileges"}),
        (Feature.DROP_CAPABILITIES, {"cap_drop"}),
        (Feature.LOG_FILE, {"log_configuration"}),
    ],
)
def test_what_a_host_refuses_is_left_out_and_nothing_else(feature: Feature, lost: set[str]) -> None:
    spec = container_spec(memory_bytes=2**30)
    whole, reduced = create_body(spec, ORDINARY), create_body(spec, without(feature))
    assert {key: value for key, value in whole.items() if key not in lost} == reduced


@pytest.mark.parametrize(
    ("feature", "left"),
    [(Feature.PIDS_LIMIT, {"memory"}), (Feature.MEMORY_LIMIT, {"pids"})],
)
def test_limits_are_left_out_one_by_one(feature: Feature, left: set[str]) -> None:
    body = create_body(container_spec(memory_bytes=2**30), without(feature))
    assert set(body["resource_limits"]) == left


@pytest.mark.parametrize(
    ("feature", "key", "value"),
    [(Feature.APPARMOR, "apparmor_profile", "unconfined"), (Feature.SELINUX, "selinux_opts", ["disable"])],
)
def test_a_profile_that_cannot_be_used_is_switched_off_by_name(feature: Feature, key: str, value: object) -> None:
    assert create_body(container_spec(), without(feature))[key] == value


def test_ulimits_are_asked_for_only_where_podmans_own_cannot_be_had() -> None:
    body = create_body(container_spec(), HostProfile(nofile=20000, nproc=32768))
    assert body["r_limits"] == [
        {"type": "nofile", "soft": 20000, "hard": 20000},
        {"type": "nproc", "soft": 32768, "hard": 32768},
    ]


def test_processes_are_who_may_read_the_files_and_the_caller_where_only_the_caller_can() -> None:
    assert "user" not in create_body(container_spec(), ORDINARY)
    assert create_body(container_spec(user=65534), ORDINARY)["user"] == "65534:65534"
    assert create_body(container_spec(user=1000), ORDINARY)["user"] == "1000:65534", "no group but its devices'"
    assert create_body(container_spec(user=65534), HostProfile(rootless=True))["user"] == "0:0"


def test_the_groups_of_devices_are_given_by_number_or_kept_where_they_have_none() -> None:
    spec = container_spec(groups=(44, 109))
    assert create_body(spec, ORDINARY)["groups"] == ["44", "109"]
    rootless = create_body(spec, HostProfile(rootless=True))
    assert rootless["annotations"] == {"run.oci.keep_original_groups": "1"}
    assert "groups" not in rootless
    assert "annotations" not in create_body(container_spec(), HostProfile(rootless=True))
