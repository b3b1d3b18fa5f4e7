"""A request body that was read whole: in memory while it is small, beyond that in an unnamed file."""

import asyncio
import errno
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Final, NamedTuple, TypeVar

from hal0.dispatch.rewrite import Splice, apply
from hal0.errors import Hal0Error
from hal0.lib.aside import OneThread

MEMORY_LIMIT_BYTES: Final = 1 << 20
QUOTA_BYTES: Final = 2 << 30  # of all bodies on disk together: four of the largest
_GREED: Final = 3  # times what is left is what one caller may have: the largest body of another always finds room
_PIECE_BYTES: Final = 256 * 1024  # of one read or write: a millisecond of a slow disk
_HANGS_S: Final = 30.0  # a disk that takes so long for one of these
_CLOSES_S: Final = 2.0  # nobody waits longer for the last of them when hal0 ends

T = TypeVar("T")


class Spool:
    """Where large bodies wait, QUOTA_BYTES at most. The files have no name: whatever happens, nothing is left behind.

    One thread does all file work in order, so a file is never closed under a write. Nobody can fill it: who has much
    leaves others a share, however slowly his bodies come.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._thread = OneThread("hal0-spool")
        self._held: Counter[str | None] = Counter()  # bytes of each caller

    def of(self, caller: str | None) -> "Share":
        """As it is for this caller, named by the proof of who it is; None: anybody without one."""
        return Share(self, caller)

    async def create(self, caller: str | None = None) -> "SpoolFile":
        """Raises OSError, as all that waits for the disk."""

        def work() -> IO[bytes]:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            return tempfile.TemporaryFile(dir=self._directory, buffering=0)

        return SpoolFile(await self.done(work, _HANGS_S), self, caller)

    def hold(self, count: int, caller: str | None = None) -> None:
        """Take room for so many bytes, or, negative, give it back. Raises OSError when there is none."""
        mine, held = self._held[caller] + count, self._held.total() + count
        if count > 0 and mine > _GREED * (QUOTA_BYTES - held):
            why = f"the spool holds {held - count} bytes, {mine - count} of them yours, and {QUOTA_BYTES} at most"
            raise OSError(errno.EDQUOT, why)
        self._held[caller] = mine
        if not mine:
            del self._held[caller]

    async def done(self, work: Callable[[], T], within_s: float) -> T:
        """What it gives, in its turn. Raises OSError: a disk that hangs, or a machine without another thread, too."""
        try:
            async with asyncio.timeout(within_s):
                return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except TimeoutError:
            raise OSError(errno.ETIMEDOUT, f"the disk did nothing for {within_s:g} s") from None
        except RuntimeError as error:
            raise OSError(errno.EAGAIN, str(error)) from error

    def later(self, work: Callable[[], object]) -> None:
        """In its turn, and nobody waits for it."""
        self._thread.submit(work)

    async def close(self) -> None:
        """When every file is closed, too."""
        with suppress(OSError):
            await self.done(lambda: None, _CLOSES_S)
        self._thread.shutdown()


class Share(NamedTuple):
    """The spool for one caller."""

    spool: Spool
    caller: str | None

    async def create(self) -> "SpoolFile":
        """Raises OSError."""
        return await self.spool.create(self.caller)


class SpoolFile:
    """Append, then read by offset."""

    def __init__(self, file: IO[bytes], spool: Spool, caller: str | None) -> None:
        self._file = file
        self._spool = spool
        self._caller = caller
        self._size = 0

    async def append(self, data: bytes) -> None:
        """Raises OSError (the disk is full, or the spool)."""
        self._spool.hold(len(data), self._caller)
        self._size += len(data)

        def work() -> None:
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]

        await self._spool.done(work, _HANGS_S)

    async def read(self, at: int, size: int) -> bytes:
        """At least one byte. Raises state.write_failed: what was written is not there any more."""

        def work() -> bytes:
            self._file.seek(at)
            return self._file.read(size)

        try:
            if piece := await self._spool.done(work, _HANGS_S):
                return piece
            why = "it ends too early"
        except OSError as error:
            why = str(error)
        raise Hal0Error("state.write_failed", f"cannot read a large body back from disk: {why}")

    def close(self) -> None:
        """Once."""
        self._spool.hold(-self._size, self._caller)
        self._spool.later(self._file.close)


class Body:
    """Whole and repeatable: a retry sends the same bytes."""

    def __init__(
        self, data: bytes, file: SpoolFile | None = None, size: int | None = None, boundary: bytes = b""
    ) -> None:
        self.data = data  # everything, or b"" when spooled
        self.size = len(data) if size is None else size
        self.boundary = boundary  # of a form; b"" when it is JSON, or nobody's business
        self._file = file

    @property
    def in_memory(self) -> bool:
        return self._file is None

    async def pieces(self, cuts: tuple[Splice, ...] = ()) -> AsyncIterator[bytes]:
        """The bytes, edited by `cuts`."""
        if self._file is None:
            yield apply(self.data, cuts) if cuts else self.data
            return
        at = 0
        for cut in (*cuts, Splice(self.size, self.size, b"")):
            while at < cut.start:
                piece = await self._file.read(at, min(_PIECE_BYTES, cut.start - at))
                at += len(piece)
                yield piece
            if cut.put:
                yield cut.put
            at = cut.end

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
