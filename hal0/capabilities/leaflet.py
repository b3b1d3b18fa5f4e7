"""The catalog as this machine sees it: what is here, what fits, what is recommended for which slot."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Protocol

from hal0.capabilities.loadout import Room, loadout, room_of
from hal0.capabilities.offers import Offer, fitted, least
from hal0.capabilities.prober import Found
from hal0.errors import Hal0Error
from hal0.models.catalog import CatalogEntry, entries
from hal0.models.registry import Registry
from hal0.slots.ledger import offered
from hal0.vocab import ProviderName, SlotName
from hal0.wire.catalog import CatalogEntryView, CatalogFileView, CatalogView


class Named(Protocol):
    @property
    def endpoint(self) -> str: ...


class Shops(Protocol):
    """Who knows where models come from."""

    def hub(self) -> Named:
        """Raises config.invalid."""
        ...


def of(found: Found, memory_limit: int | None, registry: Registry, shops: Shops) -> CatalogView:
    """`memory_limit`: what all slots together may have of RAM, in bytes; None: all of it."""
    room = room_of(offered(found.pools, memory_limit), found.survey)
    chosen, hub = loadout(room), None
    with suppress(Hal0Error):  # the catalog is here all the same; who asks the hub is told
        hub = shops.hub().endpoint
    return CatalogView(items=list(_items(room, chosen, registry)), memory_bytes=room.main_bytes, hub=hub)


def _items(room: Room, chosen: Mapping[SlotName, Offer | None], registry: Registry) -> Iterator[CatalogEntryView]:
    for entry in entries():
        of_slots = {slot: offer for slot, offer in chosen.items() if offer is not None and offer.entry is entry}
        fits = next(iter(of_slots.values()), None) or fitted(entry, _bytes_for(entry, room))
        offer = fits or least(entry)
        yield CatalogEntryView(
            id=entry.id,
            name=entry.name,
            purpose=entry.purpose,
            license=entry.license,
            provider=entry.provider,
            capabilities=sorted(entry.capabilities),
            size_bytes=entry.size_bytes,
            memory_bytes=offer.memory_bytes,
            context_length=entry.context_length,
            context=offer.context if entry.provider is ProviderName.LLAMACPP else None,
            files=[CatalogFileView(name=it.name, size_bytes=it.size_bytes, sha256=it.sha256) for it in entry.files],
            repo=entry.repo,
            installed=registry.get(entry.id) is not None,
            fits=fits is not None,
            slots=[str(slot) for slot in of_slots],
        )


def _bytes_for(entry: CatalogEntry, room: Room) -> int:
    """Of where its engine puts it: speech stays on the processor, and so do images without a GPU that can."""
    on_gpu = entry.provider is ProviderName.LLAMACPP or (entry.provider is ProviderName.COMFYUI and room.draws)
    return room.main_bytes if on_gpu else room.ram_bytes
