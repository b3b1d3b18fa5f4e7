"""The configuration in force: files that are read and files that are written take turns."""

import asyncio
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hal0.config import custom
from hal0.config.live import LiveConfig
from hal0.config.load import load
from hal0.config.root import RootConfig
from hal0.errors import Hal0Error
from hal0.paths import Paths, resolve


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    found = resolve({"HAL0_HOME": str(tmp_path)})
    found.config_dir.mkdir()
    found.config_file.write_text("[server]\nport = 8080\n")
    return found


async def started(
    paths: Paths, environ: Mapping[str, str] | None = None, overrides: Mapping[str, Any] | None = None
) -> LiveConfig:
    loaded = await asyncio.to_thread(load, paths, environ, overrides)
    return LiveConfig(paths, loaded, environ or {}, overrides or {})


class Applied:
    """Applies slowly, and fails the test when two configurations are applied at once."""

    def __init__(self) -> None:
        self.roots: list[RootConfig] = []
        self._under_way = False

    async def __call__(self, root: RootConfig) -> None:
        assert not self._under_way
        self._under_way = True
        for _ in range(20):
            await asyncio.sleep(0)
        self._under_way = False
        self.roots.append(root)


async def test_edits_and_rereads_take_turns_and_each_change_is_applied_once(paths: Paths) -> None:
    live, applied = await started(paths), Applied()
    names = [f"slot{number}" for number in range(8)]
    edits = [live.edit(functools.partial(custom.add, name=name, fields={}), applied) for name in names]
    await asyncio.gather(*edits, *(live.reread(applied) for _ in range(8)))
    assert len(applied.roots) == len(names)
    assert set(names) < set(live.root.slots)
    deletions = [live.edit(functools.partial(custom.take_away, name=name), applied) for name in names]
    await asyncio.gather(*deletions, *(live.reread(applied) for _ in range(8)))
    assert not set(names) & set(live.root.slots)
    assert len(applied.roots) == 2 * len(names)


async def test_an_edit_that_is_refused_leaves_what_is_in_force(paths: Paths) -> None:
    live, applied = await started(paths), Applied()
    with pytest.raises(Hal0Error, match=r"priority.*at most 100"):
        await live.edit(functools.partial(custom.add, name="x", fields={"priority": 101}), applied)
    assert (applied.roots, live.problem) == ([], None)


async def test_the_command_lines_values_stay_in_force_after_an_edit(paths: Paths) -> None:
    live = await started(paths, overrides={"server.port": 9000})
    await live.edit(functools.partial(custom.add, name="x", fields={}), Applied())
    assert live.root.server.port == 9000
    assert "x" in live.root.slots


async def test_a_slot_that_the_environment_makes_cannot_be_deleted_in_the_files(paths: Paths) -> None:
    live = await started(paths, {"HAL0_SLOTS__X__PRIORITY": "3"})
    with pytest.raises(Hal0Error, match="also set outside the files") as caught:
        await live.edit(functools.partial(custom.take_away, name="x"), Applied())
    assert caught.value.code == "config.conflict"
    assert "HAL0_SLOTS__X__" in caught.value.hint
