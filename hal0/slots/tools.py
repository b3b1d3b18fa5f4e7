"""What an actor works with, and whom it tells: handed to every slot by the supervisor."""

from dataclasses import dataclass
from typing import Protocol

from hal0.lib.clock import Clock
from hal0.slots.effects import Effects
from hal0.slots.jobs import Jobs
from hal0.slots.plan import Place
from hal0.slots.ports import PortLeases
from hal0.slots.shown import ModelFacts
from hal0.slots.starts import Starts
from hal0.slots.steward import Steward
from hal0.slots.store import SlotStore
from hal0.slots.watchers import Watchers
from hal0.vocab import SlotName


@dataclass(frozen=True, slots=True)
class Tools:
    """The same for all slots."""

    starts: Starts
    effects: Effects
    store: SlotStore
    ports: PortLeases
    steward: Steward
    jobs: Jobs
    watchers: Watchers
    clock: Clock
    place: Place


class Owner(Protocol):
    """What an actor tells and asks its supervisor."""

    def announce(self, slot: SlotName, *, routing: bool) -> None:
        """The slot changed; `routing` when a decision of the dispatcher may depend on it."""
        ...

    def model_facts(self, model: str | None) -> ModelFacts:
        """What the registry says about a model right now."""
        ...
