"""What goes wrong on real machines, done to the real thing: each fault has a state, a code, words, and a way back."""

import asyncio
import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import aiohttp

from tests.podman.daemon import Daemon
from tests.podman.streams import chat, until
from tests.tiny import gguf_models


def spoil(path: Path, how: str) -> None:
    """Damage a model after hal0 has read its header, so that only the engine can find out."""
    match how:
        case "missing":
            path.unlink()
        case "truncated":
            with path.open("r+b") as file:
                file.truncate(path.stat().st_size // 2)
        case "junk":
            path.write_bytes(b"not a model at all" * 1000)
        case _:
            path.write_bytes(b"")


SPOILT = (
    ("missing", "model.not_downloaded", "missing"),
    ("truncated", "slot.load_failed", "damaged"),
    ("junk", "slot.load_failed", "GGUF"),
    ("empty", "slot.load_failed", ""),
)


async def test_a_model_that_cannot_be_loaded_rests_with_its_reason(daemon: Daemon) -> None:
    await daemon.start()
    async with daemon.operator() as operator:
        await operator.verb("primary", "swap", {"model": "tiny-chat"})
        for how, code, words in SPOILT:
            await operator.verb("primary", "unload")
            spoil(daemon.models / "tiny-chat.gguf", how)
            job = await operator.verb("primary", "load")
            assert job["state"] == "failed", how
            assert job["error"]["code"] == code, how
            assert words in job["error"]["message"], how
            view = await operator.slot()
            assert view["state"] == "error", how
            assert view["failure"]["failure_class"] == "permanent", how
            assert view["failure"]["next_attempt_at"] is None, how
            assert view["containers"] == [], how
            await refused_for_good(daemon, words)
            assert daemon.containers() == [], how
            gguf_models.write_chat(daemon.models / "tiny-chat.gguf")  # mended, it loads
            assert (await operator.verb("primary", "load"))["state"] == "done", how


async def refused_for_good(daemon: Daemon, words: str) -> None:
    """What a client is told of a slot that rests in error."""
    body = {"model": "primary", "messages": [{"role": "user", "content": "Hi"}]}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{daemon.url}/v1/chat/completions", json=body) as answer,
    ):
        assert answer.status == 502
        assert answer.headers["x-should-retry"] == "false"
        assert "Retry-After" not in answer.headers
        error = (await answer.json())["error"]
        assert error["code"] == "slot.load_failed"
        assert words in error["message"]


async def test_a_port_taken_between_lease_and_start_is_passed_over(daemon: Daemon) -> None:
    """A stranger on another address of the same port: hal0's own bind test cannot see it, podman's does."""
    await daemon.start()
    with socket.socket() as stranger:
        stranger.bind(("0.0.0.0", daemon.slot_ports[0]))
        stranger.listen()
        async with daemon.operator() as operator:
            job = await operator.verb("primary", "swap", {"model": "tiny-chat"})
            assert job["state"] == "done"
            view = await operator.slot()
            assert view["port"] != daemon.slot_ports[0]
    assert len(daemon.containers()) == 1


async def test_a_container_killed_mid_stream_ends_it_with_a_typed_event_and_comes_back(daemon: Daemon) -> None:
    await daemon.start()
    async with daemon.operator() as operator:
        await operator.verb("primary", "swap", {"model": "tiny-chat"})
        quick, slow = await asyncio.gather(*(chat(daemon.port, max_tokens=4000) for _ in range(2)))
        await asyncio.gather(quick.first_event(), slow.first_event())
        await asyncio.to_thread(daemon.podman.call, "POST", f"/containers/{daemon.containers()[0]['Id']}/kill")
        for stream in (quick, slow):  # the slow one has not read for a while: its buffers are full
            await stream.to_end()
            assert stream.error["code"] in ("upstream.broken", "slot.exited")
            assert not stream.whole
            await stream.close()
        view = await operator.reaches("ready")
        assert view["containers"][0]["generation"] == 2


async def test_a_container_killed_while_it_warms_up_is_started_again(daemon: Daemon) -> None:
    gguf_models.write_chat(daemon.models / "big-chat.gguf", dim=1024, layers=16)
    await daemon.start()
    async with daemon.operator() as operator:
        swap = asyncio.create_task(operator.verb("primary", "swap", {"model": "big-chat"}))

        async def killed() -> bool:
            running = [c for c in daemon.containers() if c["State"] == "running"]
            for container in running:
                await asyncio.to_thread(daemon.podman.call, "POST", f"/containers/{container['Id']}/kill")
            return bool(running)

        await until(killed, within_s=10, what="the container runs")
        assert (await swap)["state"] == "done"

        async def again() -> bool:
            view = await operator.slot()
            return bool(view["state"] == "ready" and view["containers"][0]["generation"] >= 2)

        await until(again, within_s=30, what="it was started again")


