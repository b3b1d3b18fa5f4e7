"""One pull at work: each file fetched, compared with what was published, staged; then the model is put in place."""

import asyncio
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from hal0.errors import Hal0Error
from hal0.lib.aio import settled
from hal0.models.registry import Registry
from hal0.pulls import placing
from hal0.pulls.meter import Meter
from hal0.pulls.part import Part, write_at
from hal0.pulls.plan import Came, Place, Plan, PlannedFile
from hal0.pulls.transfer import Transfer, Wanted, disk_error, opened
from hal0.wire.jobs import JobPace

_PIECE_BYTES: Final = 8 << 20
_SPARE_BYTES: Final = 256 << 20  # of the store's disk, for everything else that lives there


class Download:
    """`done_bytes` counts from the first byte ever, over all files.

    `placing` is held by one download at a time: two that bring a file of the same name would replace each other's.
    """

    def __init__(self, plan: Plan, registry: Registry, placing: asyncio.Lock, *, allow_pickle: bool) -> None:
        self.plan = plan
        self.place = Place(registry.store, plan.id)
        self.done_bytes = 0
        self.message = "waiting for other downloads"
        self._registry = registry
        self._placing = placing
        self._saving = asyncio.Lock()
        self._removed = False
        self._allow_pickle = allow_pickle
        self._meter = Meter()
        self._parts = [Part(self.place.part(number)) for number in range(len(plan.files))]

    @property
    def total_bytes(self) -> int | None:
        sizes = [file.size_bytes or part.size_bytes for file, part in zip(self.plan.files, self._parts, strict=True)]
        unknown = any(f.size_bytes is None and not p.begun for f, p in zip(self.plan.files, self._parts, strict=True))
        return None if unknown else sum(sizes)

    @property
    def left_bytes(self) -> int:
        return max((self.total_bytes or 0) - self.done_bytes, 0)

    def pace(self) -> JobPace:
        now, total = asyncio.get_running_loop().time(), self.total_bytes
        eta_s = None if total is None else self._meter.eta_s(self.left_bytes, now)
        return JobPace(done_bytes=self.done_bytes, total_bytes=total, bytes_per_s=self._meter.rate(now), eta_s=eta_s)

    def arrived(self, size_bytes: int) -> None:
        self.done_bytes += size_bytes
        if size_bytes > 0:
            self._meter.count(size_bytes, asyncio.get_running_loop().time())

    def look(self) -> None:
        """What an earlier process left. Blocking."""
        done = 0
        for file, part in zip(self.plan.files, self._parts, strict=True):
            whole = self.place.whole(self.plan, file)
            if whole.exists():
                part.came(whole.stat().st_size)
            else:
                part.load()
            done += part.done_bytes
        self.done_bytes = done

    async def save(self, **changes: object) -> None:
        """The plan, changed so, for the next process. Raises OSError."""
        self.plan = self.plan.model_copy(update=changes)
        async with self._saving:
            if not self._removed:
                await settled(asyncio.to_thread(self.place.save, self.plan))  # what is written last is what it is now

    async def remove(self) -> None:
        """Leave nothing for a next process."""
        async with self._saving:
            self._removed = True
            await settled(asyncio.to_thread(self.place.remove))

    async def run(self, transfer: Transfer, promised_bytes: int) -> None:
        """Return when the model is in place. Raises Hal0Error; what has come stays, unless it is wrong.

        `promised_bytes` are what other downloads are still going to write to the same disk.
        """
        try:
            if not await asyncio.to_thread(self._in_place):
                room = partial(check_room, self._registry.store, promised_bytes=promised_bytes)
                await asyncio.to_thread(room, 0 if self.plan.link else self.left_bytes)
                for file, part in zip(self.plan.files, self._parts, strict=True):
                    await self._fetch(transfer, file, part, room)
                self.message = "putting it in place"
                async with self._placing:
                    await settled(asyncio.to_thread(self._finish))
        except OSError as e:
            raise disk_error(self.plan.model, e) from e
        await self.remove()

    async def _fetch(self, transfer: Transfer, file: PlannedFile, part: Part, room: Callable[[int], None]) -> None:
        whole = self.place.whole(self.plan, file)
        if await asyncio.to_thread(whole.exists):
            return
        if part.begun and not await asyncio.to_thread(part.path.exists):
            await self._forget(part)  # it was thrown away with the others, or was on the way to them
        self.message = f"fetching {file.name}"
        if self.plan.link:
            part.came(await settled(asyncio.to_thread(placing.link, Path(file.url), part.path)))
            self.arrived(part.done_bytes)
        elif file.url.startswith("/"):
            await self._copy(Path(file.url), part)
        else:
            wanted = Wanted(name=file.name, url=file.url, size_bytes=file.size_bytes, repo=file.repo)
            await transfer.run(wanted, part, room, partial(self._tell, file.name))
        self.message = f"checking {file.name}"
        try:
            etag = None if file.url.startswith("/") else part.etag
            came = Came(sha256=await placing.checked(part.path, file), etag=etag)
            await self.save(came={**self.plan.came, file.name: came})
            how = {"allow_pickle": self._allow_pickle, "linked": self.plan.link}
            await settled(asyncio.to_thread(placing.stage, part.path, whole, **how))
        except Hal0Error:  # it can never be used
            await self._forget(part)
            raise

    async def _forget(self, part: Part) -> None:
        self.done_bytes -= part.done_bytes
        await asyncio.to_thread(part.forget)

    def _tell(self, name: str, trouble: str) -> None:
        self.message = f"fetching {name}; {trouble}, trying again" if trouble else f"fetching {name}"

    async def _copy(self, source: Path, part: Part) -> None:
        """From this machine: as a download, but from a file that is here."""
        source_fd = await opened(partial(os.open, source, os.O_RDONLY | os.O_CLOEXEC))
        try:
            found = await asyncio.to_thread(os.fstat, source_fd)
            version = f"{found.st_ino} {found.st_mtime_ns}"  # another file may have come to its place meanwhile
            if not part.begun or (part.size_bytes, part.etag) != (found.st_size, version):
                self.done_bytes -= part.done_bytes
                await asyncio.to_thread(part.begin, found.st_size, version)
            fd = await opened(part.open)
            try:
                for span in part.spans:
                    while span.left:
                        copied = await settled(asyncio.to_thread(_piece, source_fd, fd, span.at, span.left))
                        span.at += copied
                        self.arrived(copied)
                await settled(asyncio.to_thread(part.note, fd))
            finally:
                os.close(fd)
        finally:
            os.close(source_fd)

    def _in_place(self) -> bool:
        """The last process got as far as the rename, and no further."""
        if not any(record.id == self.plan.model for record in self._registry.records()):
            return False
        self._registry.scan()
        return self._registry.get(self.plan.model) is not None

    def _finish(self) -> None:
        try:
            entry = placing.judged(self.place, self.plan, allow_pickle=self._allow_pickle)
        except Hal0Error:
            shutil.rmtree(self.place.staged, ignore_errors=True)
            raise
        record = placing.record_of(self.place, self.plan, entry, self._registry.store)
        self._registry.remember(record)
        placing.move(self.place, self.plan, record, self._registry.store)
        self._registry.scan()


def check_room(store: Path, needed_bytes: int, promised_bytes: int, disk: Callable[[Path], int] | None = None) -> None:
    """Raises pull.disk_full with the sum. Blocking; makes the store where there is none."""
    store.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(store).free if disk is None else disk(store)
    if needed_bytes + promised_bytes + _SPARE_BYTES <= free:
        return
    others = f", {promised_bytes / 1e9:.1f} GB are for other downloads" if promised_bytes else ""
    raise Hal0Error(
        "pull.disk_full",
        f"cannot pull: {needed_bytes / 1e9:.1f} GB are needed, the store at {store} has {free / 1e9:.1f} GB free"
        f"{others}, and {_SPARE_BYTES / 1e9:.1f} GB are left alone; what has come is kept",
        details={
            "needed_bytes": needed_bytes,
            "free_bytes": free,
            "promised_bytes": promised_bytes,
            "store": str(store),
        },
    )


def _piece(source: int, target: int, at: int, left: int) -> int:
    data = os.pread(source, min(left, _PIECE_BYTES), at)
    if not data:
        raise Hal0Error("model.checksum", "cannot copy the file: it became shorter meanwhile")
    write_at(target, data, at)
    return len(data)
