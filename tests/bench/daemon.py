"""The real daemon under test: `python -m hal0 serve` in a home of its own, its slots running the bench's image."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from hal0 import paths
from hal0.client import Client, ClientError, Target
from tests.tiny import gguf_models

T = TypeVar("T")

SLOTS: Final = ("primary", "bench-b", "bench-c", "bench-d", "bench-e")
PLAIN: Final = {"model": "primary", "messages": [{"role": "user", "content": "Say hello."}]}
START_S: Final = 60.0
MODEL: Final = "bench-chat"
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_TICK: Final = os.sysconf("SC_CLK_TCK")


class Daemon:
    """One home on disk; the process in it can be started and stopped any number of times."""

    def __init__(
        self,
        home: Path,
        port: int,
        image: str,
        *,
        ready_after_s: float,
        within: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.port = port
        self.paths = paths.resolve({"HAL0_HOME": str(home)})
        self.env = {**os.environ, "HAL0_HOME": str(home), **(environ or {})}
        self._within = tuple(within)
        self.client = Client(Target(f"unix://{self.paths.run_dir / 'hal0.sock'}", "bench"))
        self._process: subprocess.Popen[bytes] | None = None
        self._log = home / "daemon.log"
        self.paths.config_dir.mkdir(parents=True)
        self.paths.models_dir.mkdir(parents=True)
        gguf_models.write_chat(self.paths.models_dir / f"{MODEL}.gguf")  # the demo's answers would be marked
        self.paths.config_file.write_text(_config(port, image, ready_after_s))

    @property
    def pid(self) -> int:
        """hal0's own, also where another program was put in front of it."""
        assert self._process is not None
        pid = self._process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text()) if self._within else pid

    def start(self) -> float:
        """Start the process and wait for the first proxied answer; seconds from the start until then."""
        began = time.perf_counter()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._within, sys.executable, "-m", "hal0", "serve"],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.until(lambda: self.ask() or None, START_S, "the first answer")
        return time.perf_counter() - began

    def stop(self) -> None:
        if self._process is not None:
            if self._process.poll() is None:
                os.kill(self.pid, signal.SIGTERM)
            self._process.wait(60)
            self._process = None

    def ask(self) -> bool:
        """One plain request over TCP, answered with 200."""
        tcp = Client(Target(f"http://127.0.0.1:{self.port}", "bench"), timeout_s=5)
        try:
            return "choices" in tcp.post("/v1/chat/completions", PLAIN)
        except ClientError:
            return False

    def slot(self, name: str) -> dict[str, Any]:
        return self.client.get(f"/api/slots/{name}")

    def wait_slot(self, name: str, *states: str) -> dict[str, Any]:
        def arrived() -> dict[str, Any] | None:
            view = self.slot(name)
            return view if view["state"] in states else None

        return self.until(arrived, START_S, f"{name} to be {' or '.join(states)}")

    def load_all(self) -> None:
        for name in SLOTS:
            if self.slot(name)["state"] not in ("ready", "idle", "serving"):
                self.client.post(f"/api/slots/{name}/load")
        for name in SLOTS:
            self.wait_slot(name, "ready", "idle", "serving")

    def unload_all(self) -> None:
        for name in SLOTS:
            if self.slot(name)["state"] not in ("offline", "error"):
                self.client.post(f"/api/slots/{name}/unload")
        for name in SLOTS:
            self.wait_slot(name, "offline", "error")

    def until(self, probe: Callable[[], T | None], within_s: float, what: str) -> T:
        """Ask every 5 ms; a daemon that has died ends the wait, with the last lines of its log."""
        deadline = time.perf_counter() + within_s
        while time.perf_counter() < deadline:
            try:
                if (found := probe()) is not None:
                    return found
            except ClientError:
                pass  # not listening yet
            if self._process is not None and self._process.poll() is not None:
                break
            time.sleep(0.005)
        tail = self._log.read_text(errors="replace")[-2000:]
        raise SystemExit(f"cannot go on: waited {within_s:g} s for {what}\n{tail}")

    def rss(self) -> int:
        """Resident bytes now."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE

    def reset_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def peak_rss(self) -> int:
        """Most resident bytes since `reset_peak`."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) * 1024

    def cpu_s(self) -> float:
        return cpu_s(self.pid)


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


@contextmanager
def daemon(
    home: Path,
    port: int,
    image: str,
    *,
    ready_after_s: float,
    within: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> Iterator[Daemon]:
    """A daemon with all slots loaded; slots unloaded, process and containers gone at the end.

    `within`: words in front of its command; `environ`: variables of its own.
    """
    running = Daemon(home, port, image, ready_after_s=ready_after_s, within=within, environ=environ)
    try:
        running.start()
        running.load_all()
        yield running
        running.unload_all()
    finally:
        running.stop()
        _remove_containers(running)


def _remove_containers(stopped: Daemon) -> None:
    """What an aborted run leaves: hal0 never stops containers by itself, so the bench does."""
    if stopped.paths.instance_file.exists():
        label = f"label=dev.hal0.instance={stopped.paths.instance_file.read_text().strip()}"
        listed = subprocess.run(
            ["podman", "ps", "-aq", "--filter", label], capture_output=True, text=True, check=True, timeout=60
        ).stdout.split()
        if listed:
            subprocess.run(["podman", "rm", "-f", "-t", "0", *listed], check=True, timeout=120, capture_output=True)


def _config(port: int, image: str, ready_after_s: float) -> str:
    lines = ["[server]", 'host = ["127.0.0.1"]', f"port = {port}", ""]
    for name in SLOTS:
        lines += [
            f"[slots.{name}]",
            f'model = "{MODEL}"',
            f"image = {json.dumps(image)}",
            "autoload = true",
        ]
        lines += ['device = "cpu"', "max_inflight = 4096", "queue_limit = 4096"]
        if name == SLOTS[-1]:
            lines.append(f'env = {{ BENCH_READY_AFTER_S = "{ready_after_s}" }}')
        lines.append("")
    return "\n".join(lines)
