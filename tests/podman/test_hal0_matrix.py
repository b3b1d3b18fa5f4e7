"""Every way a start or an engine goes wrong on real podman: state, code, words, and the way back."""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.podman.daemon import Daemon, Operator
from tests.podman.store import SHELL_IMAGE
from tests.podman.streams import until
from tests.tiny import gguf_models


async def failed_load(operator: Operator, *, model: str = "tiny-chat") -> Any:
    """The failure of a load that rests; nothing of the slot is left."""
    job = await operator.verb("primary", "swap", {"model": model})
    assert job["state"] == "failed", job
    view = await operator.reaches("error")
    assert view["containers"] == []
    failure = await operator.get("/api/slots/primary/failure")
    assert job["error"]["code"] == failure["code"]
    assert failure["message"] in job["error"]["message"]
    return failure


async def cured(operator: Operator, daemon: Daemon, config: str) -> None:
    """With another configuration it loads: by itself, or when it is asked to."""
    path = daemon.home / "etc" / "hal0.toml"
    await asyncio.to_thread(path.write_text, config)
    await operator.reaches("ready", within_s=60)


def configured(daemon: Daemon, config: str) -> None:
    daemon.config = config
    daemon.prepare()


@pytest.mark.parametrize(
    ("config", "code", "words"),
    [
        ('extra_args = ["--no-such-flag"]', "slot.load_failed", "does not know the argument --no-such-flag"),
        ('extra_args = ["--flash-attn", "maybe"]', "slot.load_failed", "--flash-attn"),
        ('image = "IMAGE"', "slot.load_failed", "the image's program cannot be run"),
        ('image = "localhost/hal0-no-such-image:1"', "image.missing", "hal0-no-such-image"),
    ],
    ids=["unknown flag", "bad value", "entry point missing", "image missing"],
)
async def test_a_start_that_can_never_work_rests_until_the_configuration_changes(
    daemon: Daemon, tmp_path: Path, config: str, code: str, words: str
) -> None:
    image = await asyncio.to_thread(imported, daemon, tmp_path, '["/no/such/program"]') if "IMAGE" in config else ""
    configured(daemon, f"[slots.primary]\n{config.replace('IMAGE', image)}\n")
    await daemon.start()
    async with daemon.operator() as operator:
        failure = await failed_load(operator)
        assert (failure["failure_class"], failure["code"]) == ("permanent", code), failure
        assert words in failure["message"]
        assert failure["next_attempt_at"] is None
        await cured(operator, daemon, "[slots.primary]\n")


