"""The catalog of recommended models as seen over HTTP."""

from hal0.vocab import Capability, ProviderName
from hal0.wire.base import View


class CatalogFileView(View):
    """`sha256` is null where the hub is asked for it when the file is fetched."""

    name: str
    size_bytes: int
    sha256: str | None


class CatalogEntryView(View):
    """One model: `hal0ctl pull ID` fetches it.

    `memory_bytes` is what it takes once it is loaded with a context of `context` tokens: the longest that fits here up
    to hal0's own, the shortest where none `fits`. `slots` are those that it is recommended for on this machine.
    """

    id: str
    name: str
    purpose: str
    license: str
    provider: ProviderName
    capabilities: list[Capability]
    size_bytes: int
    memory_bytes: int
    context_length: int | None
    context: int | None
    files: list[CatalogFileView]
    repo: str | None
    installed: bool
    fits: bool
    slots: list[str]


class CatalogView(View):
    """`memory_bytes` is what models may take on this machine, where they go by themselves. They come from `hub`,
    null where its address is none."""

    items: list[CatalogEntryView]
    memory_bytes: int
    hub: str | None
