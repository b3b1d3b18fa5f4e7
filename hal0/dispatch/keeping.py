"""Keeps a body while it arrives: in memory while it is small, beyond that in the spool."""

from hal0.dispatch.body import MEMORY_LIMIT_BYTES, Body, Share, Spool, SpoolFile
from hal0.errors import Hal0Error


class Keeping:
    """`take` the pieces, then `body()`, which owns them from then on; `close()` in any case."""

    def __init__(self, spool: Spool | Share, limit: int) -> None:
        self._spool = spool
        self._limit = limit
        self._pending = bytearray()  # in memory; moved to the file whenever it passes the limit
        self._file: SpoolFile | None = None
        self._size = 0

    async def take(self, piece: bytes) -> None:
        """Raises request.too_large or state.write_failed."""
        self._size += len(piece)
        if self._size > self._limit:
            raise too_large(self._limit, None)
        self._pending += piece
        if len(self._pending) > MEMORY_LIMIT_BYTES:
            await self._write()

    async def body(self, boundary: bytes = b"") -> Body:
        """All of it; `boundary` makes it a form. Raises state.write_failed."""
        if self._file is None:
            return Body(bytes(self._pending), boundary=boundary)
        await self._write()
        file, self._file = self._file, None
        return Body(b"", file, self._size, boundary)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    async def _write(self) -> None:
        try:
            self._file = self._file or await self._spool.create()
            await self._file.append(bytes(self._pending))
        except OSError as error:
            raise Hal0Error("state.write_failed", f"cannot keep a large body on disk: {error}") from error
        self._pending.clear()


def too_large(limit: int, size: int | None) -> Hal0Error:
    """`size` is what the client said beforehand, None when it was found out."""
    said = "it is larger than" if size is None else f"{size} bytes are more than"
    return Hal0Error(
        "request.too_large",
        f"cannot take the body: {said} the limit of {limit} bytes",
        details={"limit_bytes": limit},
    )
