"""Saved files are noticed."""

import asyncio
from pathlib import Path

import pytest

from hal0.config.watch import Fingerprint, changes, fingerprint
from hal0.paths import Paths, resolve
from tests.vloop import until

DEADLINE_S = 30


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    found = resolve({"HAL0_HOME": str(tmp_path)})
    found.slots_config_dir.mkdir(parents=True)
    found.config_file.write_text("a")
    return found


def touch_config(paths: Paths) -> None:
    paths.config_file.write_text("longer")


def add_slot(paths: Paths) -> None:
    (paths.slots_config_dir / "x.toml").write_text("")


def replace_same_size(paths: Paths) -> None:
    fresh = paths.config_dir / "new"
    fresh.write_text("b")
    fresh.replace(paths.config_file)


def remove_config(paths: Paths) -> None:
    paths.config_file.unlink()


@pytest.mark.parametrize("save", [touch_config, add_slot, replace_same_size, remove_config])
async def test_every_way_of_saving_is_noticed(paths: Paths, save: object) -> None:
    assert callable(save)
    before = await asyncio.to_thread(fingerprint, paths)
    await asyncio.to_thread(save, paths)
    async with asyncio.timeout(DEADLINE_S):
        await anext(changes(paths, since=before, poll_s=0.01))


async def test_files_that_are_not_configuration_are_not(paths: Paths) -> None:
    before = await asyncio.to_thread(fingerprint, paths)
    for name in ("x.toml~", ".x.toml.tmp", "README"):
        await asyncio.to_thread((paths.slots_config_dir / name).write_text, "")
    assert await asyncio.to_thread(fingerprint, paths) == before


async def test_watching_starts_from_what_is_there(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Fingerprint] = []

    def counted(where: Paths) -> Fingerprint:
        looks.append(fingerprint(where))
        return looks[-1]

    monkeypatch.setattr("hal0.config.watch.fingerprint", counted)
    watch = changes(paths, poll_s=0.01)
    waiting = asyncio.ensure_future(anext(watch))
    await until(lambda: len(looks) > 3, within_s=DEADLINE_S)
    assert not waiting.done()
    await asyncio.to_thread(touch_config, paths)
    async with asyncio.timeout(DEADLINE_S):
        await waiting
    await watch.aclose()
