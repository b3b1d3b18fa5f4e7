"""Podman's documents, as 4.3 and 5.x write them, to hal0's values."""

from typing import Any

import pytest

from hal0.engine.base import ContainerInfo, ContainerStatus, EventKind
from hal0.engine.documents import container_info, container_stats, engine_event, image_info, seconds

INSPECT: dict[str, Any] = {
    "Id": "c1",
    "Name": "hal0-x-primary-1",
    "Image": "sha256:i1",
    "State": {
        "Status": "running",
        "Pid": 7,
        "ConmonPid": 6,
        "ExitCode": 0,
        "OOMKilled": False,
        "Error": "",
        "StartedAt": "2026-01-02T03:04:05.123456789Z",
        "FinishedAt": "0001-01-01T00:00:00Z",
        "Health": {"Status": "", "FailingStreak": 0, "Log": None},
    },
    "Config": {"Labels": {"dev.hal0.slot": "primary"}},
    "NetworkSettings": {"IPAddress": "", "Networks": {"hal0-x": {"IPAddress": "10.0.0.2"}}},
    "HostConfig": {"Memory": 1024, "PortBindings": {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8081"}]}},
}


def with_state(**state: Any) -> dict[str, Any]:
    return {**INSPECT, "State": {**INSPECT["State"], **state}}


def test_a_running_container() -> None:
    assert container_info(INSPECT) == ContainerInfo(
        id="c1",
        name="hal0-x-primary-1",
        status=ContainerStatus.RUNNING,
        labels={"dev.hal0.slot": "primary"},
        image_id="i1",
        pid=7,
        conmon_pid=6,
        started_at=seconds("2026-01-02T03:04:05.123456789Z"),
        ip="10.0.0.2",
        host_port=8081,
        memory_limit_bytes=1024,
    )


def test_an_ended_container_has_code_and_time() -> None:
    info = container_info(
        with_state(Status="exited", ExitCode=137, OOMKilled=True, Pid=0, FinishedAt="2026-01-02T03:04:06+00:00")
    )
    assert (info.status, info.exit_code, info.oom_killed, info.pid) == (ContainerStatus.EXITED, 137, True, 0)
    assert info.finished_at is not None
    assert info.started_at is not None
    assert 0 < info.finished_at - info.started_at < 1


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("created", ContainerStatus.CREATED),
        ("initialized", ContainerStatus.CREATED),
        ("running", ContainerStatus.RUNNING),
        ("stopping", ContainerStatus.STOPPING),
        ("stopped", ContainerStatus.EXITED),
        ("exited", ContainerStatus.EXITED),
        ("paused", ContainerStatus.OTHER),
        ("something-new", ContainerStatus.OTHER),
    ],
)
def test_status_words(word: str, status: ContainerStatus) -> None:
    assert container_info(with_state(Status=word)).status is status


def test_only_an_id_is_needed() -> None:
    info = container_info({"Id": "c"})
    assert (info.status, info.host_port, info.ip, info.exit_code) == (ContainerStatus.OTHER, None, None, None)


@pytest.mark.parametrize("document", [{"Stats": []}, {"Stats": None, "Error": {}}, {"Stats": [{"MemLimit": 0}]}])
def test_a_container_that_does_not_run_has_no_stats(document: dict[str, Any]) -> None:
    assert container_stats(document) is None


def test_cpu_is_told_in_seconds() -> None:
    stats = container_stats({"Stats": [{"CPUNano": 1_500_000_000, "MemUsage": 10, "MemLimit": 20}]})
    assert stats is not None
    assert (stats.cpu_s, stats.memory_bytes, stats.memory_limit_bytes) == (1.5, 10, 20)


@pytest.mark.parametrize(
    "document",
    [
        {
            "Id": "sha256:i",
            "RepoTags": ["a:b"],
            "RepoDigests": ["a@sha256:d"],
            "Size": 5,
            "Created": 1.5,
            "Labels": {"k": "v"},
        },
        {
            "Id": "i",
            "RepoTags": ["a:b"],
            "RepoDigests": ["a@sha256:d"],
            "Size": 5,
            "Created": "1970-01-01T00:00:01.5Z",
            "Config": {"Labels": {"k": "v"}},
        },
    ],
    ids=["list", "inspect"],
)
def test_an_image_is_the_same_from_list_and_inspect(document: dict[str, Any]) -> None:
    image = image_info(document)
    assert (image.id, image.tags, image.digests, image.size_bytes) == ("i", ("a:b",), ("a@sha256:d",), 5)
    assert (image.created, image.labels) == (1.5, {"k": "v"})


def test_an_untagged_image_has_no_tags() -> None:
    assert image_info({"Id": "i", "RepoTags": None}).tags == ()


@pytest.mark.parametrize(("action", "kind"), [("start", EventKind.STARTED), ("oom", EventKind.OOM), ("exec", None)])
def test_events(action: str, kind: EventKind | None) -> None:
    event = engine_event({"Type": "container", "Action": action, "Actor": {"ID": "c", "Attributes": {"name": "n"}}})
    assert (event.kind if event else None) is kind


def test_events_of_images_are_not_of_containers() -> None:
    assert engine_event({"Type": "image", "Action": "remove", "Actor": {"ID": "i"}}) is None


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00Z", "", "soon", None, 5])
def test_what_is_no_time_is_none(text: object) -> None:
    assert seconds(text) is None
