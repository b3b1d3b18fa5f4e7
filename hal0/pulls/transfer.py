"""One file from a server to this disk: ranges beside each other, picked up where they broke off, until all has come.

What comes is never believed: the size has to be the published one, every range has to be of the file that was begun
(`If-Range`, and the answer's own words), and whoever called compares the digest before anything is put in place.
"""

import asyncio
import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from aiohttp import ClientResponse

from hal0.errors import Hal0Error
from hal0.lib.aio import backoff_s, cancelled, settled
from hal0.pulls.asking import Asker
from hal0.pulls.meter import Throttle
from hal0.pulls.part import Part, write_at
from hal0.pulls.spans import Span, covers
from hal0.pulls.verdicts import OFFLINE, Again, Changed

# Without a single byte for so long a download gives up; pauses that the server asked for do not count.
PATIENCE_S: Final = 120.0
_PAUSE_S: Final = (1.0, 30.0)
_BEGINNINGS: Final = 3  # a file that changes more often while it comes is none to wait for
_BATCH_BYTES: Final = 1 << 20
_BATCH_S: Final = 1.0
_NOTE_S: Final = 2.0
_MOST_DIGITS: Final = 18  # of a size; more are no number of bytes, and Python refuses to read some


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A file as it was published; None where nobody said."""

    name: str
    url: str
    size_bytes: int | None
    repo: str | None = None


@dataclass(slots=True)
class Patience:
    """Shared by all ranges of a file: as long as bytes come anywhere, or wait for hal0's own limit, nothing is lost.

    `tell` hears why nothing comes for now, and "" once it goes on.
    """

    limit_s: float = PATIENCE_S
    tell: Callable[[str], None] = lambda _trouble: None
    troubled: bool = False
    since: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    held: int = 0  # ranges

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Inside, it is hal0 that takes nothing: by a low limit a single piece may wait for minutes."""
        self.held += 1
        try:
            yield
        finally:
            self.held -= 1
            self.since = asyncio.get_running_loop().time()

    def byte(self) -> None:
        self.since = asyncio.get_running_loop().time()
        if self.troubled:
            self.troubled = False
            self.tell("")

    async def pause(self, again: Again, pause_s: float) -> None:
        """Before the next try. Raises pull.failed when there shall be none."""
        if self.held:
            self.since = asyncio.get_running_loop().time()
        if again.wait_s is not None:
            self.since += again.wait_s
            pause_s = again.wait_s
        if asyncio.get_running_loop().time() + pause_s - self.since > self.limit_s:
            message = f"{again}; for {self.limit_s:.0f} s nothing came"
            raise Hal0Error(
                "pull.failed",
                f"cannot go on with the download: {message}",
                hint=f"What has come is kept; the next try goes on from there. {OFFLINE}",
            ) from again
        self.troubled = True
        self.tell(str(again))
        await asyncio.sleep(pause_s)


class Transfer:
    """`arrived` is told of bytes as they come, and of those that have to come again as fewer than none."""

    def __init__(
        self,
        asker: Asker,
        throttles: Sequence[Throttle],
        arrived: Callable[[int], None],
        *,
        patience_s: float = PATIENCE_S,
        pause_s: tuple[float, float] = _PAUSE_S,
    ) -> None:
        self._asker = asker
        self._throttles = throttles
        self._arrived = arrived
        self._patience_s = patience_s
        self._pause_s = pause_s

    async def run(self, wanted: Wanted, part: Part, room: Callable[[int], None], tell: Callable[[str], None]) -> None:
        """Return when `part` is whole. Raises Hal0Error; what has come stays for the next time.

        `room` is told the size, in a thread, where nobody published it; it raises when the disk is too small. `tell`
        hears why nothing comes for now, and "" once it goes on.
        """
        patience = Patience(self._patience_s, tell)
        for _ in range(_BEGINNINGS):
            try:
                ranged = await self._begin(wanted, part, patience, room)
                await self._fill(wanted, part, patience, ranged=ranged)
            except Changed:
                self._arrived(-part.done_bytes)
                await asyncio.to_thread(part.forget)
            except OSError as e:
                raise disk_error(wanted.name, e) from e
            else:
                return
        raise Hal0Error("model.checksum", f"cannot fetch {wanted.name}: it changes on the server again and again")

    async def _begin(self, wanted: Wanted, part: Part, patience: Patience, room: Callable[[int], None]) -> bool:
        """Whether the server sends ranges, as far as it is known; the part has its size after this."""
        if part.begun:
            return True
        if wanted.size_bytes == 0:
            await asyncio.to_thread(part.begin, 0, None)
            return True
        for pause_s in backoff_s(*self._pause_s):
            try:
                size, ranged, etag = await self._head(wanted)
            except Again as again:
                await patience.pause(again, pause_s)
            else:
                if wanted.size_bytes is None:
                    await asyncio.to_thread(room, size)
                await asyncio.to_thread(part.begin, size, etag)
                if not ranged:
                    part.spans = [Span(0, 0, size)]
                return ranged
        raise AssertionError("pauses never end")

    async def _head(self, wanted: Wanted) -> tuple[int, bool, str | None]:
        """(bytes, whether ranges are sent, etag); asked as the ranges will be, for not every server answers HEAD."""
        async with self._asker.ask(wanted.url, wanted.name, wanted.repo, {"Range": "bytes=0-0"}) as response:
            return *_size(wanted, response), _strong(response)

    async def _fill(self, wanted: Wanted, part: Part, patience: Patience, *, ranged: bool) -> None:
        fd = await opened(part.open)
        try:
            noting = asyncio.create_task(_noting(part, fd))
            lanes = [
                asyncio.create_task(self._lane(wanted, part, span, fd, patience, ranged=ranged))
                for span in part.spans
                if span.left
            ]
            try:
                try:
                    await _all(lanes, noting)
                finally:  # all of them, whoever else loses patience: after this their descriptor is another file's
                    await settled(_stopped((*lanes, noting)))
            except BaseException:
                with suppress(OSError):  # what ended it counts; bytes without a note come again
                    await settled(asyncio.to_thread(part.note, fd))
                raise
            await settled(asyncio.to_thread(part.note, fd))
        finally:
            os.close(fd)

    async def _lane(self, wanted: Wanted, part: Part, span: Span, fd: int, patience: Patience, *, ranged: bool) -> None:
        pauses = backoff_s(*self._pause_s)
        while span.left:
            begun_at = span.at
            try:
                await self._stretch(wanted, part, span, fd, patience, ranged=ranged)
            except Again as again:
                if span.at > begun_at:
                    pauses = backoff_s(*self._pause_s)
                if not ranged:  # no way to ask for the rest
                    self._arrived(span.start - span.at)
                    span.at = span.start
                await patience.pause(again, next(pauses))

    async def _stretch(
        self, wanted: Wanted, part: Part, span: Span, fd: int, patience: Patience, *, ranged: bool
    ) -> None:
        """As much of the span as one answer brings. Raises Again unless that is all."""
        asked = {"Range": f"bytes={span.at}-{span.end - 1}"} if ranged else {}
        if ranged and part.etag is not None:
            asked["If-Range"] = part.etag
        async with self._asker.ask(wanted.url, wanted.name, wanted.repo, asked) as response:
            if ranged:
                _same(response, part, span)
            elif response.status != 200 or _size(wanted, response)[0] != part.size_bytes:
                raise Changed
            await self._pour(response, span, fd, patience)
        if span.left:
            raise Again("the connection ended early")

    async def _pour(self, response: ClientResponse, span: Span, fd: int, patience: Patience) -> None:
        loop = asyncio.get_running_loop()
        batch, since = bytearray(), loop.time()
        try:
            while span.left > len(batch) and (piece := await response.content.readany()):
                piece = piece[: span.left - len(batch)]
                batch += piece
                patience.byte()
                self._arrived(len(piece))
                with patience.holding():
                    for throttle in self._throttles:
                        await throttle.take(len(piece))
                if len(batch) >= _BATCH_BYTES or loop.time() - since > _BATCH_S:
                    await _written(fd, span, batch)
                    batch, since = bytearray(), loop.time()
        finally:
            await _written(fd, span, batch)


