"""Faults of podman's service itself: late, silent, halved and foreign answers become typed errors in time."""

import asyncio
from pathlib import Path

import pytest

from hal0.engine import podman, store
from hal0.engine.base import ContainerStatus
from hal0.engine.podman import PodmanEngine
from hal0.engine.translate import Subject
from hal0.errors import Hal0Error
from tests.fakes.podman_api import DOCKER_404, DOCKER_PING, STALLED, End, Reply, ScriptedPodman, json_reply, refused

RUNNING = {"Id": "c" * 64, "Name": "c", "State": {"Status": "running", "Pid": 7}}


async def test_a_late_answer_is_an_answer(api: ScriptedPodman, engine: PodmanEngine) -> None:
    api.on("GET", "/containers/c/json", json_reply(RUNNING, delay_s=0.2))
    info = await engine.inspect("c")
    assert info is not None
    assert info.status is ContainerStatus.RUNNING


async def test_a_stalled_call_ends_at_its_deadline_and_others_go_on(api: ScriptedPodman, engine: PodmanEngine) -> None:
    api.on("GET", "/containers/stalled/json", STALLED)
    api.on("GET", "/containers/c/json", json_reply(RUNNING))
    subject = Subject("inspect container stalled")
    call = engine.transport.call("GET", "/containers/stalled/json", subject, timeout_s=0.3)
    stalled = asyncio.create_task(call)
    assert await engine.inspect("c") is not None
    assert not stalled.done()
    with pytest.raises(Hal0Error, match=r"took longer than 0\.3 s") as caught:
        await stalled
    assert caught.value.code == "engine.timeout"


@pytest.mark.parametrize(
    "reply",
    [Reply(200, (b'{"Id": "c',), End.CUT), Reply(200, (b'{"Id": "c',)), Reply(200, (b"<html>",))],
    ids=["cut", "half", "no-json"],
)
async def test_half_an_answer_is_a_failure_not_a_container(
    api: ScriptedPodman, engine: PodmanEngine, reply: Reply
) -> None:
    api.on("GET", "/containers/c/json", reply)
    with pytest.raises(Hal0Error) as caught:
        await engine.inspect("c")
    assert caught.value.code in {"engine.unreachable", "engine.failed"}


LISTED = {
    "Id": "s" * 64,
    "Names": ["hal0-0badcafe-embed-3"],
    "State": "running",
    "Labels": {"dev.hal0.slot": "embed"},
    "ImageID": "sha256:" + "1" * 64,
    "Pid": 41,
    "ExitCode": 0,
    "StartedAt": 1763990000,
    "ExitedAt": -62135596800,
    "Ports": [{"host_ip": "127.0.0.1", "container_port": 8080, "host_port": 8082, "range": 1, "protocol": "tcp"}],
}


