"""How soon hal0 sees what happened to its slots, how soon it is back, and what it holds while idle."""

import re
import socket
import statistics
import subprocess
import sys
import time
from typing import Any, Final

from hal0.client import ClientError
from tests.bench.daemon import SLOTS, Daemon
from tests.bench.rows import Row, judge
from tests.bench.watching import when_shown

TRIES: Final = 5
UPLOADS: Final = (60 << 20, 100 << 20)  # bytes; JSON is taken up to 64 MiB
_READY_AT: Final = re.compile(r"bench-ready-at ([\d.]+)")


def supervising_rows(daemon: Daemon) -> list[Row]:
    return [
        ready_noticed(daemon),
        command_wall(daemon),
        upload_growth(daemon),
        *restarts(daemon),
    ]


def ready_noticed(daemon: Daemon) -> Row:
    """From the moment the engine's health turns 200, by its own clock, until ready is announced."""
    slot, taken = SLOTS[-1], []
    for _ in range(TRIES):
        daemon.wait_slot(slot, "ready", "idle")
        left = False

        def ready_again(value: dict[str, Any]) -> bool:
            nonlocal left
            left = left or value["state"] == "warming"
            return left and bool(value["state"] == "ready")

        def restart() -> None:
            daemon.client.post(f"/api/slots/{slot}/restart")

        asked = time.time()
        shown = when_shown(daemon, slot, ready_again, restart)
        taken.append((shown - ready_by_its_own_clock(daemon, slot, asked)) * 1000)
    return judge("ready_noticed", statistics.median(taken), f"worst {max(taken):.0f} of {TRIES}")


def ready_by_its_own_clock(daemon: Daemon, slot: str, after: float) -> float:
    """What the engine wrote when its health turned; its log arrives up to a second later."""

    def said() -> float | None:
        lines = daemon.client.get(f"/api/slots/{slot}/logs")["items"]
        times = [float(found[1]) for line in lines if (found := _READY_AT.search(line["text"]))]
        return max((at for at in times if at > after), default=None)

    return daemon.until(said, 10, f"{slot} to say when it became ready")


def command_wall(daemon: Daemon) -> Row:
    """`hal0ctl ps` from start to exit, over the Unix socket."""
    taken = []
    for _ in range(11):
        began = time.perf_counter()
        command = [sys.executable, "-c", "from hal0.cli.main import main; main()", "ps"]
        subprocess.run(command, env=daemon.env, check=True, capture_output=True, timeout=30)
        taken.append((time.perf_counter() - began) * 1000)
    return judge("hal0ctl_ps", statistics.median(taken), f"worst {max(taken):.0f} of 11")


def upload_growth(daemon: Daemon) -> Row:
    """A body just below the limit for JSON, and one beyond it: the most resident memory meanwhile, against before."""
    before = daemon.rss()
    daemon.reset_peak()
    statuses = [_upload(daemon.port, size) for size in UPLOADS]
    if statuses != [200, 413]:
        raise SystemExit(f"cannot measure uploads: answered {statuses}, expected [200, 413]")
    grown = (daemon.peak_rss() - before) / 2**20
    return judge("upload_memory_growth", grown, f"{' and '.join(str(size >> 20) for size in UPLOADS)} MiB of JSON")


def _upload(port: int, size: int) -> int:
    """Send one long question by hand; returns the status of whatever answer comes."""
    head, tail = b'{"model":"primary","messages":[{"role":"user","content":"', b'"}]}'
    start = "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    block = b"x" * (1 << 20)
    with socket.create_connection(("127.0.0.1", port), timeout=120) as sock:
        try:
            sock.sendall(f"{start}Content-Length: {len(head) + size + len(tail)}\r\n\r\n".encode() + head)
            for _ in range(size // len(block)):
                sock.sendall(block)
            sock.sendall(tail)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before the end: the answer says why
        answer = sock.recv(4096)
    return int(answer.split(b" ", 2)[1]) if answer else 0


def restarts(daemon: Daemon) -> list[Row]:
    """Stop and start with five slots running: the first answer, then the memory of a daemon that only waits."""
    taken = []
    for _ in range(3):
        daemon.stop()
        taken.append(daemon.start())
    for name in SLOTS:
        try:
            daemon.wait_slot(name, "ready", "idle", "serving")
        except ClientError as err:
            raise SystemExit(f"cannot measure idle memory: {err}") from err
    time.sleep(3)
    note = f"worst {max(taken):.2f} of 3"
    return [
        judge("start_to_first_answer_5_slots", statistics.median(taken), note),
        judge("memory_idle", daemon.rss() / 1e6, "five slots adopted, 3 s later"),
    ]
