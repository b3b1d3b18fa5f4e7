"""What hal0 asks of a container engine, in hal0's words: the Engine protocol and the values that cross it.

Nothing above this package knows podman's JSON, codes or spelling. Every verb has a deadline of its own and
raises `Hal0Error` (`engine.unreachable`, `engine.timeout`, `engine.failed`) or one of `hal0.engine.errors`.
Verbs are idempotent where the name says what should be true afterwards: starting what runs, stopping what has
stopped and removing what is gone are successes.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

LABEL_PREFIX = "dev.hal0."


class ContainerStatus(StrEnum):
    """Where a container is in its life; STOPPING may stick when podman's helpers were killed."""

    CREATED = "created"
    RUNNING = "running"
    STOPPING = "stopping"
    EXITED = "exited"
    OTHER = "other"  # paused, removing and what later versions add


@dataclass(frozen=True, slots=True)
class Mount:
    """A bind mount; `source` is a path as hal0 sees it (translated when hal0 itself runs in a container)."""

    source: Path
    target: str
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class Publish:
    """One TCP port of the container on the host's loopback."""

    host_port: int
    container_port: int
    host_ip: str = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """Everything needed to create one container; a pure value, turned into podman's body by `payload`."""

    name: str
    image: str  # image id
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    devices: tuple[str, ...] = ()  # host nodes such as /dev/dri/renderD128, or CDI names such as nvidia.com/gpu=all
    groups: tuple[int, ...] = ()  # numeric supplementary groups for the devices
    publish: Publish | None = None
    user: int | None = None  # whom its processes are inside; None: the image's own choice
    network: str = "bridge"  # "bridge", "host", "none", or the name of a network
    memory_bytes: int | None = None
    locks_memory: bool = False  # it may pin as much of its memory as it likes
    pids_limit: int = 4096
    stop_timeout_s: int = 20
    log_bytes: int = 10 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerInfo:
    """One container as the engine sees it now."""

    id: str
    name: str
    status: ContainerStatus
    labels: Mapping[str, str]
    image_id: str = ""
    pid: int = 0  # of the container's first process on the engine's host; 0 when it does not run
    conmon_pid: int = 0
    exit_code: int | None = None
    oom_killed: bool = False
    error: str = ""
    started_at: float | None = None  # seconds since the epoch
    finished_at: float | None = None
    ip: str | None = None  # on its own network, when it has one
    host_port: int | None = None  # of the first published port
    memory_limit_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class ImageInfo:
    id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    size_bytes: int
    labels: Mapping[str, str] = field(default_factory=dict)
    created: float | None = None


@dataclass(frozen=True, slots=True)
class ImageProgress:
    """Progress of a pull or build: a sentence for people, and a fraction 0-1 where the engine tells one."""

    message: str
    fraction: float | None = None


OnImageProgress = Callable[[ImageProgress], None]


@dataclass(frozen=True, slots=True)
class LogLine:
    """One whole line of a container's output (pieces are joined before they get here)."""

    stream: str  # "stdout" or "stderr"
    text: str
    at: float | None = None  # seconds since the epoch, where the engine knows


class EventKind(StrEnum):
    STARTED = "started"
    DIED = "died"
    REMOVED = "removed"
    OOM = "oom"
    RESYNC = "resync"  # events may have been missed: look at everything again


@dataclass(frozen=True, slots=True)
class EngineEvent:
    kind: EventKind
    container_id: str = ""
    name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    exit_code: int | None = None
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class ContainerStats:
    """One sample: CPU seconds used since start, memory now and its limit in bytes."""

    cpu_s: float
    memory_bytes: int
    memory_limit_bytes: int


class Engine(Protocol):
    """The engine's verbs. Implementations are safe to call from any task of the one event loop."""

    async def ping(self) -> str:
        """The engine's API version. Cheap: may be polled. Raises engine.unreachable or engine.not_podman."""
        ...

    async def create(self, spec: ContainerSpec) -> str:
        """Create a container and return its id; it does not run yet."""
        ...

    async def start(self, container: str) -> None:
        """Start by id or name; returns when the process exists. Raises PortTaken when the port was busy."""
        ...

    async def stop(self, container: str, *, timeout_s: float) -> None:
        """SIGTERM, then SIGKILL after `timeout_s`; returns when it has stopped. Gone counts as stopped."""
        ...

    async def remove(self, container: str) -> None:
        """Remove by force, killing at once what still runs. Gone counts as removed."""
        ...

    async def inspect(self, container: str) -> ContainerInfo | None:
        """One container by id or name; None when there is none."""
        ...

    async def containers(self, labels: Mapping[str, str]) -> list[ContainerInfo]:
        """All of them, running or not, that carry all these labels."""
        ...

    def logs(self, container: str, *, tail: int | None = None, follow: bool = False) -> AsyncIterator[LogLine]:
        """Log lines, oldest first; with `follow` it ends when the container does."""
        ...

    async def stats(self, container: str) -> ContainerStats | None:
        """One sample of a running container; None when it does not run."""
        ...

    async def processes(self, container: str) -> tuple[int, ...]:
        """Pids of its processes as hal0 sees them; none when it does not run, or where hal0 cannot see them."""
        ...

    async def began(self, info: ContainerInfo) -> int | None:
        """When the container's first process began, in ticks of this host; None where hal0 does not see it.

        With its pid this names one process for ever.
        """
        ...

    async def bytes_read(self, info: ContainerInfo) -> int | None:
        """How many bytes of files its processes have read or mapped so far; None where this host cannot tell."""
        ...

    def events(self, labels: Mapping[str, str]) -> AsyncIterator[EngineEvent]:
        """Endless: reconnects by itself, and yields RESYNC first and after every gap."""
        ...

    async def watch_exit(self, info: ContainerInfo) -> None:
        """Return when the container's process is gone, as early as this host allows.

        Where hal0 shares the engine's PID namespace this is a pidfd (milliseconds); elsewhere it waits for
        the event stream. It never raises for a container that is already gone.
        """
        ...

    async def image_inspect(self, ref: str) -> ImageInfo | None:
        """An image by id, tag or digest; None when it is not in the store."""
        ...

    async def image_list(self) -> list[ImageInfo]: ...

    async def image_pull(self, ref: str, on_progress: OnImageProgress) -> ImageInfo:
        """Pull; cancelling the caller aborts the pull."""
        ...

    async def image_import(
        self, tar: Path, tag: str, changes: tuple[str, ...], on_progress: OnImageProgress
    ) -> ImageInfo:
        """Make an image of a root filesystem in a tar file; `changes` are Containerfile lines."""
        ...

    async def image_build(
        self,
        context: Path,
        *,
        containerfile: str,
        target: str,
        tag: str,
        build_args: Mapping[str, str],
        on_progress: OnImageProgress,
    ) -> ImageInfo:
        """Build a Containerfile from a tar of its context."""
        ...

    async def image_remove(self, ref: str) -> None:
        """Gone counts as removed; in use raises engine.failed naming the container."""
        ...

    async def aclose(self) -> None:
        """Close connections and threads."""
        ...
