"""Find the models below some folders: which files are models, what they are, and what is wrong with the rest."""

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from hal0.models.content import Format
from hal0.models.entry import ModelEntry, Plain, entry_of, id_of, legal_id, plain_entry
from hal0.models.examine import Outcome, Problem, drawing, examine, parts
from hal0.models.gguf import GgufInfo
from hal0.models.places import Kind, Sighting, sightings
from hal0.models.split import Piece, Role, belonging, missing
from hal0.vocab import Capability, ModelId

# Per part of a model: (size, mtime in ns, device, inode), None when it is not there.
Stamp = tuple[tuple[int, int, int, int] | None, ...]

_CUT: Final = re.compile(r"-\d{5}-of-\d{5}\Z")
_CUT_UP: Final = "it is a part of a model that is cut into several files; hal0's engines take tensors in one file alone"


@dataclass(frozen=True, slots=True)
class Found:
    entries: Mapping[ModelId, ModelEntry]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class _Reading:
    stamp: Stamp
    outcome: Outcome


class Scanner:
    """Remembers what it read: a file whose size and time did not change is not opened again. Not thread-safe.

    `store` is hal0's own: what is in it and cannot be used is a problem. Other programs' folders hold much that is
    none of hal0's business.
    """

    def __init__(self, store: Path, roots: tuple[Path, ...], *, allow_pickle: bool = False) -> None:
        self._store = store
        self._roots = (store, *roots)
        self._allow_pickle = allow_pickle
        self._readings: dict[Path, _Reading] = {}

    def find(self, names: Mapping[Path, ModelId]) -> Found:
        """Everything below the roots; `names` gives ids to files and folders whose own name does not. Blocking.

        Of several files with one id the first wins: by the order of the roots, then by path.
        """
        entries: dict[ModelId, ModelEntry] = {}
        problems = [*self._out_of_reach()]
        projectors: list[GgufInfo] = []
        shapes: dict[ModelId, GgufInfo] = {}
        for sighting, stamp, outcome in self._outcomes():
            path = sighting.path
            model = names.get(path) or _id_of(sighting)
            if isinstance(outcome, Problem):
                problems.append(replace(outcome, id=model))
            elif isinstance(outcome, GgufInfo) and outcome.is_mmproj:
                projectors.append(outcome)
            elif outcome is None:
                problems += self._unknown(path)
            elif model is None:
                problems.append(_unnamed(path))
            elif model in entries:
                problems.append(_shadowed(model, path, entries[model]))
            elif isinstance(outcome, Plain):
                entries[model] = plain_entry(outcome, model, created=_modified_s(stamp))
            else:
                entries[model] = _with_its_own(entry_of(outcome, model, created=_modified_s(stamp)), sighting)
                shapes[model] = outcome
        return Found(_with_projectors(entries, shapes, projectors), tuple(problems))

    def _outcomes(self) -> Iterator[tuple[Sighting, Stamp, GgufInfo | Plain | Problem | None]]:
        """What each sighting is, once all are read: some are whole only with others."""
        found = [(sighting, self._reading(sighting)) for sighting in self._candidates()]
        self._readings = {sighting.path: reading for sighting, reading in found}
        pieces = [reading.outcome for _, reading in found if isinstance(reading.outcome, Piece)]
        together = {it.path: belonging(it, pieces) for it in pieces if it.role is Role.UNET}
        used = {piece.path for others in together.values() for piece in others.values()}
        for sighting, reading in found:
            outcome = reading.outcome
            if not isinstance(outcome, Piece):
                yield sighting, reading.stamp, outcome
            elif outcome.role is Role.UNET:
                yield sighting, reading.stamp, _joined(outcome, together[outcome.path])
            elif outcome.path not in used:
                yield sighting, reading.stamp, None

    def _candidates(self) -> Iterator[Sighting]:
        """Each model once, even where links or roots show it twice."""
        seen: set[tuple[int, int]] = set()
        offered: set[Path] = set()
        for root in self._roots:
            for sighting in sightings(root):
                if sighting.kind is Kind.PICKLE and root != self._store:
                    continue
                first = parts(sighting)[0]
                if first in offered:
                    continue
                offered.add(first)
                identity = _identity(first)
                if identity is None or identity not in seen:
                    yield replace(sighting, path=first) if sighting.kind is Kind.GGUF else sighting
                if identity is not None:
                    seen.add(identity)

    def _reading(self, sighting: Sighting) -> _Reading:
        if (illegible := _illegible(sighting.path)) is not None:
            return _Reading((), illegible)
        stamp = tuple(_stamp(part) for part in parts(sighting))
        known = self._readings.get(sighting.path)
        if known is not None and known.stamp == stamp:
            return known
        return _Reading(stamp, examine(sighting, allow_pickle=self._allow_pickle))

    def _out_of_reach(self) -> Iterator[Problem]:
        """Folders that somebody named and that show nothing: a share that is not mounted, a wrong letter."""
        for root in self._roots[1:]:
            try:
                with os.scandir(root):
                    pass
            except OSError as e:
                message = f"cannot look into {root}, which is one of models.roots: {e.strerror}"
                yield Problem(None, root, "model.not_downloaded", message)

    def _unknown(self, path: Path) -> Iterator[Problem]:
        if path.is_relative_to(self._store):
            what = _CUT_UP if _CUT.search(path.stem) else "it is not a whole model that an engine of hal0 loads"
            yield Problem(None, path, "model.not_found", f"cannot use {path}: {what}")


def _id_of(sighting: Sighting) -> ModelId | None:
    if sighting.name is not None:
        return legal_id(sighting.name)
    return legal_id(sighting.path.name) if sighting.kind is Kind.KIT else id_of(sighting.path)


def _joined(unet: Piece, others: Mapping[Role, Piece]) -> Plain | Problem:
    if lacking := missing(others):
        what = ", ".join(role.value for role in lacking)
        message = (
            f"cannot use {unet.path}: it is only the network of an image model; {what} that fits it is not here; "
            "put it into the models folder, beside it or in a folder of its own"
        )
        return Problem(None, unet.path, "model.not_downloaded", message)
    files = (unet, *(others[role] for role in Role if role in others))
    return drawing(tuple(it.path for it in files), sum(it.size_bytes for it in files), Format.SAFETENSORS, unet.family)


def _with_its_own(entry: ModelEntry, sighting: Sighting) -> ModelEntry:
    """A projector that the place itself puts with the model."""
    if sighting.mmproj is None or Capability.CHAT not in entry.capabilities:
        return entry
    return entry.with_mmproj(sighting.mmproj, sighting.mmproj.stat().st_size)


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


def _illegible(path: Path) -> Problem | None:
    """A name of an older encoding is bytes that JSON has no letters for: neither podman nor a client can be told it."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = str(path).encode("utf-8", "replace").decode()
        return Problem(None, Path(shown), "model.not_found", f"cannot use {shown}: its name is not UTF-8; rename it")
    return None


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
