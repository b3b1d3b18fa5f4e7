"""Notice that somebody saved a configuration file."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from hal0.config.load import config_files
from hal0.paths import Paths

# A saved file is in force within two seconds: one to notice, the rest to apply.
POLL_S: Final = 1.0

Fingerprint = tuple[tuple[str, int, int, int], ...]


def fingerprint(paths: Paths) -> Fingerprint:
    """(path, inode, size, mtime in ns) of every configuration file that is there. Blocking."""
    seen = []
    for file in config_files(paths):
        try:
            status = file.stat()
        except OSError:
            continue
        seen.append((str(file), status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(seen)


async def changes(
    paths: Paths, *, since: Fingerprint | None = None, poll_s: float = POLL_S
) -> AsyncGenerator[None, None]:
    """Yields after each change, endlessly; several within one poll are one. Starts from `since`, else from now.

    A handful of `stat` calls per poll, on a worker thread: the directory may be on a disk that is asleep.
    """
    known = await asyncio.to_thread(fingerprint, paths) if since is None else since
    while True:
        await asyncio.sleep(poll_s)
        current = await asyncio.to_thread(fingerprint, paths)
        if current != known:
            known = current
            yield
