"""Which tags FLM knows: asked once per image, and not forgotten."""

import asyncio
from pathlib import Path

import pytest

from hal0.errors import Hal0Error
from hal0.models.registry import Registry
from hal0.models.tags import Tag
from hal0.providers.flm_book import TagBook
from hal0.providers.flm_tags import parse
from tests.fakes.engine import FlakyEngine
from tests.fakes.flm import listing
from tests.fakes.memory_engine import FAKE_IMAGE
from tests.fakes.program import Program
from tests.vloop import virtual_time

LIST = listing({"name": "qwen3:4b", "folder": "Qwen3-4B-NPU2"})


class Images:
    here: str | None = FAKE_IMAGE.id

    async def local(self, key: str) -> str | None:
        return self.here if key == "flm" else None


class Desk:
    """A book, and what it told."""

    def __init__(self, folder: Path) -> None:
        self.engine, self.images, self.told = FlakyEngine(), Images(), list[tuple[Tag, ...]]()
        self.file = folder / "flm.json"
        self.book = self.opened()

    def opened(self) -> TagBook:
        return TagBook(self.engine, self.images, self.file, self.told.append, instance="i")

    def says(self, text: str) -> None:
        self.engine.plan(
            Program(first_words=tuple(text.splitlines()), speaks_on="stdout", dies_after_s=0.1, exit_code=0)
        )

    @property
    def asked(self) -> int:
        return len(self.engine.called("create"))


@virtual_time
async def test_an_image_is_asked_once_and_its_answer_outlives_hal0(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.says(LIST)
    await desk.book.look()
    await desk.book.look()
    assert [[tag.name for tag in tags] for tags in desk.told] == [["qwen3:4b"]]
    again = desk.opened()
    await asyncio.to_thread(again.recall)
    await again.look()
    assert (desk.asked, len(desk.told)) == (1, 2)


@virtual_time
async def test_without_an_image_nobody_is_asked_and_another_one_is_asked_anew(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.images.here = None
    await desk.book.look()
    assert desk.asked == 0
    desk.images.here = FAKE_IMAGE.id
    desk.says("it broke")
    with pytest.raises(Hal0Error, match="cannot read FLM's list of models: 'it broke'"):
        await desk.book.look()
    await desk.book.look()  # the same image will not tell anything else
    assert (desk.asked, desk.told) == (1, [])


@virtual_time
async def test_an_image_is_asked_again_when_podman_could_not_ask_it(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.engine.fail("create", Hal0Error("engine.unreachable", "cannot reach podman"))
    with pytest.raises(Hal0Error, match="cannot reach podman"):
        await desk.book.look()
    desk.says(LIST)
    await desk.book.look()
    assert [[tag.name for tag in tags] for tags in desk.told] == [["qwen3:4b"]]


def test_a_damaged_record_is_nothing(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    odd = '{"schema": 1, "image": "x", "printed": "{\\"models\\": [1]}"}'
    for text in ("", "{", "[]", '{"schema": 1, "image": "x", "printed": "?"}', odd, '{"schema": 9}'):
        desk.file.write_text(text)
        desk.book.recall()
    assert desk.told == []


def test_the_registry_knows_a_tag_by_its_own_spelling(tmp_path: Path) -> None:
    folder = tmp_path / "models/Qwen3-4B-NPU2"
    folder.mkdir(parents=True)
    registry = Registry(tmp_path / "models", (), tmp_path / "registry.toml")
    registry.scan()
    before = registry.version
    registry.know_tags(parse(LIST))
    assert registry.version > before
    with pytest.raises(Hal0Error, match=r"'qwen3:4b': it is not downloaded \(4\.0 GB\)") as caught:
        registry.require("qwen3:4b")
    assert caught.value.code == "model.not_downloaded"
    for name in ("config.json", "model.q4nx", "tokenizer.json"):
        (folder / name).write_bytes(b"x")
    registry.scan()
    assert registry.require("qwen3:4b").id == "qwen3:4b"
    assert registry.fold("qwen3:4b") == "qwen3:4b"
    assert "qwen3:4b" in [entry.id for entry in registry.entries()]
