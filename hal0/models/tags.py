"""Models that an engine knows by names of its own: found on disk by the folder and files that its list names."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from hal0.models.entry import ModelEntry
from hal0.vocab import Capability, ModelId


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """A model of such a list. `folder` has `files` below the store or a root; `size_bytes` as published.

    `riders`: models that the same engine process serves besides, when they are on disk too.
    """

    name: str
    folder: str
    files: tuple[str, ...]
    size_bytes: int | None
    context_length: int | None  # tokens
    capabilities: frozenset[Capability]
    family: str
    riders: Mapping[Capability, str] = field(default_factory=dict)


def tagged(tags: Iterable[Tag], roots: Iterable[Path]) -> dict[ModelId, ModelEntry]:
    """The entries of those that are here, whole; the first root wins. Blocking."""
    roots = tuple(roots)
    alone = {tag.name: entry for tag in tags if (entry := _entry(tag, roots)) is not None}
    by_name = {tag.name: tag for tag in tags}
    return {
        ModelId(name): _with_riders(entry, {c: alone[r] for c, r in by_name[name].riders.items() if r in alone})
        for name, entry in alone.items()
    }


def _entry(tag: Tag, roots: tuple[Path, ...]) -> ModelEntry | None:
    for root in roots:
        files = tuple(root / tag.folder / name for name in tag.files)
        try:
            sizes = [(file.stat().st_size, int(file.stat().st_mtime)) for file in files]
        except OSError:
            continue
        return ModelEntry(
            id=ModelId(tag.name),
            files=files,
            size_bytes=sum(size for size, _ in sizes),
            created=sizes[0][1],
            format="q4nx",
            architecture=tag.family,
            context_length=tag.context_length,
            capabilities=tag.capabilities,
            quantisation=None,
        )
    return None


def _with_riders(entry: ModelEntry, riders: Mapping[Capability, ModelEntry]) -> ModelEntry:
    """What rides along is loaded with it: its files, its size and what it can do are part of the whole."""
    return replace(
        entry,
        files=(*entry.files, *(file for rider in riders.values() for file in rider.files)),
        size_bytes=entry.size_bytes + sum(rider.size_bytes for rider in riders.values()),
        capabilities=entry.capabilities | riders.keys(),
        riders=MappingProxyType({capability: rider.id for capability, rider in riders.items()}),
    )
