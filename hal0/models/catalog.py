"""The curated catalog: models worth having, with what their publishers say of them (`catalog.json`).

    entries() -> every entry, in the file's order
    find(id) -> the entry of this id, None when it has none

In the file the smallest of each task stands first: of those that fit, the last one is recommended. Which is worth
knowing and no first choice has no `recommended_for`. `attention` says of the key-value cache: blocks, key-value heads
of a block, elements of a head.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from hal0.lib import jsonio
from hal0.vocab import Capability, ModelId, ProviderName

_FILE: Final = Path(__file__).with_name("catalog.json")
_KEYS_AND_VALUES: Final = 2
_CACHE_ITEM_BYTES: Final = 2  # f16, as in `entry`


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogFile:
    """`sha256` is the published digest, None where the hub has to be asked. `url` is None for a file of the `repo`."""

    name: str
    size_bytes: int
    sha256: str | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogEntry:
    """One model. `license` as its publisher's page names it. `recommended_for` is None where it is no first choice.

    `id` is what the model is called once it is here. `folder` is where in the repository its files are.
    `cache_bytes_per_token` is of the key-value cache over all blocks, at f16; None: it has none.
    """

    id: ModelId
    name: str
    purpose: str
    license: str
    provider: ProviderName
    capabilities: frozenset[Capability]
    recommended_for: Capability | None
    on_cpu: bool
    context_length: int | None  # tokens
    cache_bytes_per_token: int | None
    repo: str | None
    revision: str
    folder: str
    files: tuple[CatalogFile, ...]

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    @property
    def mmproj_bytes(self) -> int:
        """The projector is one of `files` here, and so in the size already."""
        return 0


def entries() -> tuple[CatalogEntry, ...]:
    return tuple(_by_id().values())


def find(model: str) -> CatalogEntry | None:
    return _by_id().get(ModelId(model))


@cache
def _by_id() -> Mapping[ModelId, CatalogEntry]:
    """Blocking, once: the registry's first look at the disk, in its thread, is the first question."""
    found = jsonio.loads(_FILE.read_bytes())["models"]
    return MappingProxyType({ModelId(table["id"]): _entry(table) for table in found})


def _entry(table: Mapping[str, Any]) -> CatalogEntry:
    recommended_for = table.get("recommended_for")
    return CatalogEntry(
        id=ModelId(table["id"]),
        name=table["name"],
        purpose=table["purpose"],
        license=table["license"],
        provider=ProviderName(table["provider"]),
        capabilities=frozenset(Capability(word) for word in table["capabilities"]),
        recommended_for=None if recommended_for is None else Capability(recommended_for),
        on_cpu=table.get("on_cpu", False),
        context_length=table.get("context_length"),
        cache_bytes_per_token=_cache_bytes_per_token(table.get("attention")),
        repo=table.get("repo"),
        revision=table.get("revision", "main"),
        folder=table.get("folder", ""),
        files=tuple(CatalogFile(**file) for file in table["files"]),
    )


def _cache_bytes_per_token(attention: Mapping[str, int] | None) -> int | None:
    if attention is None:
        return None
    return attention["blocks"] * attention["heads"] * attention["head_size"] * _KEYS_AND_VALUES * _CACHE_ITEM_BYTES
