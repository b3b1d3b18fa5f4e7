"""Take a model off the disk: the files of hal0's own store, never those of other programs. Blocking."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from hal0.errors import Hal0Error
from hal0.lib.atomic import fsync_dir
from hal0.models.entry import ModelEntry


def remove(entry: ModelEntry, store: Path, others: Iterable[ModelEntry]) -> int:
    """The bytes that are free now. What models share goes with the last one of them, and stays where it is another
    program's. Raises model.read_only, state.write_failed."""
    where = entry.directory or entry.files[0]
    if not _own(where, store):
        raise Hal0Error(
            "model.read_only",
            f"cannot delete {entry.id}: {where} is not in hal0's own store {store}",
            details={"model": entry.id, "file": str(where)},
        )
    try:
        if entry.directory is not None:
            shutil.rmtree(entry.directory)
            _tidy(where.parent, store)
            return entry.size_bytes
        return _unlink(entry, store, others)
    except OSError as e:
        raise Hal0Error("state.write_failed", f"cannot delete {where}: {e.strerror or e}") from e


def _own(path: Path, store: Path) -> bool:
    """It lies in the store, and not behind a link that leads elsewhere."""
    return path.is_relative_to(store) and path.resolve() == store.resolve() / path.relative_to(store)


def _unlink(entry: ModelEntry, store: Path, others: Iterable[ModelEntry]) -> int:
    shared = {path for other in others for path in (*other.files, other.mmproj)}
    paths = entry.files if entry.mmproj is None else (*entry.files, entry.mmproj)
    freed = 0
    for path in paths:
        if path not in shared and _own(path, store):
            freed += path.stat().st_size if path.stat().st_nlink == 1 else 0  # another program's link keeps it
            path.unlink()
            _tidy(path.parent, store)
    return freed


def _tidy(folder: Path, store: Path) -> None:
    """Folders that were made for the model and are empty now."""
    while folder != store and folder.is_relative_to(store) and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
    fsync_dir(folder)
