"""`Engine` on podman's REST socket: aiohttp for containers and streams, the image store beside it."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol

import aiohttp

from hal0.engine import exits, reading
from hal0.engine.base import (
    ContainerInfo,
    ContainerSpec,
    ContainerStats,
    EngineEvent,
    ImageInfo,
    LogLine,
    OnImageProgress,
)
from hal0.engine.documents import container_info, container_stats, listed_container
from hal0.engine.errors import ContainerMissing
from hal0.engine.logs import LogDecoder
from hal0.engine.payload import HostProfile, create_body
from hal0.engine.store import ImageStore
from hal0.engine.translate import Subject, about
from hal0.engine.transport import API, CALL_S, Transport, json_filters
from hal0.engine.watch import watch_events
from hal0.errors import Hal0Error
from hal0.lib.clock import Clock, SystemClock

_START_S: Final = 30.0  # the first start after boot sets up the bridge; devices and images on slow disks
_REMOVE_S: Final = 30.0
_STOP_MARGIN_S: Final = 10.0  # beyond the time given to the process: SIGKILL, clean-up, a busy machine
_LISTED_S: Final = 1.5  # an inspect takes milliseconds; who lists at boot waits for two seconds
_ALL_LOG_TAIL: Final = "all"


class Profiles(Protocol):
    """Where the host's profile comes from; asked before each create, so it must be quick once known."""

    async def profile(self, transport: Transport, image: str) -> HostProfile: ...


class OrdinaryHost:
    """A host that refuses nothing."""

    async def profile(self, transport: Transport, image: str) -> HostProfile:
        return HostProfile()


