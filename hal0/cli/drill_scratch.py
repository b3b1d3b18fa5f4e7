"""The drill's scratch hal0: a second daemon whose state is on a file system of 2 MiB, so that it can be filled."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from hal0 import paths
from hal0.cli import daemon
from hal0.cli.drill_processes import Skip
from hal0.cli.drill_stage import Result, Stage
from hal0.cli.drill_watch import until
from hal0.cli.slots import ROUTABLE
from hal0.client import Client, ClientError, Target

START_S: Final = 30.0
STOP_S: Final = 30.0
SLOT: Final = "primary"
# A refused step says so at once; a record that could not be written is tried again every 5 s.
REFUSED_S: Final = 2.0
WRITTEN_S: Final = 10.0


def full_disk(stage: Stage, result: Result) -> None:
    """A full disk refuses an unload and loses nothing; room again, and it goes on."""
    if os.geteuid() != 0:
        raise Skip("only root can mount a file system that is small enough to be filled")
    with tempfile.TemporaryDirectory(prefix="hal0-drill-") as folder:
        local = paths.resolve({"HAL0_HOME": folder})
        with _small(local.slots_dir), _scratch(local, stage) as client:
            scratch = replace(stage, client=client, slot=SLOT)
            model = client.post("/api/models/demo")["id"]
            _wait(client, "load", model)
            with _filled(local.slots_dir):
                began = time.monotonic()
                job = scratch.verb("unload")
                result.noticed_s = time.monotonic() - began
                refused = (job["error"] or {}).get("code")
                result.within("an unload that cannot be recorded is refused", result.noticed_s, REFUSED_S * stage.slack)
                result.promise(refused == "state.write_failed", f"it is refused as state.write_failed, not {refused}")
                result.promise(scratch.view()["state"] in ROUTABLE, "the slot goes on")
                result.client = scratch.ask()
                result.promise(result.client == "answered", "a request is answered with the disk full")
            result.recovered_s = until(lambda: not scratch.view()["unsaved"], WRITTEN_S * 4)
            result.within("the record is written once there is room", result.recovered_s, WRITTEN_S * stage.slack)
            result.promise(scratch.verb("unload")["state"] == "done", "the unload is done then")


def _wait(client: Client, verb: str, model: str) -> None:
    job = client.request("POST", f"/api/slots/{SLOT}/{verb}?wait=true", {"model": model}, timeout_s=600)
    if job["state"] != "done":
        raise Skip(f"the scratch hal0 cannot load {model}: {(job['error'] or {}).get('message')}")


@contextlib.contextmanager
def _small(directory: Path) -> Iterator[None]:
    directory.mkdir(parents=True)
    if _ran(["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs", str(directory)]) != 0:
        raise Skip("this host does not let root mount a tmpfs")
    try:
        yield
    finally:
        _ran(["umount", "-l", str(directory)])


@contextlib.contextmanager
def _filled(directory: Path) -> Iterator[None]:
    """No byte is left while the block runs."""
    ballast = directory / "ballast"
    try:
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        yield
    finally:
        ballast.unlink(missing_ok=True)


@contextlib.contextmanager
def _scratch(local: paths.Paths, stage: Stage) -> Iterator[Client]:
    """A second hal0 on the same podman, with its own instance, so that neither sees the other's containers."""
    client = Client(Target(f"unix://{paths.socket_path(local.run_dir, 'hal0.sock', instance='')}", "the drill"))
    _share_images(stage, local)
    settings = {
        "HAL0_HOME": str(local.config_dir.parent),
        "HAL0_ENGINE__SOCKET": stage.health["engine"]["socket"],
        "HAL0_SERVER__HOST": "127.0.0.1",
        "HAL0_SERVER__PORT": "0",
    }
    env = shutil.which("env") or "/usr/bin/env"
    words = [f"{name}={value}" for name, value in settings.items()]
    pid = daemon.start(local, program=[env, *words, *daemon.PROGRAM])
    try:
        daemon.wait_until(lambda: _answers(client), pid, local, timeout_s=START_S)
        try:
            yield client
        finally:  # its containers go with it
            client.request("POST", f"/api/slots/{SLOT}/unload?wait=true", {}, timeout_s=STOP_S * 4)
    finally:
        daemon.stop(daemon.Holder(pid, "", ""), timeout_s=STOP_S)


def _share_images(stage: Stage, local: paths.Paths) -> None:
    """What the drilled hal0 knows of its images, so that none is pulled or built for the scratch one."""
    known = Path(stage.client.get("/api/status")["state_dir"]) / "images.json"
    if known.exists():
        shutil.copy(known, local.state_dir / known.name)


def _answers(client: Client) -> bool:
    try:
        client.get("/api/status")
    except ClientError:
        return False
    return True


def _ran(argv: list[str]) -> int:
    """Run a program to its end, silently; its exit code."""
    silence = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=silence)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
