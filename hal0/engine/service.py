"""The podman service hal0 talks to: found, or started as a child and looked after until the end."""

import asyncio
import contextlib
import logging
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from hal0.engine import spawn
from hal0.engine.child import Child, pid_file, remember, remembered
from hal0.engine.host import HostFacts, containers_conf, install_line
from hal0.engine.translate import one_line
from hal0.engine.transport import Transport
from hal0.errors import Hal0Error
from hal0.lib.aio import backoff_s, cancelled
from hal0.lib.atomic import private_dir, write_atomic

_READY_S: Final = 10.0  # it takes 50 ms; a first start on a slow disk lays out the store
_POLL_S: Final = 0.01
_SETTLE_S: Final = 0.1  # a service of a hal0 that was killed is still ending: the kernel told it to
_LOOK_S: Final = 2.0  # a removed socket file is noticed this soon; a ping takes podman half a millisecond
_SILENT_S: Final = 90.0  # longer than the slowest honest pause seen, a first pull onto a slow disk
_STEADY_S: Final = 60.0  # after this long the restart delays begin anew
_SAID_BYTES: Final = 2000
# They make podman the client of another one, which has no `system service`.
_REMOTE: Final = ("CONTAINER_HOST", "CONTAINER_CONNECTION", "CONTAINER_SSHKEY")
_SYSTEM_CONF: Final = ("/etc/containers/containers.conf", "/usr/share/containers/containers.conf")

log = logging.getLogger(__name__)


class Source(StrEnum):
    CONFIG = "config"
    ENVIRONMENT = "CONTAINER_HOST"
    ROOTFUL = "rootful"
    ROOTLESS = "rootless"
    OWN = "own"


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """For health and doctor; `pid` and `restarts` are of hal0's own child."""

    socket: Path
    source: Source
    version: str | None
    pid: int | None
    restarts: int
    problem: Hal0Error | None


def candidates(configured: str | None, environ: Mapping[str, str]) -> list[tuple[Source, Path]]:
    """Sockets to try, best first. A configured one is the only one: who names a socket means it."""
    if configured:
        return [(Source.CONFIG, _socket_of(configured))]
    found: list[tuple[Source, Path]] = []
    if host := environ.get("CONTAINER_HOST"):
        found.append((Source.ENVIRONMENT, _socket_of(host)))
    found.append((Source.ROOTFUL, Path("/run/podman/podman.sock")))
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        found.append((Source.ROOTLESS, Path(runtime) / "podman" / "podman.sock"))
    return found


def _socket_of(address: str) -> Path:
    scheme, separator, rest = address.partition("://")
    if separator and scheme != "unix":
        raise Hal0Error(
            "config.invalid",
            f"cannot use podman at {address}: hal0 talks to a socket on this machine; write unix:///path",
        )
    return Path(rest if separator else address)


