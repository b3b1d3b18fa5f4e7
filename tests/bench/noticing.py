"""How soon hal0 sees that an engine died: by its process, by podman's events alone, and by looking alone."""

import os
import signal
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.bench.daemon import SLOTS, Daemon, daemon
from tests.bench.podman_relay import deaf_relay, podman_service
from tests.bench.rows import Row, judge
from tests.bench.watching import when_shown

TRIES: Final = 5
# hal0 in a PID namespace of its own sees no engine's process, as in a container beside podman.
_BLIND: Final = ("unshare", "--fork", "--pid", "--mount-proc", "--kill-child")


def crash_rows(seeing: Daemon, port: int, image: str) -> list[Row]:
    """One row for each way of noticing; `seeing` is the daemon that shares podman's processes."""
    environ = dict(seeing.env)
    if (conf := seeing.paths.run_dir / "containers.conf").exists():  # what hal0 wrote for its own service here
        environ["CONTAINERS_CONF"] = str(conf)
    rows = [crash_row("crash_noticed_pidfd", seeing)]
    with tempfile.TemporaryDirectory(prefix="h0-") as short:
        real, deaf = Path(short) / "podman.sock", Path(short) / "deaf.sock"
        with podman_service(real, environ), deaf_relay(deaf, real):
            rows.append(_blind_row("crash_noticed_event", real, port, image))
            rows.append(_blind_row("crash_noticed_neither", deaf, port, image))
    return rows


def _blind_row(name: str, socket: Path, port: int, image: str) -> Row:
    with (
        tempfile.TemporaryDirectory(prefix="hal0-bench-") as home,
        daemon(
            Path(home), port, image, ready_after_s=0.0, within=_BLIND, environ={"CONTAINER_HOST": f"unix://{socket}"}
        ) as blind,
    ):
        return crash_row(name, blind)


def crash_row(name: str, daemon: Daemon) -> Row:
    """SIGKILL to the engine's own process, until the slot is announced as no longer ready."""
    slot, taken = SLOTS[1], []
    for number in range(TRIES):
        view = daemon.wait_slot(slot, "ready", "idle")
        pid = next(container["pid"] for container in view["containers"] if container["role"] == "current")
        killed = 0.0
        time.sleep(0.4 * number)  # at different moments between two looks

        def kill(pid: int = pid) -> None:
            nonlocal killed
            killed = time.time()
            os.kill(pid, signal.SIGKILL)

        shown = when_shown(daemon, slot, lambda value: value["state"] not in ("ready", "idle", "serving"), kill)
        taken.append((shown - killed) * 1000)
    daemon.wait_slot(slot, "ready", "idle")
    return judge(name, statistics.median(taken), f"worst {max(taken):.0f} of {TRIES}")
