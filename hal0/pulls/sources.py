"""What somebody means who names a model to pull: a place on the hub, an address, a path here. Pure.

Names are written as one of these:

    qwen3-4b-q4_k_m                 one of the catalog, or that has been here before (looked up by the caller)
    Qwen/Qwen3-4B-GGUF:Q4_K_M       a repository on the hub, and which quantisation
    Qwen/Qwen3-4B-GGUF/file.gguf    one file of it; hf:..., hf.co/... and the hub's own addresses mean the same
    https://example.org/m.gguf      any address
    https://example.org/m.gguf#sha256=...   and what the file has to be
    /disk/m.gguf                    a file or folder on this machine
"""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from hal0.errors import Hal0Error
from hal0.models.catalog import CatalogEntry


@dataclass(frozen=True, slots=True)
class HubSource:
    """`path` is a file or a folder of the repository; `quantisation` chooses among its GGUF files."""

    repo: str
    revision: str = "main"
    path: str | None = None
    quantisation: str | None = None


@dataclass(frozen=True, slots=True)
class UrlSource:
    """`sha256` is the file's digest, where somebody said it."""

    url: str
    sha256: str | None = None

    @property
    def path(self) -> PurePosixPath:
        return PurePosixPath(unquote(urlsplit(self.url).path))

    @property
    def file(self) -> str:
        return self.path.name

    def beside(self, name: str) -> str:
        """The address of another file in the same place."""
        parts = urlsplit(self.url)
        return parts._replace(path=f"{parts.path.rpartition('/')[0]}/{quote(name)}").geturl()


@dataclass(frozen=True, slots=True)
class PathSource:
    path: Path


@dataclass(frozen=True, slots=True)
class CatalogSource:
    entry: CatalogEntry


@dataclass(frozen=True, slots=True)
class JoinedSource:
    """The files of several places that are one model; the first one gives it its name."""

    parts: "tuple[Source, ...]"


Source = HubSource | UrlSource | PathSource | CatalogSource | JoinedSource

_PART: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_REPO: Final = re.compile(
    rf"(?P<repo>{_PART}/{_PART})(?:@(?P<revision>[\w.-]{{1,100}}))?(?:/(?P<path>[^:]+))?(?::(?P<quant>[\w.-]+))?\Z"
)
_ON_HUB: Final = re.compile(
    rf"(?P<repo>{_PART}/{_PART})(?:/(?:resolve|blob|tree)/(?P<revision>[^/]+)(?:/(?P<path>.+))?)?/?\Z"
)
DIGEST: Final = "sha256="  # as pip writes it behind an address
_HUBS: Final = ("hf:", "hf.co/", "huggingface.co/", "https://hf.co/", "https://huggingface.co/")


def source_of(reference: str, endpoint: str) -> Source | None:
    """None: it is a plain name. `endpoint` is the hub's address. Raises request.invalid."""
    text = reference.strip()
    if text.startswith("/"):
        return PathSource(Path(text))
    for hub in (*_HUBS, f"{endpoint}/"):
        if text.startswith(hub):
            return _on_hub(text.removeprefix(hub), reference)
    if re.match(r"https?://", text):
        url, _, fragment = text.partition("#")
        source = UrlSource(url, fragment.removeprefix(DIGEST) if fragment.startswith(DIGEST) else None)
        try:
            host = urlsplit(url).netloc
        except ValueError as e:
            raise _unreadable("the address", "it is none") from e
        if "@" in host:  # which is not repeated
            raise Hal0Error(
                "request.invalid",
                "cannot fetch from an address with a user or a password in it: hal0 would have to keep them",
                param="model",
                hint="Fetch the file by other means, then: hal0ctl pull /path/to/it",
            )
        if not is_plain(source.file):
            raise _unreadable(reference, "the address does not end in a file's name")
        return source
    if "://" in text or "/" in text:
        return _in_words(text, reference)
    return None


def is_plain(path: str) -> bool:
    """Whether a path that somebody else chose stays below the folder that it is put into, and hides nothing."""
    parts = path.split("/")
    return (
        bool(path)
        and len(path.encode()) <= 1_000
        and not re.search(r"[\x00-\x1f\x7f\\]", path)
        and all(part and not part.startswith(".") and len(part.encode()) <= 200 for part in parts)
    )


def is_repo(name: str) -> bool:
    """OWNER/REPOSITORY, and nothing else."""
    return re.fullmatch(rf"{_PART}/{_PART}", name) is not None


def _on_hub(rest: str, reference: str) -> HubSource:
    """The part of an address behind the hub's name; its files are written with resolve/REVISION before them, or not."""
    path, _, _query = rest.partition("?")
    if (match := _ON_HUB.match(unquote(path))) is not None:
        return _checked(HubSource(match["repo"], match["revision"] or "main", match["path"]), reference)
    return _in_words(path, reference)


def _in_words(text: str, reference: str) -> HubSource:
    if (match := _REPO.match(text)) is None:
        raise _unreadable(reference, "it is no place on the hub")
    found = HubSource(match["repo"], match["revision"] or "main", match["path"], match["quant"])
    return _checked(found, reference)


def _checked(source: HubSource, reference: str) -> HubSource:
    if source.path is not None and not is_plain(source.path):
        raise _unreadable(reference, "its file does not stay in the repository")
    if not is_plain(source.revision):
        raise _unreadable(reference, "its revision is none")
    return source


def _unreadable(reference: str, why: str) -> Hal0Error:
    return Hal0Error(
        "request.invalid",
        f"cannot read {reference[:200]!r}: {why}",
        param="model",
        hint="Name OWNER/REPOSITORY[:QUANTISATION], a file of it, an address, or a path.",
    )
