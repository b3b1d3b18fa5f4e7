"""The last steps of a pull: is every file what was published, is it safe, is it a model; then it is put in place.

Blocking, but for `checked`.
"""

import errno
from pathlib import Path
from typing import Final

from hal0.errors import Hal0Error
from hal0.lib.atomic import fsync_dir
from hal0.models.content import accept
from hal0.models.digest import sha256_of
from hal0.models.entry import ModelEntry, able_to
from hal0.models.records import ModelRecord
from hal0.models.scan import Scanner
from hal0.pulls.plan import Place, Plan, PlannedFile

_WHOLE: Final = "Name all files of the model in one pull: hal0ctl model pull FIRST OTHER..."


async def checked(path: Path, file: PlannedFile) -> str:
    """The file's digest. Raises model.checksum unless it is the published one."""
    made = await sha256_of(path)
    if file.sha256 not in (None, made):
        raise Hal0Error(
            "model.checksum",
            f"cannot use {file.name}: it is not what was published (sha256 {made}, not {file.sha256}); "
            "it was thrown away",
            details={"file": file.name, "sha256": made, "published": file.sha256},
        )
    return made


def stage(part: Path, target: Path, *, allow_pickle: bool, linked: bool = False) -> None:
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
    if not linked:  # which is another program's, too; `link` has looked
        named.chmod(0o644)  # the engines run under other users
    named.rename(target)


def link(source: Path, part: Path) -> int:
    """The bytes of a file of this machine, which the part now is, too. Raises pull.failed, OSError."""
    copy = f"leave out --link to have {source.name} copied"
    found = source.stat()
    if not found.st_mode & 0o004:
        raise Hal0Error("pull.failed", f"cannot link {source}: only its owner can read it, and no engine; {copy}")
    part.parent.mkdir(parents=True, exist_ok=True)
    part.unlink(missing_ok=True)
    try:
        part.hardlink_to(source)
    except OSError as e:
        other = "it is on another disk than the models folder" if e.errno == errno.EXDEV else e.strerror
        raise Hal0Error("pull.failed", f"cannot link {source}: {other}; {copy}") from e
    return found.st_size


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
    entry = next(iter(found.entries.values()))
    if plan.task is not None and able_to(entry, plan.task) is None:
        able = sorted(entry.capabilities)
        message = f"cannot take {plan.model} for {plan.task}: its content says that it is for {', '.join(able)}"
        raise Hal0Error("dispatch.capability_mismatch", message, details={"capabilities": able}, param="task")
    return entry


def record_of(place: Place, plan: Plan, entry: ModelEntry, store: Path) -> ModelRecord:
    """Where the model's files are to be, as a record. Raises model.exists when somebody else's are there."""
    home = place.staged / plan.model
    names, where = [path.relative_to(home).as_posix() for path in entry.files], ""
    if len(plan.files) > 1 or (store / names[0]).exists():
        where = f"{plan.model}/"
        if (store / plan.model).exists():
            raise Hal0Error("model.exists", f"cannot put {plan.model} into the store: {store / plan.model} is there")
    first = plan.came.get(names[0])
    digests = {where + name: it.sha256 for name, it in plan.came.items()}
    return ModelRecord(
        id=plan.model,
        files=tuple(where + name for name in names),
        size_bytes=entry.size_bytes,
        sha256=digests.pop(where + names[0], None),
        digests=digests or None,
        license=plan.license,
        task=plan.task,
        source=plan.source | ({"etag": first.etag} if first is not None and first.etag is not None else {}),
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
