"""What the files of a model have to be: as they came, as the catalog says, as the place that they lie in is called."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from hal0.models import catalog
from hal0.models.entry import ModelEntry
from hal0.models.records import ModelRecord

# Hugging Face's cache and Ollama's call a blob by its digest.
_BLOB: Final = re.compile(r"(?:sha256-)?([0-9a-f]{64})\Z")


def digests(entry: ModelEntry, record: ModelRecord | None, store: Path) -> Mapping[Path, str]:
    """sha256 by file, of those of which it is known. Blocking: links are followed."""
    came = _came(record, store)
    listed = catalog.find(entry.id)
    said = {} if listed is None else {Path(file.name).name: file.sha256 for file in listed.files}
    paths = entry.files if entry.mmproj is None else (*entry.files, entry.mmproj)
    found = {path: came.get(path) or said.get(path.name) or _of_blob(path) for path in paths}
    return {path: digest for path, digest in found.items() if digest is not None}


def _came(record: ModelRecord | None, store: Path) -> Mapping[Path, str]:
    if record is None:
        return {}
    others = {store / name: digest for name, digest in (record.digests or {}).items()}
    return others if record.sha256 is None else {store / record.files[0]: record.sha256, **others}


def _of_blob(path: Path) -> str | None:
    match = _BLOB.match(path.resolve().name)
    return match[1] if match is not None else None
