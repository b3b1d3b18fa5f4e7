"""Blocks of TCP ports that belong to one test at a time, across all test runs of this machine."""

import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

PORTS: Final = range(20_000, 32_000)  # below the kernel's own range for outgoing connections
BLOCK: Final = 24  # more than the nineteen slots and a few servers that one daemon can need


@contextmanager
def lease_block() -> Iterator[range]:
    """A free block, held by a file lock until the context ends (or the process dies)."""
    directory = Path(tempfile.gettempdir()) / f"hal0-test-ports-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    starts = list(range(PORTS.start, PORTS.stop - BLOCK + 1, BLOCK))
    random.shuffle(starts)
    for start in starts:
        with (directory / str(start)).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            block = range(start, start + BLOCK)
            if all(_free(port) for port in block):
                yield block
                return
    raise AssertionError(f"no block of {BLOCK} free ports in {PORTS}")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
