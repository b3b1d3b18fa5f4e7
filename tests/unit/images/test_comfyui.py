"""The start of ComfyUI inside its image: old pictures go, what may still be fetched stays."""

import os
from pathlib import Path

import pytest

import hal0_comfyui as start

NOW = 1_000_000.0


def write(root: Path, name: str, age_s: float, size: int = 1) -> None:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"x" * size)
    os.utime(file, (NOW - age_s, NOW - age_s))


def left(root: Path) -> set[str]:
    return {file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file()}


def test_what_is_old_goes(tmp_path: Path) -> None:
    write(tmp_path, "output/hal0/old.png", start.LIFETIME_S + 1)
    write(tmp_path, "input/old.png", start.LIFETIME_S + 1)
    write(tmp_path, "output/hal0/new.png", start.LIFETIME_S - 1)
    write(tmp_path, "user/settings", start.LIFETIME_S + 1)
    start.sweep(tmp_path, NOW)
    assert left(tmp_path) == {"output/hal0/new.png", "user/settings"}


def test_beyond_the_room_there_is_the_oldest_go_first_but_never_the_youngest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "MOST_BYTES", 25)
    for age_s in (5, 10, 100, 200, 300):
        write(tmp_path, f"output/{age_s}.png", age_s, size=10)
    start.sweep(tmp_path, NOW)
    assert left(tmp_path) == {"output/5.png", "output/10.png"}


def test_what_cannot_be_removed_keeps_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, age_s in (("stuck", 9000), ("old", 8000)):
        write(tmp_path, f"output/{name}.png", age_s)
    unlink = Path.unlink

    def refusing(file: Path, missing_ok: bool = False) -> None:
        if file.stem == "stuck":
            raise PermissionError(1, "no", str(file))
        unlink(file, missing_ok)

    monkeypatch.setattr(Path, "unlink", refusing)
    start.sweep(tmp_path, NOW)
    assert left(tmp_path) == {"output/stuck.png"}


def test_an_empty_place_is_no_failure(tmp_path: Path) -> None:
    start.sweep(tmp_path, NOW)
    assert left(tmp_path) == set()