async def opened(open_: Callable[[], int]) -> int:
    """A descriptor; whoever is cancelled meanwhile leaves none behind. Raises OSError."""
    opening = asyncio.ensure_future(asyncio.to_thread(open_))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        with suppress(OSError):
            os.close(await opening)
        raise


async def _stopped(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        await cancelled(task)


async def _noting(part: Part, fd: int) -> None:
    """For ever, so that a kill costs two seconds of bytes at most. Raises OSError."""
    noted = part.done_bytes
    while True:
        await asyncio.sleep(_NOTE_S)
        if part.done_bytes != noted:
            noted = part.done_bytes
            await settled(asyncio.to_thread(part.note, fd))


async def _written(fd: int, span: Span, batch: bytearray) -> None:
    """The batch is on its way to the disk, and empty; a descriptor is never closed under a thread that writes."""
    if batch:
        await settled(asyncio.to_thread(write_at, fd, batch, span.at))
        span.at += len(batch)
        batch.clear()


async def _all(lanes: list[asyncio.Task[None]], noting: asyncio.Task[None]) -> None:
    """Return when all lanes have ended. Raises what the first one raises that fails, `noting` among them."""
    left = set(lanes)
    while left:
        done, _ = await asyncio.wait({*left, noting}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        left -= done


def _size(wanted: Wanted, response: ClientResponse) -> tuple[int, bool]:
    """(bytes of the whole file, whether ranges are sent). Raises model.checksum unless it is the published size."""
    said = response.headers.get("Content-Range", "").rpartition("/")[2] if response.status == 206 else None
    text = said if said is not None else response.headers.get("Content-Length", "")
    size = int(text) if text.isdecimal() and len(text) <= _MOST_DIGITS else wanted.size_bytes
    if size is None or response.headers.get("Content-Encoding", "identity") != "identity":
        raise Hal0Error("pull.failed", f"cannot fetch {wanted.name}: the server does not say how large it is")
    if wanted.size_bytes not in (None, size):
        raise Hal0Error(
            "model.checksum",
            f"cannot fetch {wanted.name}: {wanted.size_bytes} bytes are published, and the server has {size}",
        )
    return size, said is not None


def _same(response: ClientResponse, part: Part, span: Span) -> None:
    """Raises Changed unless these are the bytes that were asked for, of the file that was begun."""
    etag = _strong(response)
    other = etag is not None and part.etag is not None and etag != part.etag
    if response.status != 206 or other or not covers(response.headers.get("Content-Range", ""), span, part.size_bytes):
        raise Changed


def _strong(response: ClientResponse) -> str | None:
    etag = response.headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else None


def disk_error(name: str, error: OSError) -> Hal0Error:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    code = "pull.disk_full" if full else "state.write_failed"
    kept = "; what has come is kept" if full else ""
    return Hal0Error(code, f"cannot write {name} into the model store: {error.strerror or error}{kept}")
