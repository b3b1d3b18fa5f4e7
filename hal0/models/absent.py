"""A model that is not on this machine, and what is known of it without its files."""

from dataclasses import dataclass

from hal0.errors import Hal0Error
from hal0.models.catalog import CatalogEntry
from hal0.models.records import ModelRecord
from hal0.vocab import Capability, ModelId

_GB = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """It can be fetched by its id. `size_bytes` is None, and `capabilities` are empty, where nobody has said."""

    id: ModelId
    size_bytes: int | None
    license: str | None = None  # as its publisher names it
    capabilities: frozenset[Capability] = frozenset()
    context_length: int | None = None
    cache_bytes_per_token: int | None = None


class NotHere(Hal0Error):
    """model.not_downloaded. `wanted` is None where nobody has said where it could be fetched from."""

    def __init__(self, model: str, size_bytes: int | None, wanted: Absent | None = None) -> None:
        size = "" if size_bytes is None else f" ({size_bytes / _GB:.1f} GB)"
        advice = "; put its file into the models folder" if wanted is None else ""
        super().__init__(
            "model.not_downloaded",
            f"cannot use the model {model!r}: it is not downloaded{size}{advice}",
            details={"model": model, "size_bytes": size_bytes, "license": None if wanted is None else wanted.license},
            hint=None if wanted is None else f"hal0ctl pull {model}",
        )
        self.wanted = wanted

    @property
    def sentence(self) -> str:
        """The same, as the state of a slot."""
        if self.wanted is None:
            return self.message
        size = self.wanted.size_bytes
        return f"{self.wanted.id} is not downloaded" + ("" if size is None else f", {size / _GB:.1f} GB")


def of_record(record: ModelRecord) -> Absent | None:
    """None: it was not fetched, so it cannot be fetched again."""
    return None if record.source is None else Absent(id=record.id, size_bytes=record.size_bytes, license=record.license)


def of_catalog(entry: CatalogEntry) -> Absent:
    return Absent(
        id=entry.id,
        size_bytes=entry.size_bytes,
        license=entry.license,
        capabilities=entry.capabilities,
        context_length=entry.context_length,
        cache_bytes_per_token=entry.cache_bytes_per_token,
    )
