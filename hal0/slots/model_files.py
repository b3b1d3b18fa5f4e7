"""The files of models, looked at where they are: on a disk that may sleep, or on a share that may hang."""

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from hal0.errors import Hal0Error
from hal0.lib.aside import Aside
from hal0.providers.base import Launch, Provider
from hal0.slots.plan import Model
from hal0.slots.reader import paths_of, reader_of, refuse_closed

T = TypeVar("T")

_LOOK_S: Final = 30.0  # a disk that sleeps takes ten seconds to turn


class ModelFiles:
    """Each model is looked at for itself: the share that one is on may hang, and the others' not."""

    def __init__(self) -> None:
        self._looks: dict[str, Aside[[Callable[[Path], Any], Sequence[Path]], list[Any]]] = {}

    async def missing(self, model: Model) -> Path | None:
        """A file of the model that is not there. Raises as `changes`."""
        return next((file for file, at in zip(model.files, await self.changes(model), strict=True) if at is None), None)

    async def changes(self, model: Model) -> list[float | None]:
        """When each file has changed last (seconds since the epoch), None where it is not there.

        Raises slot.deadline where their filesystem does not answer.
        """
        return await self._look(model.id, _changed_at, model.files)

    async def reader(self, launch: Launch, provider: Provider) -> int | None:
        """As whom the engine has to run to read them all (`reader_of`); None: as its image says.

        Raises as `changes`, and slot.load_failed where nobody can.
        """
        if provider.user is None:
            return None
        files = launch.files if launch.mmproj is None else (*launch.files, launch.mmproj)
        paths = tuple(dict.fromkeys(paths_of(files, provider.mounts(launch))))
        if os.geteuid() != 0:  # podman has no more rights than hal0, and whoever works inside is hal0's own user
            closed = await self._look(launch.model, _closed, paths)
            refuse_closed(launch.model, [place for place in closed if place is not None])
            return provider.user
        found = zip(paths, await self._look(launch.model, _status, paths), strict=True)
        return reader_of(launch.model, provider.user, {path: status for path, status in found if status is not None})

    async def _look(self, model_id: str, at: Callable[[Path], T], paths: Sequence[Path]) -> list[T]:
        look = self._looks.setdefault(model_id, Aside(_looked))
        found = await look.within(_LOOK_S, at, paths)
        if found is None:
            raise Hal0Error("slot.deadline", f"cannot load {model_id}: the filesystem of its files does not answer")
        return found


def _looked(at: Callable[[Path], T], paths: Sequence[Path]) -> list[T]:
    return [at(path) for path in paths]


def _closed(path: Path) -> Path | None:
    """What keeps hal0's user from reading it: itself or a folder above. None where it is not there, too."""
    for place in (*reversed(path.parents), path):
        try:
            folder = stat.S_ISDIR(place.stat().st_mode)
        except PermissionError:  # a link into a closed folder
            return place
        except OSError:
            return None
        wanted = (os.X_OK if folder else 0) | (os.R_OK if place == path else 0)
        if not os.access(place, wanted):
            return place
    return None


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _changed_at(file: Path) -> float | None:
    """What was copied with an old date, or renamed, has changed now."""
    found = _status(file)
    return found.st_ctime if found is not None and stat.S_ISREG(found.st_mode) else None
