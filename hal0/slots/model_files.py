"""The files of models, looked at where they are: on a disk that may sleep, or on a share that may hang."""

import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hal0.errors import Hal0Error
from hal0.lib.aside import Aside
from hal0.slots.plan import Model

_LOOK_S: Final = 30.0  # a disk that sleeps takes ten seconds to turn


class ModelFiles:
    """Each model is looked at for itself: the share that one is on may hang, and the others' not."""

    def __init__(self) -> None:
        self._looks: dict[str, Aside[[Sequence[Path]], list[float | None]]] = {}

    async def missing(self, model: Model) -> Path | None:
        """A file of the model that is not there. Raises as `changes`."""
        return next((file for file, at in zip(model.files, await self.changes(model), strict=True) if at is None), None)

    async def changes(self, model: Model) -> list[float | None]:
        """When each file has changed last (seconds since the epoch), None where it is not there.

        Raises slot.deadline where their filesystem does not answer.
        """
        look = self._looks.setdefault(model.id, Aside(_changes_of))
        found = await look.within(_LOOK_S, model.files)
        if found is None:
            raise Hal0Error("slot.deadline", f"cannot load {model.id}: the filesystem of its files does not answer")
        return found


def _changes_of(files: Sequence[Path]) -> list[float | None]:
    return [_changed_at(file) for file in files]


def _changed_at(file: Path) -> float | None:
    """What was copied with an old date, or renamed, has changed now."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ctime if stat.S_ISREG(found.st_mode) else None
