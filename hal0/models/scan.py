"""Find the models below some directories: which files are models, what they are, and what is wrong with the rest."""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from hal0.models.entry import ModelEntry, entry_of, id_of
from hal0.models.gguf import GgufError, GgufInfo, read, shards
from hal0.vocab import Capability, ModelId

# Per part of a model: (size, mtime in ns, device, inode), None when it is not there.
Stamp = tuple[tuple[int, int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that looks like a model and cannot be used; `message` begins "cannot"."""

    id: ModelId | None
    path: Path
    code: str  # of hal0.errors.TABLE
    message: str


@dataclass(frozen=True, slots=True)
class Found:
    entries: Mapping[ModelId, ModelEntry]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class _Reading:
    stamp: Stamp
    outcome: GgufInfo | Problem


class Scanner:
    """Remembers what it read: a file whose size and time did not change is not opened again. Not thread-safe."""

    def __init__(self, roots: tuple[Path, ...]) -> None:
        self._roots = roots
        self._readings: dict[Path, _Reading] = {}

    def find(self, names: Mapping[Path, ModelId]) -> Found:
        """Everything below the roots; `names` gives ids to files whose own name does not. Blocking.

        Of several files with one id the first wins: by the order of the roots, then by path.
        """
        entries: dict[ModelId, ModelEntry] = {}
        problems: list[Problem] = []
        readings: dict[Path, _Reading] = {}
        projectors: list[GgufInfo] = []
        shapes: dict[ModelId, GgufInfo] = {}
        for path in self._candidates():
            model = names.get(path) or id_of(path)
            reading = readings[path] = self._reading(path)
            info = reading.outcome
            if isinstance(info, Problem):
                problems.append(replace(info, id=model))
            elif info.is_mmproj:
                projectors.append(info)
            elif model is None:
                problems.append(_unnamed(path))
            elif model in entries:
                problems.append(_shadowed(model, path, entries[model]))
            else:
                entries[model] = entry_of(info, model, created=_modified_s(reading.stamp))
                shapes[model] = info
        self._readings = readings
        return Found(_with_projectors(entries, shapes, projectors), tuple(problems))

    def _candidates(self) -> Iterator[Path]:
        """First parts of what is named *.gguf, each file once even where links or roots show it twice."""
        seen: set[tuple[int, int]] = set()
        offered: set[Path] = set()
        for root in self._roots:
            for path in _gguf_files(root):
                first = shards(path)[0]
                if first in offered:
                    continue
                offered.add(first)
                identity = _identity(first)
                if identity is None or identity not in seen:
                    yield first
                if identity is not None:
                    seen.add(identity)

    def _reading(self, path: Path) -> _Reading:
        stamp = tuple(_stamp(part) for part in shards(path))
        known = self._readings.get(path)
        if known is not None and known.stamp == stamp:
            return known
        return _Reading(stamp, _examine(path))


def _examine(path: Path) -> GgufInfo | Problem:
    try:
        info = read(path)
    except GgufError as e:
        return Problem(None, path, "model.checksum", str(e))
    except OSError as e:
        return Problem(None, path, "model.not_downloaded", f"cannot read {path}: {e.strerror}")
    if info.missing:
        names = ", ".join(part.name for part in info.missing)
        return Problem(None, path, "model.not_downloaded", f"cannot use {path}: parts are missing: {names}")
    if info.truncated:
        message = f"cannot use {path}: the file is truncated, its tensors end beyond it; pull or copy it again"
        return Problem(None, path, "model.checksum", message)
    return info


def _gguf_files(root: Path) -> Iterator[Path]:
    """In order of path. Hidden files and directories are half-done downloads and other programs' own business."""
    for directory, subdirectories, names in os.walk(root):
        subdirectories[:] = sorted(name for name in subdirectories if not name.startswith("."))
        for name in sorted(names):
            if name.lower().endswith(".gguf") and not name.startswith("."):
                yield Path(directory, name)


def _stamp(path: Path) -> tuple[int, int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_dev, status.st_ino


def _identity(path: Path) -> tuple[int, int] | None:
    stamp = _stamp(path)
    return None if stamp is None else stamp[2:]


def _modified_s(stamp: Stamp) -> int:
    return stamp[0][1] // 1_000_000_000 if stamp[0] is not None else 0


def _unnamed(path: Path) -> Problem:
    return Problem(None, path, "model.not_found", f"cannot use {path}: no model id can be made of its name; rename it")


def _shadowed(model: ModelId, path: Path, winner: ModelEntry) -> Problem:
    message = f"cannot offer {path}: its id {model} is taken by {winner.files[0]}; rename one of them"
    return Problem(model, path, "model.exists", message)


def _with_projectors(
    entries: dict[ModelId, ModelEntry], shapes: Mapping[ModelId, GgufInfo], projectors: list[GgufInfo]
) -> dict[ModelId, ModelEntry]:
    """Give each chat model the projector beside it, where only one can be meant.

    One projector in the directory, and its chat models are one model in several quantisations that it fits.
    """
    beside: dict[Path, list[GgufInfo]] = defaultdict(list)
    for projector in projectors:
        beside[projector.path.parent].append(projector)
    for directory, candidates in beside.items():
        chats = [
            entry
            for entry in entries.values()
            if Capability.CHAT in entry.capabilities and not entry.demo and entry.files[0].parent == directory
        ]
        one_model = len({shapes[entry.id].parameter_count for entry in chats}) == 1
        projector = candidates[0]
        if one_model and len(candidates) == 1 and _fits(projector, shapes[chats[0].id]):
            entries |= {entry.id: entry.with_mmproj(projector.path, projector.size_bytes) for entry in chats}
    return entries


def _fits(projector: GgufInfo, model: GgufInfo) -> bool:
    """A projector's vectors are as long as the model's embeddings; older ones do not say."""
    return projector.projection_length in (None, 0, model.embedding_length)
