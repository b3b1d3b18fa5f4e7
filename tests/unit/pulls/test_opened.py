"""Descriptors of downloads: whoever is cancelled while a file is being opened leaves none behind."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

from hal0.pulls.transfer import opened


async def test_a_descriptor_that_comes_too_late_is_closed(tmp_path: Path) -> None:
    begun, go_on, made = threading.Event(), threading.Event(), []

    def slow() -> int:
        begun.set()
        go_on.wait(10)
        made.append(os.open(tmp_path, os.O_RDONLY))
        return made[0]

    opening = asyncio.create_task(opened(slow))
    await asyncio.to_thread(begun.wait, 10)
    opening.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await opening
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(made[0])