@pytest.mark.parametrize("reply", [STALLED, refused(500, "cannot lock it")], ids=["stuck", "broken"])
async def test_one_container_that_cannot_be_inspected_hides_none_of_the_others(
    api: ScriptedPodman, engine: PodmanEngine, reply: Reply, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(podman, "_LISTED_S", 0.3)
    ended = {**LISTED, "Id": "e" * 64, "State": "exited", "ExitCode": 137, "ExitedAt": 1763990009, "Pid": 0}
    api.on("GET", "/containers/json", json_reply([{"Id": "c" * 64}, LISTED, ended]))
    api.on("GET", f"/containers/{'c' * 64}/json", json_reply(RUNNING))
    api.on("GET", f"/containers/{'s' * 64}/json", reply)
    api.on("GET", f"/containers/{'e' * 64}/json", reply)
    whole, stuck, dead = await engine.containers({"dev.hal0.slot": "embed"})
    assert whole.pid == 7
    assert (stuck.name, stuck.status, stuck.pid, stuck.host_port, stuck.finished_at) == (
        "hal0-0badcafe-embed-3",
        ContainerStatus.RUNNING,
        41,
        8082,
        None,
    )
    assert stuck.labels == {"dev.hal0.slot": "embed"}
    assert (dead.status, dead.exit_code, dead.finished_at) == (ContainerStatus.EXITED, 137, 1763990009.0)


async def test_a_podman_that_goes_away_while_it_lists_has_said_nothing(
    api: ScriptedPodman, engine: PodmanEngine
) -> None:
    api.on("GET", "/containers/json", json_reply([LISTED]))
    api.on("GET", f"/containers/{'s' * 64}/json", Reply(200, (b"{",), End.CUT))
    with pytest.raises(Hal0Error) as caught:
        await engine.containers({})
    assert caught.value.code == "engine.unreachable"


async def test_docker_is_told_from_podman_by_ping_and_by_call(api: ScriptedPodman, engine: PodmanEngine) -> None:
    api.on("GET", "/_ping", DOCKER_PING)
    api.on("GET", "/containers/c/json", DOCKER_404)
    api.on("GET", "/images/json", DOCKER_404)
    for call in (engine.ping(), engine.inspect("c"), engine.image_list()):
        with pytest.raises(Hal0Error) as caught:
            await call
        assert caught.value.code == "engine.not_podman"
        assert "CONTAINER_HOST" in caught.value.hint


async def test_remove_is_tried_a_second_time_and_only_a_second(api: ScriptedPodman, engine: PodmanEngine) -> None:
    conmon = refused(500, "cannot remove container c as it could not be stopped: timed out waiting for exit file")
    api.on("DELETE", "/containers/c", conmon, json_reply([]))
    await engine.remove("c")
    api.on("DELETE", "/containers/d", conmon)
    with pytest.raises(Hal0Error, match="cannot remove container d"):
        await engine.remove("d")
    removed = [request for request in api.requests if request.method == "DELETE"]
    assert [request.path.rpartition("/")[2] for request in removed] == ["c", "c", "d", "d"]
    assert all(request.query["timeout"] == ["0"] for request in removed)


async def test_a_gone_service_is_unreachable_and_a_returned_one_serves(
    api: ScriptedPodman, engine: PodmanEngine
) -> None:
    assert await engine.ping() == "4.3.1"
    await api.close()
    with pytest.raises(Hal0Error) as caught:
        await engine.ping()
    assert caught.value.code == "engine.unreachable"
    await api.open()
    assert await engine.ping() == "4.3.1"


async def test_pull_tells_bytes_and_fails_by_a_line_in_a_good_answer(api: ScriptedPodman, engine: PodmanEngine) -> None:
    lines = (
        b'{"status":"Downloading","progressDetail":{"current":10,"total":40},"id":"a"}\n',
        b'{"status":"Downloading","progressDetail":{"current":40,"total":40},"id":"a"}\n',
        b'{"error":"unauthorized"}\n',
    )
    api.on("POST", "/v1.41/images/create", Reply(200, lines))
    told: list[float | None] = []
    with pytest.raises(Hal0Error, match="cannot pull registry:5000/x/y: unauthorized"):
        await engine.image_pull("registry:5000/x/y", lambda progress: told.append(progress.fraction))
    assert told == [0.25, 1.0]
    asked = api.requests[-1].query
    assert (asked["fromImage"], asked["tag"]) == (["registry:5000/x/y"], ["latest"])


async def test_cancelling_a_pull_closes_its_connection(api: ScriptedPodman, engine: PodmanEngine) -> None:
    line = b'{"status":"Downloading","progressDetail":{"current":10,"total":40},"id":"a"}\n'
    api.on("POST", "/v1.41/images/create", Reply(200, (line,), End.OPEN))
    begun = asyncio.Event()
    pull = asyncio.create_task(engine.image_pull("x", lambda _: begun.set()))
    await asyncio.wait_for(begun.wait(), 5)
    pull.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pull


async def test_an_import_is_given_up_when_podman_takes_no_more(
    api: ScriptedPodman, engine: PodmanEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(store, "_QUIET_IMPORT_S", 0.3)
    api.on("POST", "/images/import", STALLED)
    tar = tmp_path / "rootfs.tar"
    tar.write_bytes(bytes(1 << 20))
    with pytest.raises(Hal0Error) as caught:
        await engine.image_import(tar, "x", (), lambda _: None)
    assert caught.value.code == "engine.timeout"
