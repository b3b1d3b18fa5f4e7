"""Pictures under an address: kept, found by their whole name alone, and let go of in time."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hal0.dispatch import body, gallery
from hal0.dispatch.body import Spool
from hal0.dispatch.gallery import Gallery, Picture
from hal0.errors import Hal0Error
from tests.vloop import until

RED = Picture(b"red" * 10, "image/png")


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Spool]:
    made = Spool(tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def kept(spool: Spool) -> AsyncIterator[Gallery]:
    made = Gallery(spool)
    yield made
    made.close()


async def found(kept: Gallery, name: str) -> bool:
    try:
        return await kept.get(name) == RED
    except Hal0Error as error:
        return error.code != "request.not_found"


async def test_a_picture_is_found_by_its_name_alone_and_has_none_on_disk(kept: Gallery, tmp_path: Path) -> None:
    name, other = await kept.keep(RED), await kept.keep(RED)
    assert name != other
    assert len(name) >= 43
    assert await found(kept, name)
    assert not await found(kept, name[:-1])
    assert await asyncio.to_thread(os.listdir, tmp_path) == []


async def test_it_expires(kept: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "LIFETIME_S", 0.0)
    name = await kept.keep(RED)
    for _ in range(3):
        await asyncio.sleep(0)
    assert not await found(kept, name)


@pytest.mark.parametrize(("limit", "most"), [("MAX_PICTURES", 2), ("MAX_BYTES", 60)])
async def test_the_oldest_makes_room(kept: Gallery, monkeypatch: pytest.MonkeyPatch, limit: str, most: int) -> None:
    monkeypatch.setattr(gallery, limit, most)
    names = [await kept.keep(RED) for _ in range(3)]
    assert [await found(kept, name) for name in names] == [False, True, True]


async def test_a_client_that_leaves_while_it_is_written_leaves_no_share_behind(kept: Gallery, spool: Spool) -> None:
    writing = asyncio.create_task(kept.keep(Picture(bytes(1 << 20), "image/png")))
    await until(lambda: spool._held, within_s=5, every_s=0)
    writing.cancel()
    await asyncio.wait([writing])
    assert not spool._held


async def test_a_full_disk_is_said(kept: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "QUOTA_BYTES", 0)
    with pytest.raises(Hal0Error) as caught:
        await kept.keep(RED)
    assert caught.value.code == "state.write_failed"
