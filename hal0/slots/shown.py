"""One slot at one moment as a value: everything that others are told of it rests on this. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hal0.config.defaults import ModelDefaults
from hal0.config.slots import SlotConfig
from hal0.providers.base import Endpoint, Provider
from hal0.slots.fallback import fitted, of_model
from hal0.slots.happenings import Life
from hal0.slots.logbook import Logbook
from hal0.slots.need import NO_WEIGHTS, Weights
from hal0.slots.record import Fallback
from hal0.slots.state import shown
from hal0.vocab import Capability, Device, SlotName, SlotState


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the registry says about a slot's model right now; `missing` is a sentence when it is not here.

    `on_request`: then a request may have it fetched.
    """

    size_bytes: int = 0
    context_length: int | None = None
    demo: bool = False
    capabilities: frozenset[Capability] = frozenset()
    missing: str | None = None
    weights: Weights = NO_WEIGHTS
    riders: Mapping[Capability, str] = field(default_factory=dict)  # which models answer for a capability instead of it
    on_request: bool = False
    defaults: ModelDefaults | None = None  # what counts where the slot and its profile say nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Everything a view rests on, at one moment.

    `own` is what the slot and its profile say; `config` is that for the live model: over its defaults, under its
    fallback.
    """

    name: SlotName
    own: SlotConfig
    config: SlotConfig
    provider: Provider
    device: Device
    life: Life
    book: Logbook
    endpoint: Endpoint | None
    in_flight: int
    queued: int
    model: ModelFacts
    context_size: int | None
    unsaved: bool
    now: float

    @property
    def state(self) -> SlotState:
        quiet_s = self.now - self.book.last_used if self.book.last_used is not None else 0.0
        idle_s = self.config.idle_timeout_s
        return shown(self.life.phase, in_flight=self.in_flight, quiet_s=quiet_s, idle_timeout_s=idle_s)

    @property
    def fallback(self) -> Fallback | None:
        """How its model is started instead of as configured."""
        return of_model(self.life.facts.fallback, self.live_model)

    def config_for(self, model: str, facts: ModelFacts) -> SlotConfig:
        """As `model` would be started."""
        if model == self.live_model:
            return self.config
        return fitted(self.own, self.life.facts.fallback, model, facts.defaults)

    @property
    def live_model(self) -> str | None:
        """The model that answers for it now; when none does, the one that will."""
        return model_of(self.life)


def model_of(life: Life) -> str | None:
    """The model that a request for the slot meets: while another one comes beside it, still the present one."""
    facts = life.facts
    if life.overlaps and facts.current is not None:
        return facts.current.model
    return life.desired.model