class PodmanService:
    """`async with PodmanService(...) as service`: afterwards `service.socket` is where podman answers, or will.

    Entering never fails for a podman that is absent or broken: `status.problem` says so, the engine's calls raise
    engine.unreachable with `hint()`, and hal0 goes on trying. `sockets` are tried in order before a child is started
    (see `candidates`). `own_socket` must be short enough for Linux
    (hal0.paths.socket_path).
    """

    def __init__(
        self,
        facts: HostFacts,
        environ: Mapping[str, str],
        *,
        run_dir: Path,
        own_socket: Path,
        sockets: Sequence[tuple[Source, Path]],
    ) -> None:
        self._facts = facts
        self._environ = dict(environ)
        self._run_dir = run_dir
        self._own_socket = own_socket
        self._sockets = sockets
        self.socket = own_socket
        self._source = Source.OWN
        self._version: str | None = None
        self._problem: Hal0Error | None = None
        self._restarts = 0
        self._child: Child | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def status(self) -> ServiceStatus:
        pid = self._child.pid if self._child is not None else None
        return ServiceStatus(self.socket, self._source, self._version, pid, self._restarts, self._problem)

    def hint(self) -> str | None:
        """The cure when podman does not answer, if it is known."""
        return None if self._problem is None else self._problem.hint

    async def __aenter__(self) -> Self:
        if not await self._discover():
            await self._launch_noting()
            self._keeper = asyncio.create_task(self._keep(), name="podman-service")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._keeper is None:
            return
        self._keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._keeper
        if self._child is not None:
            child, self._child = self._child, None
            await child.end()
        await asyncio.to_thread(pid_file(self._run_dir).unlink, missing_ok=True)

    async def _discover(self) -> bool:
        """True when an existing service is to be used (or a configured one is at fault)."""
        for source, socket in self._sockets:
            try:
                version = await _ping(socket)
            except Hal0Error as error:
                if source is Source.CONFIG:
                    self.socket, self._source, self._problem = socket, source, error
                    return True
                if error.code == "engine.not_podman":
                    log.warning("%s; looking further", error.message)
                continue
            self.socket, self._source, self._version = socket, source, version
            return True
        return False

    async def _keep(self) -> None:
        """Start the child again whenever it is gone; quickly first, then every half minute."""
        delays = backoff_s(0.1, 30.0)
        loop = asyncio.get_running_loop()
        while True:
            if self._child is not None:
                since = loop.time()
                why = await self._lost(self._child)
                child, self._child = self._child, None
                await child.end()
                self._restarts += 1
                log.warning("podman's service %s; starting it again", why)
                if loop.time() - since > _STEADY_S:
                    delays = backoff_s(0.1, 30.0)
            await asyncio.sleep(next(delays))
            await self._launch_noting()

    async def _lost(self, child: Child) -> str:
        """Wait until the child is of no more use; why. Containers do not notice its end."""
        gone = asyncio.ensure_future(child.gone())
        silent_s = 0.0
        try:
            while True:
                await asyncio.wait([gone], timeout=_LOOK_S)
                if gone.done():
                    return "ended"
                if not await asyncio.to_thread(self._own_socket.is_socket):
                    return "lost its socket"
                try:
                    await _ping(self._own_socket)
                    silent_s = 0.0
                except Hal0Error:
                    silent_s += _LOOK_S
                if silent_s >= _SILENT_S:
                    return "does not answer any more"
        finally:
            await cancelled(gone)

    async def _launch_noting(self) -> None:
        try:
            await self._launch()
        except Hal0Error as error:
            self._problem = error
        except OSError as error:
            self._problem = Hal0Error("engine.unreachable", f"cannot start podman's service: {error}")
        else:
            self._problem = None

    async def _launch(self) -> None:
        await asyncio.to_thread(_prepare, self._run_dir, self._own_socket)
        if await self._reuse():
            return
        podman = await asyncio.to_thread(shutil.which, "podman", path=self._environ.get("PATH"))
        if podman is None:
            raise Hal0Error(
                "engine.unreachable",
                "cannot start podman's service: podman is not installed",
                hint=install_line(self._facts.distribution),
            )
        environ = await asyncio.to_thread(_child_environ, self._facts, self._environ, self._run_dir)
        await asyncio.to_thread(self._own_socket.unlink, missing_ok=True)  # a killed service leaves it behind
        command = (podman, "system", "service", "--time=0", f"unix://{self._own_socket}")
        output = self._run_dir / "engine.log"
        sink = await asyncio.to_thread(os.open, output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", spawn.__file__, str(os.getpid())),
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env=environ,
                cwd=self._run_dir,  # podman's monitor leaves a file named `oom` where the service was started
            )
        finally:
            os.close(sink)
        child = Child(process.pid, os.pidfd_open(process.pid), process)
        try:
            await asyncio.to_thread(remember, self._run_dir, child.pid)
            await self._until_ready(child, output)
        except BaseException:  # cancelled while it starts: nothing may be left behind
            await child.end()
            raise
        self._child = child

    async def _reuse(self) -> bool:
        """Take over a service that an earlier hal0 started and that still answers; end one that does not."""
        found = await asyncio.to_thread(remembered, self._run_dir)
        if found is None:
            return False
        child = Child(*found, None)
        try:
            self._version = await _ping(self._own_socket)
            await asyncio.sleep(_SETTLE_S)
        except Hal0Error:
            await child.end()
            return False
        except asyncio.CancelledError:
            await child.release()
            raise
        if not child.alive():
            await child.release()
            return False
        self._child = child
        return True

    async def _until_ready(self, child: Child, output: Path) -> None:
        deadline = asyncio.get_running_loop().time() + _READY_S
        while child.alive() and asyncio.get_running_loop().time() < deadline:
            with contextlib.suppress(Hal0Error):
                self._version = await _ping(self._own_socket)
                return
            await asyncio.sleep(_POLL_S)
        said = one_line((await asyncio.to_thread(output.read_bytes))[-_SAID_BYTES:].decode(errors="replace"))
        raise Hal0Error("engine.unreachable", f"cannot start podman's service: {said or 'it does not become ready'}")


async def _ping(socket: Path) -> str:
    transport = Transport(socket)
    try:
        return await transport.ping()
    finally:
        await transport.aclose()


def _prepare(run_dir: Path, socket: Path) -> None:
    """Both directories, private; a short fallback directory could have been made by somebody else before us."""
    for directory in (run_dir, socket.parent):
        private_dir(directory)
        if directory.stat().st_uid != os.getuid():
            raise PermissionError(f"{directory} belongs to another user")


def _child_environ(facts: HostFacts, environ: Mapping[str, str], run_dir: Path) -> dict[str, str]:
    """The child's environment; with a containers.conf of hal0's own only where the host needs one."""
    environ = {name: value for name, value in environ.items() if name not in _REMOTE}
    named = environ.get("CONTAINERS_CONF")
    texts = (Path(path) for path in ((named,) if named else _SYSTEM_CONF))
    base = next((path.read_text() for path in texts if path.is_file()), "")
    conf = containers_conf(facts, base)
    if conf is None:
        return environ
    path = run_dir / "containers.conf"
    write_atomic(path, conf.encode())
    return {**environ, "CONTAINERS_CONF": str(path)}
