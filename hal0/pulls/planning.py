"""From what somebody named to a plan: which files, from where, of which published size and digest."""

import asyncio
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Final, assert_never
from urllib.parse import urlsplit

from pydantic import ValidationError

from hal0.errors import Hal0Error
from hal0.models.catalog import CatalogEntry
from hal0.models.entry import id_of, legal_id
from hal0.models.gguf import SHARD, shards
from hal0.models.kits import IGNORED
from hal0.pulls.asking import Asker
from hal0.pulls.choosing import Choice, choose
from hal0.pulls.hub import file_url, listing
from hal0.pulls.plan import PlannedFile
from hal0.pulls.sources import DIGEST, CatalogSource, HubSource, JoinedSource, PathSource, Source, UrlSource
from hal0.vocab import MODEL_ID, ModelId
from hal0.wire.pulls import PullRequest

_MOST_FILES: Final = 1_000  # below one model's folder; real ones have dozens


@dataclass(frozen=True, slots=True)
class Draft:
    model: ModelId
    files: tuple[PlannedFile, ...]
    source: dict[str, str]
    license: str | None = None


async def drafted(source: Source, asked: PullRequest, asker: Asker) -> Draft:
    """Raises Hal0Error: request.invalid, model.not_found, pull.*; blocking for a path, which is on this machine."""
    if asked.id is not None and not MODEL_ID.match(asked.id):
        raise Hal0Error("request.invalid", f"cannot call a model {asked.id[:200]!r}: it is no model id", param="id")
    model = None if asked.id is None else ModelId(asked.id)
    if asked.sha256 is not None:
        source = _held_against(source, asked.sha256)
    parts = source.parts if isinstance(source, JoinedSource) else (source,)
    if asked.link and not all(isinstance(part, PathSource) for part in parts):
        raise Hal0Error("request.invalid", "cannot link what is not on this machine: name a path", param="link")
    draft = await _of(source, model, asker, alone=True)
    return draft if model is None else replace(draft, model=model)


def _held_against(source: Source, sha256: str) -> Source:
    """With the digest that its (first) address has to have; the hub and the catalog know their own."""
    if isinstance(source, JoinedSource):
        return JoinedSource((_held_against(source.parts[0], sha256), *source.parts[1:]))
    return replace(source, sha256=sha256) if isinstance(source, UrlSource) else source


async def _of(source: Source, model: ModelId | None, asker: Asker, *, alone: bool) -> Draft:
    """`model`: what it shall be called, where somebody said. `alone`: nobody named its other parts, if it has any."""
    match source:
        case HubSource():
            return await _of_hub(source, asker)
        case CatalogSource():
            return await _of_catalog(source.entry, asker)
        case UrlSource():
            return _of_url(source, model, alone=alone)
        case PathSource():
            return await asyncio.to_thread(_of_path, source.path, model, alone=alone)
        case JoinedSource():
            drafts: list[Draft] = []
            for part in source.parts:
                drafts.append(await _of(part, drafts[0].model if drafts else model, asker, alone=False))
            return _joined(drafts)
        case _:
            assert_never(source)


def _joined(drafts: Sequence[Draft]) -> Draft:
    """All files in one folder; where two are called the same, the later one in a folder of its own."""
    files: dict[str, PlannedFile] = {}
    for number, draft in enumerate(drafts, start=1):
        for file in draft.files:
            if all(file.url != other.url for other in files.values()):
                name = file.name if file.name not in files else f"{number}/{file.name}"
                files[name] = file.model_copy(update={"name": name})
    licenses = dict.fromkeys(draft.license for draft in drafts if draft.license is not None)
    references = [reference for draft in drafts for reference in _references(draft.source)]
    source = {**drafts[0].source, "more": "\n".join(references[1:])}
    return Draft(drafts[0].model, tuple(files.values()), source, ", ".join(licenses) or None)


def _references(source: Mapping[str, str]) -> list[str]:
    """As somebody would name what a model came from."""
    if "catalog" in source:
        first = source["catalog"]
    elif "repo" in source:
        first = _on_hub(source["repo"], source["revision"], source["file"])
    elif "url" in source:
        first = source["url"] + (f"#{DIGEST}{source['sha256']}" if "sha256" in source else "")
    else:
        first = source["path"]
    return [first, *source.get("more", "").splitlines()]


def _on_hub(repo: str, revision: str, path: str) -> str:
    return f"{repo}@{revision}/{path}"


