"""Where models may lie below a folder: hal0's own store, Hugging Face's cache, LM Studio's folders, Ollama's blobs.

    sightings(root) -> what may be a model there, in order of path; nothing of it has been read

Hidden files and folders are half-done downloads and other programs' own business. Blocking.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any, Final

from hal0.lib import jsonio
from hal0.models.kits import Kit, recognise


class Kind(Enum):
    GGUF = auto()
    TENSORS = auto()  # one file of tensors, which may be a whole image model
    KIT = auto()  # a folder
    PICKLE = auto()  # by its name


@dataclass(frozen=True, slots=True)
class Sighting:
    """`name` is what the place calls it, where that is not the file's own name; `mmproj` the projector it names."""

    kind: Kind
    path: Path
    name: str | None = None
    kit: Kit | None = None
    mmproj: Path | None = None


_ENDINGS: Final = {
    ".gguf": Kind.GGUF,
    ".safetensors": Kind.TENSORS,
    **dict.fromkeys((".ckpt", ".pt", ".pth", ".pkl"), Kind.PICKLE),
}
_MAX_MANIFEST_BYTES: Final = 1 << 20  # real ones have 1 KB
_BLOB: Final = re.compile(r"sha256:([0-9a-f]{64})\Z")
_OLLAMA: Final = "application/vnd.ollama.image."
_HUB_DULL: Final = frozenset({"onnx", "merged"})  # folders of a repository that say nothing of the model in them


def sightings(root: Path) -> Iterator[Sighting]:
    return _below(root, whole=False)


def _below(root: Path, *, whole: bool) -> Iterator[Sighting]:
    """`whole`: the root itself may be a model."""
    for folder, subfolders, names in os.walk(root):
        here = Path(folder)
        if {"manifests", "blobs"} <= set(subfolders):
            subfolders[:] = [name for name in subfolders if name not in ("manifests", "blobs")]
            yield from _ollama(here)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        if here.name.startswith("models--") and "snapshots" in subfolders:
            subfolders[:] = []
            if (snapshot := _snapshot(here)) is not None:
                yield from _snapshot_sightings(here, snapshot)
            continue
        seen = [name for name in sorted(names) if not name.startswith(".")]
        if (whole or here != root) and (kit := recognise(seen)) is not None:
            subfolders[:] = []
            yield Sighting(Kind.KIT, here, kit=kit)
            continue
        for name in seen:
            if (kind := _ENDINGS.get(os.path.splitext(name)[1].lower())) is not None:  # noqa: PTH122  per file of a store
                yield Sighting(kind, here / name)


# ---- Hugging Face's cache: models--OWNER--NAME/{refs,snapshots/REVISION,blobs} ----


def _snapshot(repository: Path) -> Path | None:
    """The revision that `main` stands for here, else the last one that came."""
    try:
        revision = (repository / "refs" / "main").read_text(encoding="ascii")[:80].strip()
    except (OSError, ValueError):
        revision = ""
    snapshots = repository / "snapshots"
    if re.fullmatch(r"[0-9a-f]{7,64}", revision) and (snapshots / revision).is_dir():
        return snapshots / revision
    there = [path for path in snapshots.iterdir() if path.is_dir()] if snapshots.is_dir() else []
    return max(there, key=lambda path: path.stat().st_mtime_ns, default=None)


def _snapshot_sightings(repository: Path, snapshot: Path) -> Iterator[Sighting]:
    title = repository.name.rpartition("--")[2]
    for found in _below(snapshot, whole=True):
        if found.kind is Kind.KIT:
            parts = [part for part in found.path.relative_to(snapshot).parts if part not in _HUB_DULL]
            yield Sighting(found.kind, found.path, name="-".join((title, *parts)), kit=found.kit)
        elif found.kind is not Kind.PICKLE:  # weights of other programs, by the dozen
            yield found


# ---- Ollama's store: manifests/HOST/OWNER/NAME/TAG names blobs/sha256-... ----


def _ollama(root: Path) -> Iterator[Sighting]:
    for folder, subfolders, names in os.walk(root / "manifests"):
        subfolders.sort()
        for tag in sorted(names):
            layers = _layers(Path(folder, tag))
            if (blob := _blob(root, layers.get("model"))) is not None:
                name = f"{Path(folder).name}-{tag}" if tag != "latest" else Path(folder).name
                yield Sighting(Kind.GGUF, blob, name=name, mmproj=_blob(root, layers.get("projector")))


def _layers(manifest: Path) -> dict[str, str]:
    """Kind of layer -> digest; nothing for what is no manifest."""
    try:
        if not manifest.is_file() or manifest.stat().st_size > _MAX_MANIFEST_BYTES:
            return {}
        found: Any = jsonio.loads(manifest.read_bytes())
        return {str(it["mediaType"]).removeprefix(_OLLAMA): str(it["digest"]) for it in found["layers"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _blob(root: Path, digest: str | None) -> Path | None:
    match = _BLOB.match(digest or "")
    path = root / "blobs" / f"sha256-{match[1]}" if match else None
    return path if path is not None and path.is_file() else None
