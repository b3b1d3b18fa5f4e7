"""The whole daemon as users run it: a process of its own on a live podman, killed and started again at will."""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.podman.service import Podman

START_S = 60.0
STOP_S = 60.0
CALL_S = 150.0  # above every `timeout_s` that a test asks for


@dataclass
class Daemon:
    """One installation (HAL0_HOME); `start` and `kill` its process as often as a test likes."""

    home: Path
    port: int
    slot_ports: range
    podman: Podman
    config: str = ""
    environ: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def socket(self) -> Path:
        return self.home / "run" / "hal0.sock"

    @property
    def models(self) -> Path:
        return self.home / "var" / "models"

    @property
    def state(self) -> Path:
        return self.home / "var"

    @property
    def log(self) -> Path:
        return self.home / "hal0.log"

    @property
    def instance(self) -> str:
        return (self.state / "instance").read_text().strip()

    def variables(self) -> dict[str, str]:
        """What every hal0 and hal0ctl of this installation needs in its environment."""
        return {
            **self.podman.environ,
            "HAL0_HOME": str(self.home),
            "HAL0_SERVER__PORT": str(self.port),
            "HAL0_SLOT_PORTS": f"{self.slot_ports[0]}-{self.slot_ports[-1]}",
            "CONTAINER_HOST": f"unix://{self.podman.socket}",
            "PYTHONPATH": str(Path(__file__).parents[2]),
            **self.environ,
        }

    def prepare(self) -> None:
        self.models.mkdir(parents=True, exist_ok=True)
        if self.config:
            (self.home / "etc").mkdir(parents=True, exist_ok=True)
            (self.home / "etc" / "hal0.toml").write_text(self.config)

    def spawn(self) -> None:
        """Start the process; it may not answer yet."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "hal0", "serve"],
                env=self.variables(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def start(self) -> float:
        """Start and wait until it answers; the seconds that took."""
        began = time.monotonic()
        self.spawn()
        await self.answers()
        return time.monotonic() - began

    async def answers(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + START_S
        async with aiohttp.ClientSession() as session:
            while loop.time() < deadline:
                assert self.process is not None
                assert self.process.poll() is None, f"hal0 ended: {self.tail()}"
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"{self.url}/api/health") as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(0.01)
        raise AssertionError(f"hal0 does not answer: {self.tail()}")

    def kill(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal and wait for the end; the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(STOP_S)

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-6000:] if self.log.exists() else ""

    def containers(self) -> list[dict[str, Any]]:
        """This installation's containers, as podman lists them."""
        mine = self.instance
        return [c for c in self.podman.containers() if (c["Labels"] or {}).get("dev.hal0.instance") == mine]

    def ctl(self, *words: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run hal0ctl as a user would."""
        return subprocess.run(
            [sys.executable, "-m", "hal0.cli", *words],
            env=self.variables(),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    @asynccontextmanager
    async def operator(self) -> AsyncIterator["Operator"]:
        """The operator API over the Unix socket."""
        connector = aiohttp.UnixConnector(path=str(self.socket))
        timeout = aiohttp.ClientTimeout(total=CALL_S)
        async with aiohttp.ClientSession(connector=connector, base_url="http://hal0", timeout=timeout) as session:
            yield Operator(session)

    def end(self) -> None:
        """Stop the process and remove every container of this installation."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(STOP_S)
        if (self.state / "instance").exists():
            for container in self.containers():
                self.podman.remove(container["Id"])


@dataclass
class Operator:
    session: aiohttp.ClientSession

    async def get(self, path: str) -> Any:
        async with self.session.get(path) as answer:
            body = await answer.read()
            assert answer.status == 200, (answer.status, body)
            return json.loads(body)

    async def post(self, path: str, body: Any = None, *, expect: int = 200) -> Any:
        async with self.session.post(path, json=body if body is not None else {}) as answer:
            data = await answer.read()
            assert answer.status == expect, (answer.status, data)
            return json.loads(data)

    async def verb(self, slot: str, verb: str, body: Any = None, *, timeout_s: float = 60) -> Any:
        """A verb, waited for; the job as it ended."""
        job = await self.post(f"/api/slots/{slot}/{verb}?wait=true&timeout_s={timeout_s}", body)
        assert job["ended_at"] is not None, job
        return job

    async def slot(self, name: str = "primary") -> Any:
        return await self.get(f"/api/slots/{name}")

    async def reaches(self, state: str, slot: str = "primary", *, within_s: float = 30.0) -> Any:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        while True:
            view = await self.slot(slot)
            if view["state"] == state:
                return view
            assert loop.time() < deadline, f"{slot} is {view['state']}, not {state}: {view['message']}"
            await asyncio.sleep(0.02)

    async def reaches_generation(self, number: int, slot: str = "primary", *, within_s: float = 30.0) -> Any:
        """Ready again, in the container of this generation."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        while True:
            view = await self.slot(slot)
            if view["state"] == "ready" and view["containers"][0]["generation"] == number:
                return view
            assert loop.time() < deadline, f"{slot} is {view['state']} with {view['containers']}"
            await asyncio.sleep(0.02)


@contextmanager
def installed(daemon: Daemon) -> Iterator[Daemon]:
    """The installation for the length of a test; nothing of it is left behind."""
    daemon.prepare()
    try:
        yield daemon
    finally:
        daemon.end()
