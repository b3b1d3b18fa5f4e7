"""What is done to a slot's containers: one thin door to the engine.

Every method ends by itself within the deadlines of what it calls, may be cancelled at any await, and leaves nothing
that the record does not name: the container's name is on disk before `launch` is called.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from hal0.engine import oom
from hal0.engine.base import ContainerInfo, ContainerStatus, Engine
from hal0.engine.errors import NameTaken, PortTaken
from hal0.errors import Hal0Error
from hal0.providers.base import Exit, Provider
from hal0.slots import failure as failures
from hal0.slots.adopt import LABEL_SPEC
from hal0.slots.plan import Place
from hal0.slots.record import Container, Failure
from hal0.slots.starts import Starts, Subject
from hal0.slots.store import SlotStore

log = logging.getLogger(__name__)

LOG_TAIL: Final = 50  # lines kept of a start: the first error line of every engine seen is within them
_LOG_DEADLINE_S: Final = 5.0
# Two seconds for podman to record an exit that hal0 saw first; usually it takes 20 ms.
_EXIT_POLLS: Final = 80
_EXIT_POLL_S: Final = 0.025


class Clash(Exception):
    """The port or the name was taken; another generation may try. `stuck`: the container could not be removed."""

    def __init__(self, message: str, *, stuck: bool = False) -> None:
        super().__init__(message)
        self.stuck = stuck


class Stuck(Exception):
    """Podman does not remove the container; it has to be quarantined."""


class Effects:
    def __init__(self, engine: Engine, starts: Starts, store: SlotStore, place: Place) -> None:
        self._engine = engine
        self._starts = starts
        self._store = store
        self._place = place

    async def launch(
        self, subject: Subject, container: Container, beside: Container | None, on_created: Callable[[], None]
    ) -> tuple[Container, str]:
        """Create and start `container`, `beside` one that serves meanwhile; returns it with its secret.

        Raises Clash when its port or name was taken meanwhile.
        """
        spec = await self._starts.spec(subject, container)
        others = (beside.generation,) if beside is not None else ()
        secret = await self._store.write_secret(subject.slot, container.generation, reader=spec.user, keep=others)
        await self._store.write_env(subject.slot, dict(spec.env))
        try:
            created = await self._engine.create(spec)
            on_created()
            await self._engine.start(created)
        except NameTaken as err:
            raise Clash(err.message) from err
        except PortTaken as err:
            try:
                await self.remove(container)
            except Stuck:
                raise Clash(err.message, stuck=True) from err
            raise Clash(err.message) from err
        info = await self._engine.inspect(created)
        began = await self._engine.began(info) if info is not None else None
        started = replace(container, id=created, image_id=spec.image, spec_hash=spec.labels[LABEL_SPEC])
        return replace(located(started, info, subject.provider, self._place), pid_start=began), secret

    async def retire(self, container: Container, *, stop_s: float) -> None:
        """Stop and remove. Raises Stuck when podman will not remove it, Hal0Error when it cannot be reached."""
        ref = container.id or container.name
        try:
            await self._engine.stop(ref, timeout_s=stop_s)
        except Hal0Error as err:
            if err.code == "engine.unreachable":
                raise
            log.warning("cannot stop %s (%s); removing it by force", container.name, err.message)
        await self.remove(container)

    async def remove(self, container: Container) -> None:
        """Remove by force, twice if need be: podman refuses the first time when a container's monitor was killed."""
        ref = container.id or container.name
        try:
            await self._engine.remove(ref)
        except Hal0Error as err:
            if err.code == "engine.unreachable":
                raise
            try:
                await self._engine.remove(ref)
            except Hal0Error as again:
                if again.code == "engine.unreachable":
                    raise
                raise Stuck(again.message) from again

    async def bury(
        self, subject: Subject, container: Container, *, warmed: bool, used_bytes: int | None, now: float
    ) -> Failure:
        """Read why a dead container ended. It is still there afterwards: `remove` it.

        `used_bytes` is its last memory sample.
        """
        info = await self._ended(container)
        if info is None:
            return failures.vanished(now)
        memory = await self._memory_verdict(info, used_bytes)
        ended = Exit(
            exit_code=info.exit_code,
            oom_killed=memory.oom,
            wanted=False,
            warmed=warmed,
            log_tail=await self.log_tail(container),
        )
        return failures.of_exit(ended, subject.provider.classify(ended), container, memory.evidence, now)

    async def _memory_verdict(self, info: ContainerInfo, used_bytes: int | None) -> oom.Verdict:
        """Was it killed for lack of memory? The kernel's log is read only where it can matter."""
        killed = info.exit_code == oom.KILLED and not info.oom_killed
        return oom.verdict(
            info.id,
            info.exit_code,
            flagged=info.oom_killed,
            used_bytes=used_bytes,
            limit_bytes=info.memory_limit_bytes,
            kernel_log=await asyncio.to_thread(oom.read_kernel_log) if killed else (),
        )

    async def _ended(self, container: Container) -> ContainerInfo | None:
        """What podman says once it has noticed the end too.

        The process is gone before its monitor has written the exit code; a killed monitor never writes one.
        """
        ref = container.id or container.name
        info = await self._engine.inspect(ref)
        for _ in range(_EXIT_POLLS):
            if info is None or info.status not in (ContainerStatus.RUNNING, ContainerStatus.STOPPING):
                break
            await asyncio.sleep(_EXIT_POLL_S)
            info = await self._engine.inspect(ref)
        return info

    async def log_tail(self, container: Container) -> tuple[str, ...]:
        """The last lines of its log; none when they cannot be had in time."""
        lines: list[str] = []
        with contextlib.suppress(TimeoutError, Hal0Error):
            async with asyncio.timeout(_LOG_DEADLINE_S):
                async for line in self._engine.logs(container.id or container.name, tail=LOG_TAIL):
                    lines.append(line.text)  # noqa: PERF401  a partial tail is kept when time runs out
        return tuple(lines)


def located(container: Container, info: ContainerInfo | None, provider: Provider, place: Place) -> Container:
    """Where the container answers, and its process, from what the engine says now."""
    if info is None:
        return container
    if place.network is not None and info.ip:
        return replace(container, host=info.ip, port=provider.container_port, pid=info.pid or None)
    return replace(container, pid=info.pid or None)