async def _of_hub(source: HubSource, asker: Asker) -> Draft:
    found = await listing(asker, source.repo, source.revision)
    choice = choose(source.repo, found.files, source.path, source.quantisation)
    files = tuple(
        PlannedFile(
            name=_name(file.path, choice),
            url=file_url(asker.hub.endpoint, source.repo, found.revision, file.path),
            size_bytes=file.size_bytes,
            sha256=file.sha256,
            repo=source.repo,
        )
        for file in choice.files
    )
    first, *others = [file.path for file in choice.files]
    told = {"host": urlsplit(asker.hub.endpoint).netloc, "repo": source.repo, "revision": found.revision}
    told["file"] = choice.folder or first
    # A part of several means the others as well; a projector has to be named by itself.
    more = [] if choice.folder else [path for path in others if SHARD.fullmatch(PurePosixPath(path).name) is None]
    if more:
        told["more"] = "\n".join(_on_hub(source.repo, found.revision, path) for path in more)
    return Draft(choice.model, files, told, found.license)


async def _of_catalog(entry: CatalogEntry, asker: Asker) -> Draft:
    """What the catalog says is what has to come; the hub is asked only for the digests that it does not say."""
    digests: dict[str, str | None] = {}
    if entry.repo is not None and any(file.url is None and file.sha256 is None for file in entry.files):
        found = await listing(asker, entry.repo, entry.revision)
        digests = {file.path: file.sha256 for file in found.files}
    files = []
    for file in entry.files:
        path = f"{entry.folder}/{file.name}" if entry.folder else file.name
        url = file.url or file_url(asker.hub.endpoint, entry.repo or "", entry.revision, path)
        sha256 = file.sha256 or digests.get(path)
        repo = entry.repo if file.url is None else None
        files.append(PlannedFile(name=file.name, url=url, size_bytes=file.size_bytes, sha256=sha256, repo=repo))
    told = {"catalog": entry.id, "host": urlsplit(files[0].url).netloc}
    if entry.repo is not None:
        told |= {"repo": entry.repo, "revision": entry.revision, "file": entry.folder or entry.files[0].name}
    return Draft(entry.id, tuple(files), told, entry.license)


def _name(path: str, choice: Choice) -> str:
    """Below the model's own folder."""
    here = PurePosixPath(path)
    return str(here.relative_to(choice.folder)) if choice.folder not in ("", ".") else here.name


def _of_url(source: UrlSource, model: ModelId | None, *, alone: bool) -> Draft:
    name = source.file
    if (model := model or id_of(source.path)) is None:
        raise Hal0Error("request.invalid", f"cannot make a model id of {name!r}; give one with `id`", param="id")
    names = [part.name for part in shards(Path(name))] if alone else [name]
    digests = {} if source.sha256 is None else {name: source.sha256.lower()}
    try:
        files = tuple(
            PlannedFile(name=it, url=source.url if it == name else source.beside(it), sha256=digests.get(it))
            for it in names
        )
    except ValueError as e:
        raise Hal0Error("request.invalid", "cannot use the member 'sha256': it is no digest", param="sha256") from e
    told = {"host": urlsplit(source.url).netloc, "url": source.url.partition("?")[0]}
    return Draft(model, files, told | {"sha256": digests[name]} if digests else told)


def _of_path(path: Path, model: ModelId | None, *, alone: bool) -> Draft:
    try:
        whole = path.is_dir()
        paths = sorted(_below(path)) if whole else shards(path) if alone else [path]
        files = tuple(
            PlannedFile(
                name=(it.relative_to(path) if whole else PurePosixPath(it.name)).as_posix(),
                url=os.path.realpath(it, strict=True),  # a loop of links is an OSError to this
                size_bytes=_size(it),
            )
            for it in paths
        )
    except (OSError, ValueError) as e:
        told = (e.filename or path, e.strerror) if isinstance(e, OSError) else (path, _why(e))
        raise Hal0Error("model.not_found", "cannot read {}: {}".format(*told), param="model") from e
    model = model or (legal_id(path.name) if whole else id_of(path))
    if not files or model is None:
        raise Hal0Error("model.not_found", f"cannot make a model of {path}", param="model")
    return Draft(model, files, {"path": str(path)})


def _size(path: Path) -> int:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path.name} is no regular file")  # a FIFO would block for ever
    return found.st_size


def _why(error: ValueError) -> str:
    return "a name in it cannot be used" if isinstance(error, ValidationError) else str(error)


def _below(folder: Path) -> list[Path]:
    """Raises ValueError for what is a whole disk instead of a model."""
    found = []
    for number, it in enumerate(folder.rglob("*")):
        if number >= _MOST_FILES:
            raise ValueError(f"it has more than {_MOST_FILES} files: name the model's own folder")
        if it.is_file() and it.name.lower() not in IGNORED and it.name[0] != ".":
            found.append(it)
    return found