class PodmanEngine:
    """One podman service. `translate` maps a path of hal0's to the engine's; `hint` is the cure when nobody answers."""

    def __init__(
        self,
        socket: Path,
        *,
        profiles: Profiles | None = None,
        clock: Clock | None = None,
        translate: Callable[[Path], Path] = lambda path: path,
        hint: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.transport = Transport(socket, hint=hint)
        self._store = ImageStore(self.transport)
        self._profiles = profiles if profiles is not None else OrdinaryHost()
        self._clock = clock if clock is not None else SystemClock()
        self._translate = translate

    async def ping(self) -> str:
        return await self.transport.ping()

    async def create(self, spec: ContainerSpec) -> str:
        profile = await self._profiles.profile(self.transport, spec.image)
        placed = replace(
            spec, mounts=tuple(replace(mount, source=self._translate(mount.source)) for mount in spec.mounts)
        )
        port = spec.publish.host_port if spec.publish else None
        subject = Subject(f"create container {spec.name}", container=spec.name, image=spec.image, port=port)
        document = await self.transport.json(
            "/containers/create", subject, method="POST", json=create_body(placed, profile), timeout_s=_START_S
        )
        return str(document["Id"])

    async def start(self, container: str) -> None:
        subject = about("start container", container)
        await self.transport.call("POST", f"/containers/{container}/start", subject, timeout_s=_START_S)

    async def stop(self, container: str, *, timeout_s: float) -> None:
        subject = about("stop container", container)
        params = {"timeout": str(max(0, round(timeout_s)))}
        try:
            await self.transport.call(
                "POST",
                f"/containers/{container}/stop",
                subject,
                params=params,
                timeout_s=timeout_s + _STOP_MARGIN_S,
            )
        except ContainerMissing:
            return

    async def remove(self, container: str) -> None:
        """Twice when podman fails: after its conmon was killed, the first call only clears up."""
        subject = about("remove container", container)
        params = {"force": "true", "v": "true", "timeout": "0"}  # without timeout=0 it waits for the stop timeout
        for last in (False, True):
            try:
                await self.transport.call(
                    "DELETE", f"/containers/{container}", subject, params=params, timeout_s=_REMOVE_S
                )
            except ContainerMissing:
                return
            except Hal0Error as error:
                if last or error.code != "engine.failed":
                    raise
            else:
                return

    async def inspect(self, container: str, *, timeout_s: float = CALL_S) -> ContainerInfo | None:
        subject = about("inspect container", container)
        path = f"/containers/{container}/json"
        try:
            return container_info(await self.transport.json(path, subject, timeout_s=timeout_s))
        except ContainerMissing:
            return None

    async def containers(self, labels: Mapping[str, str]) -> list[ContainerInfo]:
        params = {"all": "true", "filters": json_filters(label=_label_filter(labels))}
        listed = await self.transport.json("/containers/json", Subject("list the containers"), params=params)
        infos = await asyncio.gather(*(self._listed(entry) for entry in listed or ()))
        return [info for info in infos if info is not None]

    async def _listed(self, entry: Mapping[str, Any]) -> ContainerInfo | None:
        """What podman says of a container of the list; a stuck one, or a broken one, hides none of the others."""
        try:
            return await self.inspect(entry["Id"], timeout_s=_LISTED_S)
        except Hal0Error as error:
            if error.code == "engine.unreachable":
                raise
            return listed_container(entry)

    async def logs(
        self, container: str, *, tail: int | None = None, follow: bool = False
    ) -> AsyncGenerator[LogLine, None]:
        """With `follow`, `tail` is podman's own count, which takes pieces of a line for lines."""
        # one more than asked, cut here: podman miscounts a last line that was never ended
        wanted = _ALL_LOG_TAIL if tail is None else str(tail if follow else tail + 1)
        params = {
            "stdout": "true",
            "stderr": "true",
            "timestamps": "true",
            "follow": "true" if follow else "false",
            "tail": wanted,
        }
        lines = self._log_lines(container, params)
        if tail is not None and not follow:
            for line in deque([line async for line in lines], maxlen=tail):
                yield line
            return
        async for line in lines:
            yield line

    async def _log_lines(self, container: str, params: dict[str, str]) -> AsyncGenerator[LogLine, None]:
        subject = about("read the log of", container)
        decoder = LogDecoder()
        path = f"{API}/containers/{container}/logs"
        async with self.transport.stream("GET", path, subject, params=params) as reader:
            async for chunk in reader.iter_any():
                for line in decoder.feed(chunk):
                    yield line
        for line in decoder.finish():
            yield line

    async def stats(self, container: str) -> ContainerStats | None:
        params = {"containers": container, "stream": "false"}
        subject = about("measure container", container)
        try:
            return container_stats(await self.transport.json("/containers/stats", subject, params=params))
        except ContainerMissing:
            return None

    async def processes(self, container: str) -> tuple[int, ...]:
        info = await self.inspect(container)
        return () if info is None else await asyncio.to_thread(reading.processes, info)

    async def began(self, info: ContainerInfo) -> int | None:
        return await asyncio.to_thread(exits.began, info)

    async def bytes_read(self, info: ContainerInfo) -> int | None:
        return await asyncio.to_thread(reading.bytes_read, info)

    def events(self, labels: Mapping[str, str]) -> AsyncGenerator[EngineEvent, None]:
        return self._events(label=_label_filter(labels))

    async def watch_exit(self, info: ContainerInfo) -> None:
        await exits.watch_exit(info, events=lambda: self._events(container=[info.id]), inspect=self.inspect)

    def _events(self, **filters: list[str]) -> AsyncGenerator[EngineEvent, None]:
        def open_events(since: float) -> AbstractAsyncContextManager[aiohttp.StreamReader]:
            params = {"stream": "true", "since": str(int(since)), "filters": json_filters(type="container", **filters)}
            return self.transport.stream("GET", f"{API}/events", Subject("follow the events"), params=params)

        return watch_events(open_events, self._clock)

    async def image_inspect(self, ref: str) -> ImageInfo | None:
        return await self._store.inspect(ref)

    async def image_list(self) -> list[ImageInfo]:
        return await self._store.list()

    async def image_pull(self, ref: str, on_progress: OnImageProgress) -> ImageInfo:
        return await self._store.pull(ref, on_progress)

    async def image_import(
        self, tar: Path, tag: str, changes: tuple[str, ...], on_progress: OnImageProgress
    ) -> ImageInfo:
        return await self._store.load(tar, tag, changes, on_progress)

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
        return await self._store.build(
            context,
            containerfile=containerfile,
            target=target,
            tag=tag,
            build_args=build_args,
            on_progress=on_progress,
        )

    async def image_remove(self, ref: str) -> None:
        await self._store.remove(ref)

    async def aclose(self) -> None:
        await self._store.aclose()
        await self.transport.aclose()


def _label_filter(labels: Mapping[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in labels.items()]
