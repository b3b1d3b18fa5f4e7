"""Take a model off the disk: the files of hal0's own store, never those of other programs. Blocking."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from hal0.errors import Hal0Error
from hal0.lib.atomic import fsync_dir
from hal0.models.entry import ModelEntry


def remove(entry: ModelEntry, store: Path, others: Iterable[ModelEntry]) -> None:
    """A projector goes with the last model that sees through it. Raises model.read_only, state.write_failed."""
    where = entry.directory or entry.files[0]
    if not all(
        path.is_relative_to(store) for path in entry.files
    ) or where.resolve() != store.resolve() / where.relative_to(store):
        raise Hal0Error(
            "model.read_only",
            f"cannot delete {entry.id}: {where} is not in hal0's own store {store}",
            details={"model": entry.id, "file": str(where)},
        )
    try:
        if entry.directory is not None:
            shutil.rmtree(entry.directory)
        else:
            _unlink(entry, others)
        _tidy(where.parent, store)
    except OSError as e:
        raise Hal0Error("state.write_failed", f"cannot delete {where}: {e.strerror or e}") from e


def _unlink(entry: ModelEntry, others: Iterable[ModelEntry]) -> None:
    eye = entry.mmproj
    for path in entry.files:
        path.unlink(missing_ok=True)
    if eye is not None and eye.parent == entry.files[0].parent and all(other.mmproj != eye for other in others):
        eye.unlink(missing_ok=True)


def _tidy(folder: Path, store: Path) -> None:
    """Folders that were made for the model and are empty now."""
    while folder != store and folder.is_relative_to(store) and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
    fsync_dir(folder)
