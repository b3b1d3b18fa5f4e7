"""As whom an engine runs, by the permissions of its model's files."""

import errno
import os
import shlex
import stat
from pathlib import Path

import pytest

from hal0.config.slots import SlotConfig
from hal0.engine.base import Mount
from hal0.errors import Hal0Error
from hal0.providers.base import NOBODY, Launch
from hal0.providers.catalog import PROVIDERS
from hal0.slots.model_files import ModelFiles
from hal0.slots.plan import launch_of
from hal0.slots.reader import UNREADABLE, paths_of, reader_of
from hal0.vocab import Device, ProviderName, SlotName
from tests.fakes.engine import FakeEngine
from tests.fakes.provider import FakeHealth
from tests.fakes.world import FakeModel, World
from tests.vloop import virtual_time

GGUF = Path("/store/m.gguf")
FOLDER = Path("/store/m")


def status(mode: int, uid: int) -> os.stat_result:
    return os.stat_result((mode, 0, 0, 1, uid, uid, 0, 0, 0, 0))


def file(mode: int, uid: int = 0) -> os.stat_result:
    return status(stat.S_IFREG | mode, uid)


def folder(mode: int, uid: int = 0) -> os.stat_result:
    return status(stat.S_IFDIR | mode, uid)


@pytest.mark.parametrize(
    ("found", "reader"),
    [
        ([file(0o644)], NOBODY),
        ([file(0o444, 1000), folder(0o755, 1000)], NOBODY),
        ([file(0o600, 1000)], 1000),
        ([file(0o640, 1000), file(0o644)], 1000),
        ([file(0o600)], 0),
        ([file(0o644), folder(0o700, 1000)], 1000),
        ([folder(0o754, 1000)], 1000),  # its names may be read, its files not
        ([], NOBODY),
    ],
)
def test_nobody_reads_what_is_open_and_its_owner_what_is_not(found: list[os.stat_result], reader: int) -> None:
    assert reader_of("m", NOBODY, {Path(f"/store/{n}"): status for n, status in enumerate(found)}) == reader


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ([file(0o200, 1000)], "not even its owner"),
        ([file(0o600, 1000), file(0o600, 1001)], "owners only, who differ"),
        ([file(0o600, 0), folder(0o700, 1000)], "owners only, who differ"),
    ],
)
def test_what_no_single_user_can_read_is_said_with_its_name(found: list[os.stat_result], why: str) -> None:
    with pytest.raises(Hal0Error, match=why) as told:
        reader_of("m", NOBODY, {Path(f"/store/{n}"): status for n, status in enumerate(found)})
    last = f"/store/{len(found) - 1}"
    assert told.value.code == "slot.load_failed"
    assert told.value.details[UNREADABLE] == last


async def test_without_root_hal0s_own_user_has_to_read_it_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed, opened = tmp_path / "of somebody.gguf", tmp_path / "m.gguf"
    for path in (closed, opened):
        path.touch()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "access", lambda path, _mode: path != closed)
    provider = PROVIDERS[ProviderName.LLAMACPP]
    files = ModelFiles()
    assert await files.reader(launch(opened, tmp_path / "not there.gguf"), provider) == NOBODY
    with pytest.raises(Hal0Error, match="hal0's own user may not read it, and without root nobody else can") as told:
        await files.reader(launch(opened, closed), provider)
    assert told.value.code == "slot.load_failed"
    assert shlex.split(told.value.message.rpartition("; run: ")[2]) == ["chmod", "a+rX", str(closed)]


async def test_without_root_a_folder_that_is_closed_above_a_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel does not even tell what is in it."""
    folder, link = tmp_path / "closed", tmp_path / "link.gguf"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "access", lambda path, _mode: path != folder)
    stat_of = Path.stat

    def looked(path: Path, **how: bool) -> os.stat_result:
        if folder in path.parents or path == link:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat_of(path, **how)

    monkeypatch.setattr(Path, "stat", looked)
    folder.mkdir()
    for file, named in ((folder / "m.gguf", folder), (link, link)):
        with pytest.raises(Hal0Error, match="hal0's own user may not read it") as told:
            await ModelFiles().reader(launch(file), PROVIDERS[ProviderName.LLAMACPP])
        assert told.value.details[UNREADABLE] == str(named)


def launch(*files: Path) -> Launch:
    model = FakeModel("m", files)
    return launch_of(SlotName("primary"), SlotConfig(), model, PROVIDERS[ProviderName.LLAMACPP], Device.CPU)


def test_the_line_that_helps_can_be_run_as_it_stands() -> None:
    with pytest.raises(Hal0Error) as told:
        reader_of("m", NOBODY, {Path("/store/Anna's voice.gguf"): file(0o200, 1000)})
    line = told.value.message.rpartition("; run: ")[2]
    assert shlex.split(line) == ["chmod", "a+rX", "/store/Anna's voice.gguf"]


def test_folders_count_where_they_are_mounted() -> None:
    """Those above a file that is mounted by itself are never walked inside."""
    assert set(paths_of([GGUF], [Mount(GGUF, "/models/m.gguf")])) == {GGUF}
    nested = FOLDER / "voices" / "anna.wav"
    assert set(paths_of([nested], [Mount(FOLDER, "/models/m")])) == {FOLDER, FOLDER / "voices", nested}


@virtual_time
async def test_each_start_looks_anew_who_may_read(
    tmp_path: Path, port_block: range, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeHealth, "user", NOBODY)
    world = World(tmp_path, port_block, FakeEngine())
    model = world.models.known["one"].files[0]
    async with world.hal0() as hal0:
        await hal0.load()
        model.chmod(0o600)
        readers = [world.engine.running[0].spec.user]
        assert hal0.primary.view().stale is None
        await hal0.done(await hal0.supervisor.restart("primary"))
        assert [*readers, world.engine.running[0].spec.user] == [NOBODY, model.stat().st_uid]
        model.chmod(0o200)
        job = await hal0.done(await hal0.supervisor.restart("primary"))
        assert job.error is not None
        assert job.error["message"].endswith(f"not even its owner may read it; run: chmod a+rX {model}")
        assert hal0.primary.view().message.endswith(f"; run: chmod a+rX {model}")