async def test_conmon_killed_under_a_stream_cuts_nothing_and_unloads_cleanly(daemon: Daemon) -> None:
    await daemon.start()
    async with daemon.operator() as operator:
        await operator.verb("primary", "swap", {"model": "tiny-chat"})
        stream = await chat(daemon.port, max_tokens=600)  # seconds longer than a signal takes
        await stream.first_event()
        container = daemon.podman.call("GET", f"/containers/{daemon.containers()[0]['Id']}/json")
        os.kill(container["State"]["ConmonPid"], signal.SIGKILL)
        await stream.to_end()
        assert stream.whole
        await stream.close()
        assert (await operator.slot())["state"] in ("ready", "serving")
        job = await operator.verb("primary", "unload", timeout_s=120)
        assert job["state"] == "done"
    await until(lambda: _no_containers(daemon), within_s=90, what="the container is gone")


async def test_a_port_that_died_while_its_container_is_healthy_is_found_and_made_anew(daemon: Daemon) -> None:
    """The host's forwarding rules are flushed: what holds the port for podman accepts, and nobody ever answers."""
    await daemon.start()
    async with daemon.operator() as operator:
        await operator.verb("primary", "swap", {"model": "tiny-chat"})
        port = (await operator.slot())["port"]
        await asyncio.to_thread(flush_forwarding, port)

        async def again() -> bool:
            view = await operator.slot()
            return bool(view["state"] == "ready" and view["containers"][0]["generation"] == 2)

        await until(again, within_s=30, what="the slot has a port that works")
        assert (await operator.get("/api/slots/primary/failure"))["code"] == "slot.port_lost"
    stream = await chat(daemon.port, max_tokens=3)
    await stream.to_end()
    assert stream.whole
    await stream.close()


def flush_forwarding(port: int) -> None:
    """What a firewall that reloads its rules does to a published port."""
    rules = subprocess.run(["iptables", "-t", "nat", "-S"], capture_output=True, text=True, check=True).stdout
    forwarding = [shlex.split(rule) for rule in rules.splitlines() if f"--dport {port} -j DNAT" in rule]
    assert forwarding
    for rule in forwarding:
        subprocess.run(["iptables", "-t", "nat", "-D", *rule[1:]], check=True)


async def _no_containers(daemon: Daemon) -> bool:
    return not await asyncio.to_thread(daemon.containers)


@contextlib.contextmanager
def own_service(daemon: Daemon) -> Iterator[None]:
    """hal0 starts `podman system service` itself, on the tests' store: no other socket is offered to it."""
    daemon.environ = {**daemon.environ, "CONTAINER_HOST": "unix:///nonexistent/podman.sock"}
    yield


async def test_podmans_service_killed_under_a_stream_cuts_nothing(daemon: Daemon) -> None:
    with own_service(daemon):
        await daemon.start()
        async with daemon.operator() as operator:
            health = await operator.get("/api/health")
            assert health["engine"]["own_service"]
            await operator.verb("primary", "swap", {"model": "tiny-chat"})
            stream = await chat(daemon.port, max_tokens=1500)
            await stream.first_event()
            pid = _service_pid(daemon)
            os.kill(pid, signal.SIGKILL)
            await stream.to_end()
            assert stream.whole

            async def back() -> bool:
                return bool((await operator.get("/api/health"))["engine"]["reachable"]) and _service_pid(daemon) != pid

            await until(back, within_s=10, what="podman's service runs again")
            job = await operator.verb("primary", "restart")
            assert job["state"] == "done"
            await stream.close()


async def test_podmans_socket_removed_under_a_stream_cuts_nothing_and_comes_back(daemon: Daemon) -> None:
    with own_service(daemon):
        await daemon.start()
        async with daemon.operator() as operator:
            await operator.verb("primary", "swap", {"model": "tiny-chat"})
            stream = await chat(daemon.port, max_tokens=1500)
            await stream.first_event()
            (daemon.home / "run" / "engine.sock").unlink()
            await stream.to_end()
            assert stream.whole
            await stream.close()

            async def restarts() -> bool:
                async with operator.session.post("/api/slots/primary/restart?wait=true&timeout_s=20") as answer:
                    return answer.status == 200 and (await answer.json())["state"] == "done"

            await until(restarts, within_s=40, what="podman's service has a socket again")


def _service_pid(daemon: Daemon) -> int:
    """The `podman system service` that is a child of this hal0."""
    assert daemon.process is not None
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
            words = (entry / "cmdline").read_bytes()
            if int(stat[1]) == daemon.process.pid and b"system\0service" in words:
                return int(entry.name)
    return 0


async def test_without_podman_hal0_runs_and_names_the_cure(daemon: Daemon, tmp_path: Path) -> None:
    with own_service(daemon):
        daemon.environ = {**daemon.environ, "PATH": str(tmp_path)}
        await daemon.start()
        async with daemon.operator() as operator:
            health = await operator.get("/api/health")
            assert not health["engine"]["reachable"]
            podman = next(check for check in health["checks"] if check["name"] == "podman")
            assert podman["state"] == "fail"
            assert "install" in podman["fix"]
        doctor = await asyncio.to_thread(daemon.ctl, "doctor")
        assert doctor.returncode == 9
        assert "podman" in doctor.stdout


