"""From what somebody named to a plan: which files, from where, of which published size and digest."""

import asyncio
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from hal0.errors import Hal0Error
from hal0.models.catalog import CatalogEntry
from hal0.models.entry import id_of, legal_id
from hal0.models.kits import IGNORED
from hal0.pulls.asking import Asker
from hal0.pulls.choosing import Choice, choose
from hal0.pulls.hub import file_url, listing
from hal0.pulls.plan import PlannedFile
from hal0.pulls.sources import CatalogSource, HubSource, Source, UrlSource
from hal0.vocab import MODEL_ID, ModelId
from hal0.wire.pulls import PullRequest


@dataclass(frozen=True, slots=True)
class Draft:
    model: ModelId
    files: tuple[PlannedFile, ...]
    source: dict[str, str]
    license: str | None = None


async def drafted(source: Source, asked: PullRequest, asker: Asker) -> Draft:
    """Raises Hal0Error: request.invalid, model.not_found, pull.*; blocking for a path, which is on this machine."""
    if isinstance(source, HubSource):
        draft = await _of_hub(source, asker)
    elif isinstance(source, CatalogSource):
        draft = await _of_catalog(source.entry, asker)
    elif isinstance(source, UrlSource):
        draft = _of_url(source, asked.sha256)
    else:
        draft = await asyncio.to_thread(_of_path, source.path)
    if asked.id is None:
        return draft
    if not MODEL_ID.match(asked.id):
        raise Hal0Error("request.invalid", f"cannot call a model {asked.id[:200]!r}: it is no model id", param="id")
    return Draft(ModelId(asked.id), draft.files, draft.source, draft.license)


async def _of_hub(source: HubSource, asker: Asker) -> Draft:
    found = await listing(asker, source.repo, source.revision)
    choice = choose(source.repo, found.files, source.path, source.quantisation)
    files = tuple(
        PlannedFile(
            name=_name(file.path, choice),
            url=file_url(asker.hub.endpoint, source.repo, found.revision, file.path),
            size_bytes=file.size_bytes,
            sha256=file.sha256,
        )
        for file in choice.files
    )
    told = {"host": urlsplit(asker.hub.endpoint).netloc, "repo": source.repo, "revision": found.revision}
    return Draft(choice.model, files, {**told, "file": choice.folder or choice.files[0].path}, found.license)


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
        files.append(PlannedFile(name=file.name, url=url, size_bytes=file.size_bytes, sha256=sha256))
    told = {"catalog": entry.id, "host": urlsplit(files[0].url).netloc}
    if entry.repo is not None:
        told |= {"repo": entry.repo, "revision": entry.revision, "file": entry.folder or entry.files[0].name}
    return Draft(entry.id, tuple(files), told, entry.license)


def _name(path: str, choice: Choice) -> str:
    """Below the model's own folder."""
    here = PurePosixPath(path)
    return str(here.relative_to(choice.folder)) if choice.folder not in ("", ".") else here.name


def _of_url(source: UrlSource, sha256: str | None) -> Draft:
    name = source.file
    if (model := id_of(Path("/", name))) is None:
        raise Hal0Error("request.invalid", f"cannot make a model id of {name!r}; give one with `id`", param="id")
    try:
        file = PlannedFile(name=name, url=source.url, sha256=sha256.lower() if sha256 else None)
    except ValueError as e:
        raise Hal0Error("request.invalid", "cannot use the member 'sha256': it is no digest", param="sha256") from e
    return Draft(model, (file,), {"host": urlsplit(source.url).netloc, "url": source.url.partition("?")[0]})


def _of_path(path: Path) -> Draft:
    try:
        whole = path.is_dir()
        paths = sorted(_below(path)) if whole else [path]
        files = tuple(
            PlannedFile(
                name=(it.relative_to(path) if whole else PurePosixPath(it.name)).as_posix(),
                url=str(it.resolve(strict=True)),
                size_bytes=it.stat().st_size,
            )
            for it in paths
        )
    except (OSError, ValueError) as e:
        why = e.strerror if isinstance(e, OSError) else "a name in it cannot be used"
        raise Hal0Error("model.not_found", f"cannot read {path}: {why}", param="model") from e
    model = legal_id(path.name) if whole else id_of(path)
    if not files or model is None:
        raise Hal0Error("model.not_found", f"cannot make a model of {path}", param="model")
    return Draft(model, files, {"path": str(path)})


def _below(folder: Path) -> list[Path]:
    return [it for it in folder.rglob("*") if it.is_file() and it.name.lower() not in IGNORED and it.name[0] != "."]
