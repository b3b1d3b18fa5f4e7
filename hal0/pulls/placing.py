"""The last steps of a pull: is every file what was published, is it safe, is it a model; then it is put in place.

Blocking, but for `digest`.
"""

import asyncio
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from hal0.errors import Hal0Error
from hal0.lib.aio import settled
from hal0.lib.atomic import fsync_dir
from hal0.models.content import accept
from hal0.models.entry import ModelEntry
from hal0.models.records import ModelRecord
from hal0.models.scan import Scanner
from hal0.pulls.plan import Place, Plan, PlannedFile

_PIECE_BYTES: Final = 8 << 20
_WHOLE: Final = "Name all files of the model in one pull: hal0ctl model pull FIRST OTHER..."


async def check_digest(path: Path, file: PlannedFile) -> None:
    """Raises model.checksum. Gives way to everything else between two pieces."""
    if file.sha256 is None:
        return
    made, at = hashlib.sha256(), 0

    def more() -> int:
        with path.open("rb") as content:
            content.seek(at)
            piece = content.read(_PIECE_BYTES)
        made.update(piece)
        return len(piece)

    while read := await settled(asyncio.to_thread(more)):
        at += read
    if made.hexdigest() != file.sha256:
        raise Hal0Error(
            "model.checksum",
            f"cannot use {file.name}: it is not what was published (sha256 {made.hexdigest()}, not {file.sha256}); "
            "it was thrown away",
            details={"file": file.name, "sha256": made.hexdigest(), "published": file.sha256},
        )


def stage(part: Path, target: Path, *, allow_pickle: bool) -> None:
    """A file that is whole goes to the others, when it may be used at all. Raises model.*, OSError."""
    named = part.with_suffix(".named") / target.name  # the name is a part of what a file is, and the server's choice
    named.parent.mkdir(exist_ok=True)
    part.rename(named)
    try:
        accept(named, allow_pickle=allow_pickle)
    except Hal0Error:
        named.unlink()
        raise
    target.parent.mkdir(parents=True, exist_ok=True)
    named.chmod(0o644)  # the engines run under other users
    named.rename(target)


def judged(place: Place, plan: Plan, *, allow_pickle: bool) -> ModelEntry:
    """The model that has been staged. Raises model.* when it is none."""
    home = place.staged / plan.model
    names = {home: plan.model, home / plan.files[0].name: plan.model}
    found = Scanner(place.staged, (), allow_pickle=allow_pickle).find(names)
    if found.problems:
        problem = found.problems[0]
        message = problem.message.replace(str(place.staged / plan.model), plan.model)
        raise Hal0Error(problem.code, message, hint=_WHOLE if problem.code == "model.not_downloaded" else None)
    if len(found.entries) != 1:
        message = f"cannot use {plan.model}: its files are not one whole model by themselves"
        raise Hal0Error("model.not_found", message, hint=_WHOLE)
    return next(iter(found.entries.values()))


def record_of(place: Place, plan: Plan, entry: ModelEntry, store: Path, etags: Mapping[str, str]) -> ModelRecord:
    """Where the model's files are to be, as a record; `etags` by file, where a server said them.

    Raises model.exists when somebody else's are there.
    """
    home = place.staged / plan.model
    files = [path.relative_to(home).as_posix() for path in entry.files]
    first, alone = files[0], len(plan.files) == 1
    if not alone or (store / files[0]).exists():
        files = [f"{plan.model}/{name}" for name in files]
        if (store / plan.model).exists():
            raise Hal0Error("model.exists", f"cannot put {plan.model} into the store: {store / plan.model} is there")
    return ModelRecord(
        id=plan.model,
        files=tuple(files),
        size_bytes=entry.size_bytes,
        sha256=next((file.sha256 for file in plan.files if file.name == first), None),
        license=plan.license,
        source=plan.source | ({"etag": etags[first]} if first in etags else {}),
    )


def move(place: Place, plan: Plan, record: ModelRecord, store: Path) -> None:
    """One rename: the whole model is in place, or none of it. Raises OSError."""
    home = place.staged / plan.model
    if "/" in record.files[0] and record.files[0].partition("/")[0] == plan.model:
        home.chmod(0o755)
        home.rename(store / plan.model)
    else:
        (home / record.files[0]).rename(store / record.files[0])
    fsync_dir(store)
