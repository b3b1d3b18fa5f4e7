"""What models a folder of this machine has, and which of them are hal0's already. Blocking."""

import itertools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from hal0.errors import Hal0Error
from hal0.models.entry import ModelEntry
from hal0.models.registry import Registry
from hal0.models.scan import Scanner
from hal0.wire.models import ModelProblemView
from hal0.wire.pulls import LookedView, LooksView

_MOST: Final = 100_000  # files below a folder of models; a whole disk has more


def look(folder: str, registry: Registry, *, allow_pickle: bool) -> LooksView:
    """Raises request.invalid, model.not_found for what is no folder."""
    path = Path(folder)
    if not path.is_absolute():
        raise Hal0Error("request.invalid", f"cannot look into {folder[:200]!r}: it is no absolute path", param="path")
    try:
        with os.scandir(path):
            pass
    except (OSError, ValueError) as e:
        why = e.strerror if isinstance(e, OSError) else "it is no path"
        raise Hal0Error("model.not_found", f"cannot look into {folder[:200]}: {why}", param="path") from e
    if any(count > _MOST for count in itertools.accumulate(len(here[2]) for here in os.walk(path))):
        message = f"cannot look through {folder[:200]}: it has more than {_MOST} files"
        raise Hal0Error("request.invalid", message, param="path", hint="Name a folder in it that has models.")
    found = Scanner(path, (), allow_pickle=allow_pickle).find({})
    known = {place for entry in registry.entries() for place in _places(entry.files)}
    return LooksView(
        items=[
            LookedView(
                id=entry.id,
                files=[str(it) for it in _named(entry)],
                size_bytes=entry.size_bytes + entry.mmproj_bytes,
                capabilities=sorted(entry.capabilities),
                here=registry.get(entry.id) is not None or not known.isdisjoint(_places(entry.files[:1])),
            )
            for entry in sorted(found.entries.values(), key=lambda it: it.id)
        ],
        problems=[ModelProblemView(file=str(it.path), code=it.code, message=it.message) for it in found.problems],
    )


def _named(entry: ModelEntry) -> list[Path]:
    if entry.directory is not None:
        return [entry.directory]
    return [*entry.files, *([entry.mmproj] if entry.mmproj is not None else [])]


def _places(files: Iterable[Path]) -> Iterable[tuple[int, int]]:
    """The same file under another name, too."""
    for file in files:
        try:
            found = file.stat()
        except OSError:  # it has gone meanwhile
            continue
        yield found.st_dev, found.st_ino
