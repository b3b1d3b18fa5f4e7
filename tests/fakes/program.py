"""What runs inside a fake container: a script of delays, log lines and an end, and the container that plays it."""

import asyncio
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from hal0.engine.base import ContainerInfo, ContainerSpec, ContainerStatus, LogLine
from hal0.lib.aio import Signal
from hal0.lib.clock import Clock

SIGNAL_NUMBERS: Final = {"SIGHUP": 1, "SIGINT": 2, "SIGKILL": 9, "SIGTERM": 15}


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """How one start of an inference server goes; times are seconds after the process exists.

    The defaults are llama-server's with a small model. `ready_after_s=None` never becomes ready, `dies_after_s`
    ends it by itself with `exit_code` and `last_words`. `broken` makes its health hopeless, with this evidence.
    """

    listens_after_s: float = 0.03
    ready_after_s: float | None = 0.1
    dies_after_s: float | None = None
    exit_code: int = 1
    oom: bool = False
    first_words: tuple[str, ...] = ("loading model",)
    speaks_on: str = "stderr"
    last_words: tuple[str, ...] = ()
    ignores_sigterm: bool = False
    stops_after_s: float = 0.1  # from SIGTERM to the end
    sigterm_exit: int = 0
    hangs: bool = False  # accepts connections, never answers
    port_lost: bool = False  # what comes by its published port is accepted and never answered; it itself works
    broken: str | None = None
    busy_cores: float = 0.0  # CPU seconds per second, as stats show it
    reads_bytes_s: float | None = None  # None: nobody can see it read
    tells_health: bool = True  # its health says how far the load is
    unable: str | None = None  # healthy, and this is what is wrong with its work
    hangs_at_work: bool = False
    dies_of_work: int | None = None  # with this exit code
    memory_bytes: int = 64 * 1024 * 1024
    processes: tuple[int, ...] = ()  # pids that hal0 can see of it


@dataclass(slots=True, eq=False)
class FakeContainer:
    """One container: its life as the engine knows it, driven by the loop's timers."""

    id: str
    spec: ContainerSpec
    image_id: str
    clock: Clock
    on_exit: Callable[["FakeContainer"], None]
    program: Program = field(default_factory=Program)
    status: ContainerStatus = ContainerStatus.CREATED
    pid: int = 0
    exit_code: int | None = None
    oom: bool = False
    error: str = ""
    lost: bool = False  # see `lose`
    started_at: float | None = None
    finished_at: float | None = None
    lines: list[LogLine] = field(default_factory=list)
    output: Signal = field(default_factory=Signal)
    _born: float = 0.0  # loop time of the process's start
    _timers: list[asyncio.TimerHandle] = field(default_factory=list)

    @property
    def running(self) -> bool:
        return self.status in (ContainerStatus.RUNNING, ContainerStatus.STOPPING)

    @property
    def host_port(self) -> int | None:
        return self.spec.publish.host_port if self.spec.publish else None

    @property
    def ip(self) -> str | None:
        """Its own address, while it runs."""
        return f"10.88.{self.pid // 256 % 256}.{self.pid % 256}" if self.pid else None

    @property
    def age_s(self) -> float:
        """Seconds since the process exists."""
        return asyncio.get_running_loop().time() - self._born

    def run(self, program: Program, pid: int) -> None:
        """The process exists now; everything else in its script follows by timer."""
        loop = asyncio.get_running_loop()
        self.program, self.pid, self.status = program, pid, ContainerStatus.RUNNING
        self.exit_code, self.oom = None, False
        self._born, self.started_at, self.finished_at = loop.time(), self.clock.now(), None
        self._timers = [loop.call_later(program.listens_after_s, self._begin)]
        if program.dies_after_s is not None:
            self._timers.append(loop.call_later(program.dies_after_s, self.end))

    def _begin(self) -> None:
        self.say(*self.program.first_words, stream=self.program.speaks_on)

    def age(self, seconds: float) -> None:
        """The process has been running for longer than the loop has."""
        self._born -= seconds
        self.started_at = self.clock.now() - seconds

    def say(self, *texts: str, stream: str = "stderr") -> None:
        self.lines.extend(LogLine(stream, text, self.clock.now()) for text in texts)
        self.output.notify()

    def end(self, exit_code: int | None = None, *, oom: bool | None = None) -> None:
        """The process ends: with its script's own end, or with the one given."""
        if not self.running:
            return
        for timer in self._timers:
            timer.cancel()
        if exit_code is None:
            self.say(*self.program.last_words)
            exit_code = self.program.exit_code
        self.exit_code = exit_code
        self.oom = self.program.oom if oom is None else oom
        self.status, self.pid, self.finished_at = ContainerStatus.EXITED, 0, self.clock.now()
        self.on_exit(self)
        self.output.notify()

    def signal(self, name: str) -> None:
        """A signal arrives; SIGTERM may be ignored, and takes its time otherwise."""
        if not self.running:
            return
        number = SIGNAL_NUMBERS[name]
        if name == "SIGKILL":
            self.end(128 + number, oom=False)
        elif name == "SIGTERM" and not self.program.ignores_sigterm:
            after = asyncio.get_running_loop().call_later
            self._timers.append(after(self.program.stops_after_s, self.end, self.program.sigterm_exit))

    def lose(self) -> None:
        """The process is killed, and its monitor as well: nobody tells the engine that it does not run any more."""
        self.lost = True
        self.change(hangs=True)

    def change(self, **script: object) -> None:
        """Rewrite the rest of the running script (`ready_after_s=None`: it stops answering as ready)."""
        self.program = dataclasses.replace(self.program, **script)  # type: ignore[arg-type]

    def info(self) -> ContainerInfo:
        return ContainerInfo(
            id=self.id,
            name=self.spec.name,
            status=self.status,
            labels=dict(self.spec.labels),
            image_id=self.image_id,
            pid=self.pid,
            conmon_pid=self.pid + 1 if self.pid else 0,
            ip=self.ip,
            exit_code=self.exit_code,
            oom_killed=self.oom,
            error=self.error,
            started_at=self.started_at,
            finished_at=self.finished_at,
            host_port=self.host_port,
            memory_limit_bytes=self.spec.memory_bytes,
        )
