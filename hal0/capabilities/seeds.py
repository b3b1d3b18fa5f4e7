"""The seed of each built-in slot: the model that a new machine's memory is looked at for, once. Blocking."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hal0.capabilities.loadout import loadout, room_of
from hal0.capabilities.offers import Offer
from hal0.hardware.pools import pools
from hal0.hardware.snapshot import read
from hal0.slots.ledger import offered
from hal0.vocab import BUILTIN_SLOTS, SlotName


def seeds(root: Path = Path("/")) -> Mapping[SlotName, Mapping[str, Any]]:
    """Fields for the slots' tables in the first hal0.toml; names only, nothing is fetched. Never raises."""
    machine = read(root)
    chosen = loadout(room_of(offered(pools(machine), None), machine))
    return {slot: _fields(offer) for slot in BUILTIN_SLOTS if (offer := chosen.get(slot)) is not None}


def _fields(offer: Offer) -> dict[str, Any]:
    """The context only where hal0's own would not fit."""
    return {"model": offer.id, **({} if offer.context_size is None else {"context_size": offer.context_size})}
