"""A file of a driver that hangs: whoever reads it waits, until the driver answers."""

import os
from pathlib import Path

from tests.vloop import until


class HangingFile:
    """In the place of `path`, from now on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader: int | None = None
        path.unlink(missing_ok=True)
        os.mkfifo(path)

    async def is_being_read(self) -> None:
        """Wait until somebody waits for it: a thread may be late on a busy machine."""
        self._reader = await until(self._reached, within_s=10)

    def _reached(self) -> int | None:
        """Nobody can open a pipe for writing, without waiting, before somebody else has it open for reading."""
        try:
            return os.open(self._path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return None

    def answer(self, text: str) -> None:
        """Who waits is answered, and who reads it later, too. After `is_being_read`."""
        assert self._reader is not None
        self._path.unlink()
        self._path.write_text(text)
        os.write(self._reader, text.encode())
        os.close(self._reader)
