"""A request body that was read whole: in memory while it is small, beyond that in an unnamed file."""

import asyncio
import errno
import tempfile
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Final

from hal0.dispatch.rewrite import Splice, apply

MEMORY_LIMIT_BYTES: Final = 1 << 20
QUOTA_BYTES: Final = 2 << 30  # of all bodies on disk together: four of the largest
_PIECE_BYTES: Final = 256 * 1024  # of one read or write: a millisecond of a slow disk


class Spool:
    """Where large bodies wait, QUOTA_BYTES at most. The files have no name: whatever happens, nothing is left behind.

    One thread does all file work in order, so a file is never closed under a write.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._thread = ThreadPoolExecutor(1, "hal0-spool")
        self._held = 0

    async def create(self) -> "SpoolFile":
        def work() -> IO[bytes]:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            return tempfile.TemporaryFile(dir=self._directory, buffering=0)

        return SpoolFile(await asyncio.get_running_loop().run_in_executor(self._thread, work), self._thread, self)

    def hold(self, count: int) -> None:
        """Take room for so many bytes, or, negative, give it back. Raises OSError when there is none."""
        if self._held + count > QUOTA_BYTES:
            raise OSError(errno.EDQUOT, f"the spool holds {self._held} bytes, and {QUOTA_BYTES} at most")
        self._held += count

    async def close(self) -> None:
        """When every file is closed, too."""
        await asyncio.to_thread(self._thread.shutdown)


class SpoolFile:
    """Append, then read by offset."""

    def __init__(self, file: IO[bytes], thread: ThreadPoolExecutor, spool: Spool) -> None:
        self._file = file
        self._thread = thread
        self._spool = spool
        self._size = 0

    async def append(self, data: bytes) -> None:
        """Raises OSError (the disk is full, or the spool)."""
        self._spool.hold(len(data))
        self._size += len(data)

        def work() -> None:
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]

        await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def read(self, at: int, size: int) -> bytes:
        def work() -> bytes:
            self._file.seek(at)
            return self._file.read(size)

        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        """Once."""
        self._spool.hold(-self._size)
        self._thread.submit(self._file.close)


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
