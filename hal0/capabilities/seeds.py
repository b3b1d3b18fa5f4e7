"""The seed of each built-in slot: the model that a new machine's memory is looked at for, once. Blocking."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from hal0.capabilities.loadout import loadout, room_of
from hal0.capabilities.offers import Offer
from hal0.engine.program import printed
from hal0.hardware import nvidia, survey
from hal0.hardware.pools import pools
from hal0.hardware.survey import Survey
from hal0.slots.ledger import offered
from hal0.vocab import BUILTIN_SLOTS, SlotName

_ASK_S: Final = 5.0  # a GPU that sleeps is woken by the question


def seeds(root: Path = Path("/"), ask: Sequence[str] = nvidia.CARDS_COMMAND) -> Mapping[SlotName, Mapping[str, Any]]:
    """Fields for the slots' tables in the first hal0.toml; names only, nothing is fetched. Never raises.

    `ask` tells what NVIDIA's GPUs have, where there are some. No event loop may run yet.
    """
    found = survey.read(root)
    if nvidia.present(root):
        lines = asyncio.run(printed(ask, timeout_s=_ASK_S))
        found = _told(found, lines or ())
    chosen = loadout(room_of(offered(pools(found.machine), None), found))
    return {slot: _fields(offer) for slot in BUILTIN_SLOTS if (offer := chosen.get(slot)) is not None}


def _told(found: Survey, lines: Sequence[str]) -> Survey:
    figures = nvidia.parse_cards(lines)
    gpus = tuple(nvidia.with_memory(gpu, figures) for gpu in found.machine.gpus)
    return replace(found, machine=replace(found.machine, gpus=gpus))


def _fields(offer: Offer) -> dict[str, Any]:
    """The context only where hal0's own would not fit."""
    return {"model": offer.id, **({} if offer.context_size is None else {"context_size": offer.context_size})}
