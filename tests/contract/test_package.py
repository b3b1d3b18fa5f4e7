"""The wheel: what people get who install hal0 into an environment of their own."""

import stat
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
LIMIT_BYTES: Final = 2 * 2**20  # a third of a megabyte of code today; anything much larger got in by mistake


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=300,
    )
    (built,) = folder.glob("hal0-*.whl")
    return built


def test_it_carries_images_page_licence_and_commands(wheel: Path) -> None:
    assert wheel.stat().st_size < LIMIT_BYTES
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        for folder, packed in (("images", "hal0/_images"), ("web/plain", "hal0/_web")):
            found = (ROOT / folder).rglob("*")
            files = [path for path in found if path.is_file() and path.suffix != ".pyc"]
            assert files
            assert {f"{packed}/{path.relative_to(ROOT / folder)}" for path in files} <= names
        (licence,) = (name for name in names if name.endswith("licenses/LICENSE"))
        assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()
        (entries,) = (name for name in names if name.endswith("entry_points.txt"))
        commands = archive.read(entries).decode()
        assert "hal0 = hal0.__main__:main" in commands
        assert "hal0ctl = hal0.cli.main:main" in commands
        mode = archive.getinfo("hal0/_images/rootfs.sh").external_attr >> 16
        assert mode & stat.S_IXUSR, "the image builder cannot be run"
        assert not [name for name in names if name.startswith("tests/")]


def test_it_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    program = (
        "import hal0; from hal0.api.page import files_root\n"
        "from hal0.engine.manifest import images_root, read_manifest\n"
        "print(hal0.__file__, images_root(), files_root(), *read_manifest(images_root()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    code, images, page, *keys = done.stdout.split()
    assert code.startswith(str(tmp_path))
    assert images == str(tmp_path / "site" / "hal0" / "_images")
    assert page == str(tmp_path / "site" / "hal0" / "_web")
    assert "cpu" in keys
