"""A catalog of one model, which the misbehaving hub has."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from hal0.models import catalog
from hal0.models.catalog import CatalogEntry, CatalogFile
from hal0.vocab import Capability, ModelId, ProviderName
from tests.fakes.hub import REVISION

Curate = Callable[..., None]


def curating(monkeypatch: pytest.MonkeyPatch) -> Curate:
    def only(model: str, *files: CatalogFile, **changes: Any) -> None:
        values = {
            "id": ModelId(model), "name": "M", "purpose": "For tests.", "license": "mit",
            "provider": ProviderName.LLAMACPP, "capabilities": frozenset({Capability.CHAT}), "recommended_for": None,
            "on_cpu": True, "context_length": 512, "cache_bytes_per_token": None, "repo": "acme/tiny",
            "revision": REVISION, "folder": "", "files": files,
        }  # fmt: skip
        entry = CatalogEntry(**{**values, **changes})
        monkeypatch.setattr(catalog, "_by_id", lambda: {entry.id: entry})

    return only


def file(name: str, data: bytes, **changes: Any) -> CatalogFile:
    """As its publisher would describe it."""
    return CatalogFile(**{"name": name, "size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), **changes})
