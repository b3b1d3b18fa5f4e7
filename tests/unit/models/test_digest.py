"""A file's digest: the right one, and nobody who gives up waits for a disk that hangs."""

import asyncio
import hashlib
from pathlib import Path

from hal0.models.digest import sha256_of
from tests.fakes.hanging_file import HangingFile


async def test_it_is_the_files_own_and_tells_how_far_it_is(tmp_path: Path) -> None:
    path, content, told = tmp_path / "f", bytes(range(256)) * 40_000, list[int]()  # more than one piece
    await asyncio.to_thread(path.write_bytes, content)
    assert await sha256_of(path, told.append) == hashlib.sha256(content).hexdigest()
    assert sum(told) == len(content)
    assert len(told) == 2


async def test_who_gives_up_waits_for_no_disk(tmp_path: Path) -> None:
    hangs = HangingFile(tmp_path / "model")
    reading = asyncio.create_task(sha256_of(tmp_path / "model"))
    await hangs.is_being_read()
    try:
        reading.cancel()
        assert await asyncio.wait({reading}, timeout=5) == ({reading}, set())
    finally:
        hangs.answer("")  # lets the thread end