async def test_dockers_socket_is_told_apart(daemon: Daemon, tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What Docker's daemon answers to a ping: OK, its own header, and none of podman's."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            status, body = ("200 OK", "OK") if b"/_ping" in head.split(b"\r\n")[0] else ("404 Not Found", "{}")
            writer.write(
                f"HTTP/1.1 {status}\r\nApi-Version: 1.47\r\nContent-Length: {len(body)}\r\n"
                f"Connection: close\r\n\r\n{body}".encode()
            )
            await writer.drain()
        writer.close()

    path = tmp_path / "docker.sock"
    server = await asyncio.start_unix_server(answer, str(path))
    async with server:
        daemon.environ = {**daemon.environ, "HAL0_ENGINE__SOCKET": str(path)}
        await daemon.start()
        async with daemon.operator() as operator:
            health = await operator.get("/api/health")
            assert not health["engine"]["reachable"]
            podman = next(check for check in health["checks"] if check["name"] == "podman")
            assert "podman" in podman["message"]
            assert podman["fix"]
        daemon.kill()


async def test_a_full_disk_refuses_the_step_and_loses_nothing(daemon: Daemon) -> None:
    """The slots' directory on a real file system of 1 MiB that is filled to its last byte."""
    slots = daemon.state / "slots"
    slots.mkdir(parents=True)
    await asyncio.to_thread(subprocess.run, ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(slots)], check=True)
    try:
        await daemon.start()
        async with daemon.operator() as operator:
            await operator.verb("primary", "swap", {"model": "tiny-chat"})
            ballast = slots / "ballast"
            with contextlib.suppress(OSError), ballast.open("wb") as file:
                while True:
                    file.write(b"x" * 4096)
                    file.flush()
            job = await operator.verb("primary", "unload")
            assert job["state"] == "failed"
            assert job["error"]["code"] == "state.write_failed"
            view = await operator.slot()
            assert view["state"] in ("ready", "serving", "idle")
            assert view["unsaved"]
            ballast.unlink()

            async def saved() -> bool:
                return not (await operator.slot())["unsaved"]

            await until(saved, within_s=15, what="the record is written again")
            assert (await operator.verb("primary", "unload"))["state"] == "done"
        daemon.kill()
    finally:
        await asyncio.to_thread(subprocess.run, ["umount", str(slots)], check=True)


BAD = (
    (b"", "request.invalid_json"),
    (b"{not json", "request.invalid_json"),
    (b'["a list"]', "request.invalid_json"),
    (b'{"model": 7, "messages": []}', None),
)


async def test_bad_bodies_are_refused_with_words(daemon: Daemon) -> None:
    """And one of a hundred megabytes before it is read."""
    await daemon.start()
    async with aiohttp.ClientSession() as session:
        for body, code in BAD:
            async with session.post(f"{daemon.url}/v1/chat/completions", data=body) as answer:
                document = json.loads(await answer.read())
                assert answer.status == 400, document
                assert code is None or document["error"]["code"] == code
                assert document["error"]["message"].startswith("cannot ")
    reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
    writer.write(
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {100 * 2**20}\r\n\r\n".encode()
    )
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
    assert b" 413 " in head.split(b"\r\n")[0]
    writer.close()


async def test_no_model_goes_to_the_chat_slot(daemon: Daemon) -> None:
    await daemon.start()
    async with daemon.operator() as operator:
        await operator.verb("primary", "swap", {"model": "tiny-chat"})
    body = {"max_tokens": 3, "messages": [{"role": "user", "content": "Hi"}]}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{daemon.url}/v1/chat/completions", json=body) as answer,
    ):
        assert answer.status == 200
        assert answer.headers["X-Hal0-Slot"] == "primary"
        assert answer.headers["X-Hal0-Rule"] == "capability"


async def test_a_saved_configuration_applies_itself_and_a_wrong_one_does_not(daemon: Daemon) -> None:
    await daemon.start()
    config = daemon.home / "etc" / "hal0.toml"
    async with daemon.operator() as operator:
        added = '\n[slots.second]\nmodel = "other-chat"\n[dispatch]\nstrict_models = true\n'
        config.write_text(config.read_text() + added)

        async def there() -> bool:
            return "second" in {slot["name"] for slot in (await operator.get("/api/slots"))["items"]}

        assert await until(there, within_s=5, what="the new slot is there") < 3
        await operator.post("/v1/chat/completions", {"model": "unheard-of"}, expect=404)
        config.write_text(config.read_text() + "\n[slots.third]\nmodle = 1\n")
        assert (await operator.verb("second", "load"))["state"] == "done"

        async def complained() -> bool:
            return any("modle" in line for line in (await operator.get("/api/status"))["attention"])

        assert await until(complained, within_s=5, what="the wrong file is reported") < 3
        assert await there()
        assert (await operator.slot("second"))["state"] == "ready"
