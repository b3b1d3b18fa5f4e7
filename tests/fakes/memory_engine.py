"""A well-behaved container engine in memory: podman's ordering, delays and refusals.

Time is the running loop's, so everything works on virtual time; nothing here touches a disk or a socket.
"""

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

from hal0.engine.base import (
    LABEL_PREFIX,
    ContainerInfo,
    ContainerSpec,
    ContainerStats,
    ContainerStatus,
    EngineEvent,
    EventKind,
    ImageInfo,
    ImageProgress,
    LogLine,
    OnImageProgress,
)
from hal0.engine.errors import ContainerMissing, ImageMissing, NameTaken, PortTaken
from hal0.errors import Hal0Error
from hal0.lib.clock import Clock
from tests.fakes.program import FakeContainer, Program
from tests.vloop import LoopClock

T = TypeVar("T")

FAKE_IMAGE: Final = ImageInfo("1" * 64, ("localhost/hal0-toolbox-cpu:latest",), (), 69_000_000)


@dataclass(frozen=True, slots=True)
class Delays:
    """Seconds a verb takes; podman 4.3's medians on a small machine. `event` is how late an event is told."""

    quick: float = 0.002
    create: float = 0.009
    start: float = 0.125
    stop: float = 0.02  # on top of what the process itself takes
    remove: float = 0.009
    event: float = 0.1
    pidfd: float = 0.001
    pull: float = 2.0

    def times(self, factor: float) -> "Delays":
        return Delays(*(getattr(self, name) * factor for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Call:
    """One verb as it was asked: for tests that count what reached the engine."""

    verb: str
    target: str
    at: float


class FakeEngine:
    """An `hal0.engine.base.Engine`. Not shared between loops; make it inside or outside, use it inside one."""

    def __init__(self, *, clock: Clock | None = None, delays: Delays | None = None) -> None:
        self.clock: Clock = clock or LoopClock()
        self.delays = delays or Delays()
        self.program = Program()  # of every start that nothing was planned for
        self.images: dict[str, ImageInfo] = {FAKE_IMAGE.id: FAKE_IMAGE}
        self.registry: dict[str, ImageInfo] = {}  # what image_pull can find
        self.busy_ports: set[int] = set()  # held by strangers
        self.calls: list[Call] = []
        self.closed = False
        self._made: dict[str, FakeContainer] = {}
        self._planned: dict[str | None, deque[Program]] = {}
        self._listeners: list[tuple[Mapping[str, str], asyncio.Queue[EngineEvent]]] = []
        self._serial = 0

    # what tests do to it

    def plan(self, *programs: Program, slot: str | None = None) -> None:
        """The next starts (of this slot, or of any) run these programs, in this order; later ones the default."""
        self._planned.setdefault(slot, deque()).extend(programs)

    def of_slot(self, slot: str) -> list[FakeContainer]:
        """The slot's containers, oldest first."""
        return [c for c in self._made.values() if c.spec.labels.get(LABEL_PREFIX + "slot") == slot]

    @property
    def all(self) -> list[FakeContainer]:
        return list(self._made.values())

    @property
    def running(self) -> list[FakeContainer]:
        return [c for c in self._made.values() if c.running]

    def at_port(self, port: int) -> FakeContainer | None:
        """The running container that answers on this host port."""
        return next((c for c in self.running if c.host_port == port), None)

    def place(self, spec: ContainerSpec, program: Program | None = None, *, running: bool = True) -> FakeContainer:
        """A container that was there before: created, or already running for a while (so ready by now)."""
        container = self._make(spec)
        if running:
            container.run(program or self.program, self._pid())
            container.age(3600.0)
        return container

    def called(self, verb: str) -> list[str]:
        """Targets of every call of one verb so far."""
        return [call.target for call in self.calls if call.verb == verb]

    def break_events(self) -> None:
        """The event stream broke and came back: listeners may have missed something."""
        for _, queue in self._listeners:
            queue.put_nowait(EngineEvent(EventKind.RESYNC))

    # the engine's verbs

    async def ping(self) -> str:
        await self._enter("ping", "", self.delays.quick)
        return "4.3.1"

    async def create(self, spec: ContainerSpec) -> str:
        def make() -> str:
            if any(c.spec.name == spec.name for c in self._made.values()):
                raise NameTaken(spec.name)
            return self._make(spec).id

        return await self._effect("create", spec.name, self.delays.create, make)

    async def start(self, container: str) -> None:
        def run() -> None:
            found = self._need(container)
            if found.running:
                return
            self._bind(found)
            found.run(self._next_program(found.spec), self._pid())
            self._tell(EventKind.STARTED, found)

        await self._effect("start", container, self.delays.start, run)

    async def stop(self, container: str, *, timeout_s: float) -> None:
        def terminate() -> FakeContainer | None:
            found = self._find(container)
            if found is not None and found.running:
                found.signal("SIGTERM")
                if found.running:
                    found.status = ContainerStatus.STOPPING
                    asyncio.get_running_loop().call_later(timeout_s, _kill_run, found, found.pid)
            return found

        if found := await self._effect("stop", container, self.delays.stop, terminate):
            await _ended(found)

    async def remove(self, container: str) -> None:
        def drop() -> None:
            if found := self._find(container):
                found.signal("SIGKILL")
                del self._made[found.id]
                self._tell(EventKind.REMOVED, found)

        await self._effect("remove", container, self.delays.remove, drop)

    async def inspect(self, container: str) -> ContainerInfo | None:
        await self._enter("inspect", container, self.delays.quick)
        found = self._find(container)
        return found.info() if found else None

    async def containers(self, labels: Mapping[str, str]) -> list[ContainerInfo]:
        await self._enter("containers", "", self.delays.quick)
        return [c.info() for c in self._made.values() if labels.items() <= c.spec.labels.items()]

    async def logs(self, container: str, *, tail: int | None = None, follow: bool = False) -> AsyncIterator[LogLine]:
        await self._enter("logs", container, self.delays.quick)
        found = self._need(container)
        at = 0 if tail is None else max(0, len(found.lines) - tail)
        while True:
            while at < len(found.lines):
                yield found.lines[at]
                at += 1
            if not follow or not found.running:
                return
            await found.output.wait()

    async def stats(self, container: str) -> ContainerStats | None:
        await self._enter("stats", container, self.delays.quick)
        found = self._find(container)
        if found is None or not found.running:
            return None
        program = found.program
        return ContainerStats(found.age_s * program.busy_cores, program.memory_bytes, found.spec.memory_bytes or 0)

    async def processes(self, container: str) -> tuple[int, ...]:
        await self._enter("processes", container, self.delays.quick)
        found = self._find(container)
        return found.program.processes if found is not None and found.running else ()

    async def began(self, info: ContainerInfo) -> int | None:
        found = self._find(info.id)
        return None if found is None or found.lost or found.pid != info.pid else 100 + info.pid

    async def bytes_read(self, info: ContainerInfo) -> int | None:
        found = self._find(info.id)
        if found is None or found.program.reads_bytes_s is None or not found.running:
            return None
        return int(found.age_s * found.program.reads_bytes_s)

    async def events(self, labels: Mapping[str, str]) -> AsyncIterator[EngineEvent]:
        queue: asyncio.Queue[EngineEvent] = asyncio.Queue()
        entry = (dict(labels), queue)
        self._listeners.append(entry)
        try:
            yield EngineEvent(EventKind.RESYNC)
            while True:
                yield await queue.get()
        finally:
            self._listeners.remove(entry)

    async def watch_exit(self, info: ContainerInfo) -> None:
        found = self._find(info.id)
        if found is not None and found.pid == info.pid:
            await _ended(found)
        await asyncio.sleep(self.delays.pidfd)

    async def image_inspect(self, ref: str) -> ImageInfo | None:
        await self._enter("image_inspect", ref, self.delays.quick)
        return self._image(ref)

    async def image_list(self) -> list[ImageInfo]:
        await self._enter("image_list", "", self.delays.quick)
        return list(self.images.values())

    async def image_pull(self, ref: str, on_progress: OnImageProgress) -> ImageInfo:
        await self._enter("image_pull", ref, self.delays.quick)
        if (image := self.registry.get(ref)) is None:
            raise ImageMissing(ref)
        for step in range(1, 5):
            await asyncio.sleep(self.delays.pull / 4)
            on_progress(ImageProgress(f"layer {step} of 4", step / 4))
        self.images[image.id] = image
        return image

    async def image_import(
        self, tar: Path, tag: str, changes: tuple[str, ...], on_progress: OnImageProgress
    ) -> ImageInfo:
        await self._enter("image_import", tag, self.delays.pull)
        on_progress(ImageProgress("imported", 1.0))
        return self._new_image(tag, f"{tar}{changes}")

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
        await self._enter("image_build", tag, self.delays.pull)
        on_progress(ImageProgress("built", 1.0))
        return self._new_image(tag, f"{context}{containerfile}{target}{sorted(build_args.items())}")

    async def image_remove(self, ref: str) -> None:
        await self._enter("image_remove", ref, self.delays.quick)
        if (image := self._image(ref)) is None:
            return
        if user := next((c for c in self._made.values() if c.image_id == image.id), None):
            raise Hal0Error("engine.failed", f"cannot remove image {ref}: container {user.spec.name} uses it")
        del self.images[image.id]

    async def aclose(self) -> None:
        self.closed = True

    # how it works

    async def _fault(self, verb: str, target: str) -> None:
        """Where a variant misbehaves before a verb; the well-behaved engine does nothing."""

    async def _answer(self, verb: str, target: str) -> None:
        """Where a variant misbehaves after a verb took effect."""

    async def _enter(self, verb: str, target: str, delay_s: float) -> None:
        self.calls.append(Call(verb, target, asyncio.get_running_loop().time()))
        if self.closed:
            raise Hal0Error("engine.unreachable", "cannot reach the engine: its connection is closed")
        await self._fault(verb, target)
        await asyncio.sleep(delay_s)

    async def _effect(self, verb: str, target: str, delay_s: float, act: Callable[[], T]) -> T:
        """Once asked, it happens: a caller that is cancelled meanwhile does not take the request back."""
        await self._enter(verb, target, 0)
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def land() -> None:
            try:
                result = act()
            except Hal0Error as error:
                if not done.done():
                    done.set_exception(error)
                return
            if not done.done():
                done.set_result(result)

        asyncio.get_running_loop().call_later(delay_s, land)
        result = await done
        await self._answer(verb, target)
        return result

    def _make(self, spec: ContainerSpec) -> FakeContainer:
        if (image := self._image(spec.image)) is None:
            raise ImageMissing(spec.image)
        self._serial += 1
        container_id = hashlib.sha256(f"{self._serial} {spec.name}".encode()).hexdigest()
        made = FakeContainer(container_id, spec, image.id, self.clock, self._exited)
        self._made[container_id] = made
        return made

    def _bind(self, container: FakeContainer) -> None:
        port = container.host_port
        if port is not None and (port in self.busy_ports or self.at_port(port)):
            container.error = f"cannot listen on the TCP port: listen tcp4 127.0.0.1:{port}: address already in use"
            raise PortTaken(port, "address already in use")

    def _next_program(self, spec: ContainerSpec) -> Program:
        for key in (spec.labels.get(LABEL_PREFIX + "slot"), None):
            if planned := self._planned.get(key):
                return planned.popleft()
        return self.program

    def _find(self, container: str) -> FakeContainer | None:
        by_name = (c for c in self._made.values() if c.spec.name == container)
        return self._made.get(container) or next(by_name, None)

    def _need(self, container: str) -> FakeContainer:
        if (found := self._find(container)) is None:
            raise ContainerMissing(container)
        return found

    def _pid(self) -> int:
        self._serial += 1
        return 100_000 + 2 * self._serial

    def _exited(self, container: FakeContainer) -> None:
        if container.oom:
            self._tell(EventKind.OOM, container)
        self._tell(EventKind.DIED, container)

    def _tell(self, kind: EventKind, container: FakeContainer) -> None:
        """Events come after the fact, in the order of the facts."""
        code = container.exit_code if kind is EventKind.DIED else None
        event = EngineEvent(
            kind, container.id, container.spec.name, dict(container.spec.labels), code, self.clock.now()
        )
        asyncio.get_running_loop().call_later(self.delays.event, self._deliver, event)

    def _deliver(self, event: EngineEvent) -> None:
        for labels, queue in self._listeners:
            if labels.items() <= event.labels.items():
                queue.put_nowait(event)

    def _image(self, ref: str) -> ImageInfo | None:
        return next((i for i in self.images.values() if ref == i.id or ref in i.tags or ref in i.digests), None)

    def _new_image(self, tag: str, content: str) -> ImageInfo:
        self._untag(tag)
        image = ImageInfo(hashlib.sha256(content.encode()).hexdigest(), (tag,), (), 69_000_000)
        self.images[image.id] = image
        return image

    def _untag(self, tag: str) -> None:
        for image in self.images.values():
            if tag in image.tags:
                self.images[image.id] = replace(image, tags=tuple(t for t in image.tags if t != tag))


def _kill_run(container: FakeContainer, pid: int) -> None:
    """End of a stop's patience; a container started again since then is another process."""
    if container.pid == pid:
        container.signal("SIGKILL")


async def _ended(container: FakeContainer) -> None:
    while container.running:
        await container.output.wait()
