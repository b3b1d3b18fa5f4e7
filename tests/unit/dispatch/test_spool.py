"""Large bodies on a disk that hangs, or forgets."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hal0.dispatch import body
from hal0.dispatch.body import Spool
from hal0.dispatch.keeping import Keeping
from hal0.errors import Hal0Error

MIB = 1 << 20


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Spool]:
    made = Spool(tmp_path / "spool")
    yield made
    await made.close()


async def test_a_disk_that_hangs_is_said_and_keeps_nobody_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path)
    monkeypatch.setattr(body, "_HANGS_S", 0.05)
    monkeypatch.setattr(body, "_CLOSES_S", 0.05)
    answers = threading.Event()
    spool.later(answers.wait)
    keeping = Keeping(spool, 8 * MIB)
    with pytest.raises(Hal0Error, match="did nothing") as caught:
        await keeping.take(bytes(2 * MIB))
    assert caught.value.code == "state.write_failed"
    async with asyncio.timeout(1):
        await spool.close()
    answers.set()


async def test_a_machine_without_another_thread_is_said(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    keeping = Keeping(spool, 8 * MIB)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none_left)
        with pytest.raises(Hal0Error, match="new thread") as caught:
            await keeping.take(bytes(2 * MIB))
    assert caught.value.code == "state.write_failed"
    await keeping.take(b"x")
    kept = await keeping.body()
    assert kept.size == 2 * MIB + 1
    kept.close()


async def test_a_body_that_is_gone_from_the_disk_ends_what_reads_it(spool: Spool) -> None:
    keeping = Keeping(spool, 8 * MIB)
    await keeping.take(bytes(2 * MIB))
    kept = await keeping.body()
    assert kept._file is not None
    kept._file._file.truncate(MIB)
    with pytest.raises(Hal0Error, match="ends too early"):
        async for _ in kept.pieces():
            pass
    kept.close()


async def test_whoever_fills_it_leaves_the_largest_body_of_another_its_room(spool: Spool) -> None:
    largest = 512 * MIB
    for _ in range(3):
        spool.hold(largest, "one")
    with pytest.raises(OSError, match=f"{3 * largest} of them yours"):
        spool.hold(1, "one")
    spool.hold(largest // 2, "another")
    spool.hold(-3 * largest, "one")
    spool.hold(largest, None)
    for caller, held in (("another", largest // 2), (None, largest)):
        spool.hold(-held, caller)
    assert not spool._held