async def test_a_wrong_projector_is_named(daemon: Daemon) -> None:
    await daemon.start()
    projector = daemon.models / "eyes" / "mmproj-eyes.gguf"
    projector.parent.mkdir()
    gguf_models.write_chat(projector.with_name("eyes.gguf"))
    gguf_models.write_mmproj(projector)
    async with daemon.operator() as operator:
        await operator.post("/api/models/scan")
        with projector.open("r+b") as file:  # after its header was read
            file.truncate(projector.stat().st_size // 2)
        failure = await failed_load(operator, model="eyes")
        assert (failure["failure_class"], failure["code"]) == ("permanent", "slot.load_failed")
        assert "projector" in failure["message"] or "damaged" in failure["message"]
        assert failure["line"]
        gguf_models.write_mmproj(projector)
        assert (await operator.verb("primary", "load"))["state"] == "done"


ENDS = {
    "abort": (signal.SIGABRT, {134, 139}),
    "segv": (signal.SIGSEGV, {139}),
    "kill": (signal.SIGKILL, {137}),
    "term": (signal.SIGTERM, {0, 143}),
}


@pytest.mark.parametrize("how", ENDS)
async def test_an_engine_that_ends_unasked_is_explained_and_started_again(daemon: Daemon, how: str) -> None:
    """The server itself gets the signal, as from a fault of its own; a `died` that nobody asked for is a crash."""
    number, codes = ENDS[how]
    await daemon.start()
    async with daemon.operator() as operator:
        await operator.verb("primary", "swap", {"model": "tiny-chat"})
        os.kill(server_of(daemon), number)
        view = await operator.reaches_generation(2)
        assert view["failure"] is None
        failure = await operator.get("/api/slots/primary/failure")
        assert failure["code"] == "slot.exited", failure
        assert failure["failure_class"] == "transient"
        assert failure["exit_code"] in codes
        assert failure["attempt"] == 1
        assert failure["spec_hash"]
        assert failure["log_tail"]
        kept = json.loads((daemon.state / "slots/primary/last-failure.json").read_text())
        assert kept["exit_code"] == failure["exit_code"]


def server_of(daemon: Daemon) -> int:
    """The engine's own process: below the container's init."""
    container = daemon.podman.call("GET", f"/containers/{daemon.containers()[0]['Id']}/json")
    init = int(container["State"]["Pid"])
    children = Path(f"/proc/{init}/task/{init}/children").read_text().split()
    return int(children[0]) if children else init


async def test_a_container_removed_by_hand_is_made_anew_within_the_tick(daemon: Daemon) -> None:
    await daemon.start()
    async with daemon.operator() as operator:
        await operator.verb("primary", "swap", {"model": "tiny-chat"})
        await asyncio.to_thread(daemon.podman.remove, daemon.containers()[0]["Id"])
        await operator.reaches_generation(2, within_s=30)
        failure = await operator.get("/api/slots/primary/failure")
        assert (failure["code"], failure["failure_class"]) == ("slot.exited", "transient")
        assert "removed by somebody" in failure["message"] or failure["exit_code"] == 137
    assert len(daemon.containers()) == 1


async def test_a_name_in_use_is_passed_over(daemon: Daemon) -> None:
    """Somebody else's container has the name of the next generation: it is left alone."""
    await daemon.start()
    name = f"hal0-{daemon.instance}-primary-1"
    body = {"name": name, "image": SHELL_IMAGE, "command": ["true"]}
    stranger = (await asyncio.to_thread(daemon.podman.call, "POST", "/containers/create", body))["Id"]
    try:
        async with daemon.operator() as operator:
            assert (await operator.verb("primary", "swap", {"model": "tiny-chat"}))["state"] == "done"
            assert (await operator.slot())["containers"][0]["generation"] == 2
        assert stranger in {container["Id"] for container in daemon.podman.containers()}
    finally:
        await asyncio.to_thread(daemon.podman.remove, stranger)


async def test_a_stop_right_after_the_start_ends_at_once(daemon: Daemon) -> None:
    await daemon.start()
    async with daemon.operator() as operator:
        await operator.post("/api/slots/primary/swap", {"model": "tiny-chat"}, expect=202)

        async def runs() -> bool:
            return any(container["State"] == "running" for container in await asyncio.to_thread(daemon.containers))

        await until(runs, within_s=30, what="the container runs")
        took = await timed(lambda: operator.verb("primary", "unload"))
        assert took < 10, "an init passes SIGTERM on: nobody waits for the kill"
        assert (await operator.slot())["state"] == "offline"
        assert (await operator.slot())["failure"] is None
    assert daemon.containers() == []


STUB = r"""
mkdir -p /tmp/w/v1; printf '{"status":"ok"}' > /tmp/w/health
printf '{"data":[{"id":"tiny-chat"}]}' > /tmp/w/v1/models
TRAP
busybox httpd -f -p 8080 -h /tmp/w & while :; do sleep 1; done
"""


async def test_an_engine_that_ignores_sigterm_is_killed_after_its_time(daemon: Daemon, tmp_path: Path) -> None:
    image = await asyncio.to_thread(stub, daemon, tmp_path, "trap '' TERM")
    configured(daemon, f'[slots.primary]\nimage = "{image}"\n')
    await daemon.start()
    async with daemon.operator() as operator:
        assert (await operator.verb("primary", "swap", {"model": "tiny-chat"}))["state"] == "done"
        took = await timed(lambda: operator.verb("primary", "unload"))
        assert 18 < took < 35
        view = await operator.slot()
        assert (view["state"], view["failure"]) == ("offline", None), "137 after our own stop is no failure"
    assert daemon.containers() == []


async def test_an_engine_that_is_healthy_and_cannot_work_never_serves(daemon: Daemon, tmp_path: Path) -> None:
    image = await asyncio.to_thread(stub, daemon, tmp_path, "true")
    configured(daemon, f'[slots.primary]\nimage = "{image}"\nverify_on_load = true\n')
    await daemon.start()
    async with daemon.operator() as operator:
        failure = await failed_load(operator)
        assert failure["code"] == "slot.load_failed"
        assert "healthy, and cannot work" in failure["message"]
        assert "/v1/completions answers" in failure["message"]
        await cured(operator, daemon, "[slots.primary]\nverify_on_load = true\n")


async def test_a_context_that_cannot_start_gives_way_to_one_that_can(daemon: Daemon) -> None:
    """The kernel kills what does not fit its limit: twice as configured, once with the first fallback."""
    configured(
        daemon,
        '[slots.primary]\nmemory_limit = "64MiB"\ncontext_size = 524288\n'
        "[[slots.primary.fallbacks]]\ncontext_size = 262144\n[[slots.primary.fallbacks]]\ncontext_size = 512\n",
    )
    await daemon.start()
    async with daemon.operator() as operator:
        job = await operator.verb("primary", "swap", {"model": "tiny-chat"})
        assert job["state"] == "done", job["error"]
        assert job["note"] == "started by fallback 2 of 2 (context_size 512)"
        view = await operator.slot()
        assert view["context_size"] == 512
        assert view["fallback"]["number"] == 2
        record = json.loads((daemon.state / "slots/primary/state.json").read_text())
        assert record["fallback"]["number"] == 2
        shown = await asyncio.to_thread(daemon.ctl, "slot", "show", "primary")
        assert "fallback 2 of 2" in shown.stdout
        daemon.kill()
    await daemon.start()
    async with daemon.operator() as operator:
        view = await operator.reaches("ready")
        assert view["fallback"]["number"] == 2
        assert view["stale"] is None


async def timed(work: Callable[[], Any]) -> float:
    """Seconds until a verb has ended well."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert (await work())["state"] == "done"
    return loop.time() - began


def stub(daemon: Daemon, folder: Path, trap: str) -> str:
    """An image that answers as healthy with `tiny-chat`, and has no other word."""
    script = STUB.replace("TRAP", trap).strip().replace("\n", "; ")
    return imported(daemon, folder, json.dumps(["/bin/sh", "-c", script]))


def imported(daemon: Daemon, folder: Path, entry: str) -> str:
    """The test shell under another entry point; the tag of the new image, which stays in the tests' store."""
    tag = f"localhost/hal0-test-{abs(hash(entry)) % 10**8}:latest"
    lines = f"FROM {SHELL_IMAGE}\nENTRYPOINT {entry}\n"
    (folder / "Containerfile").write_text(lines)
    environ = dict(daemon.podman.environ)
    subprocess.run(["podman", "build", "-q", "-t", tag, str(folder)], env=environ, check=True, capture_output=True)
    return tag
