"""What a slot is at this moment: its life, its book, its configuration, and everything that is read from them.

Written by the slot's actor alone, one whole value after the other; read by everybody, at any moment.
"""

from dataclasses import replace
from typing import Any, Final, NamedTuple

from hal0.config.slots import SlotConfig
from hal0.lib.clock import Clock
from hal0.providers.base import Endpoint, Provider, Trial
from hal0.slots import fallback, logbook, timers, warmup
from hal0.slots.happenings import Life
from hal0.slots.loading import Expected
from hal0.slots.plan import Place, context_of, resolve_device
from hal0.slots.record import Container, SlotRecord, SwapStep
from hal0.slots.routing import address_of, endpoint_of
from hal0.slots.shown import ModelFacts, Shown, model_of
from hal0.slots.starts import Subject
from hal0.slots.store import Remembered
from hal0.slots.tools import Owner
from hal0.slots.watchers import Watched
from hal0.vocab import Device, Phase, SlotName


class _Derived(NamedTuple):
    """What follows from the life and the configuration: the model that a request meets, where, and how it started."""

    life: Life
    model: str | None
    facts: ModelFacts
    endpoint: Endpoint | None
    config: SlotConfig
    device: Device


class Present:
    """`secrets` by generation: what the engines in the slot's containers must be shown."""

    def __init__(
        self,
        name: SlotName,
        config: SlotConfig,
        provider: Provider,
        life: Life,
        past: Remembered,
        *,
        clock: Clock,
        place: Place,
        owner: Owner,
    ) -> None:
        self.name: Final = name
        self.life = life
        self.book = logbook.opened(past.record, life.phase, clock.now())
        self.provider = provider
        self.secrets = dict(past.secrets)
        self._fitting = fallback.Fitting(config)
        self._clock = clock
        self._place = place
        self._owner = owner
        self._known: _Derived | None = None

    @property
    def now(self) -> float:
        return self._clock.now()

    @property
    def config(self) -> SlotConfig:
        """As the model that a request meets is started: as configured, or by the fallback that is tried instead."""
        return self._derived.config

    def _config_of(self, model: str | None) -> SlotConfig:
        return self._fitting.to(self.life.facts.fallback, model, self._owner.model_facts(model).defaults)

    def learn(self, **facts: Any) -> None:
        """Take these facts over into the life."""
        self.life = replace(self.life, facts=replace(self.life.facts, **facts))

    def configure(self, config: SlotConfig, provider: Provider) -> None:
        """New configuration; what is started differently now gets its own try."""
        if fallback.left_by(self._fitting.own, config):
            self.learn(fallback=None, starts_failed=0)
        self._fitting, self.provider, self._known = fallback.Fitting(config), provider, None

    def placed(self, life: Life, record: SlotRecord | None) -> None:
        """Where the slot really stands, from a look at what runs."""
        self.life, self.book = life, logbook.opened(record, life.phase, self.now)

    # -- what is read from it ---------------------------------------------------------------------------------------

    @property
    def model(self) -> ModelFacts:
        """Of the model that a request meets."""
        return self._derived.facts

    @property
    def endpoint(self) -> Endpoint | None:
        """Where a request may go now."""
        return self._derived.endpoint

    @property
    def _derived(self) -> "_Derived":
        """Requests ask for it twice each, and rarely is it another one."""
        known = self._known
        if known is None or known.life is not self.life or known.facts is not self._owner.model_facts(known.model):
            model = model_of(self.life)
            endpoint, config = endpoint_of(self.life, self.provider, self.secrets), self._config_of(model)
            facts = self._owner.model_facts(model)
            known = _Derived(self.life, model, facts, endpoint, config, self._device(config))
            self._known = known
        return known

    def _device(self, config: SlotConfig) -> Device:
        return resolve_device(config, self.provider, self._place)

    def subject(self, model: str | None) -> Subject:
        """The slot as it starts `model`."""
        return Subject(self.name, self._config_of(model), self.provider)

    def deadline(self, phase: Phase) -> float:
        """When `phase`, entered now, must have ended."""
        size = self._owner.model_facts(self.life.desired.model).size_bytes
        return timers.deadline(phase, self.now, self.config, size, self.book)

    def step_deadline(self, step: SwapStep, to_model: str) -> float:
        """When `step` of a swap by overlap, begun now, must have ended."""
        size = self._owner.model_facts(to_model).size_bytes
        return timers.step_deadline(step, self.now, self._config_of(to_model), size, self.book)

    def watched(self, container: Container) -> Watched:
        """What its watchers must know of a container of the slot."""
        model, book = self._owner.model_facts(container.model), self.book
        config = self._config_of(container.model)
        trial = Trial(container.model, model.capabilities, config.extra_args)
        usual_s, began = warmup.expected_s(book.history, container.model), book.load_started or book.since
        return Watched(
            container,
            self.provider,
            address_of(container, self.provider, self.secrets),
            Expected(model.size_bytes, usual_s, began),
            trial if config.verify_on_load else None,
            on_gpu=self._device(config) not in (Device.CPU, Device.NPU),
        )

    def shown(self, *, in_flight: int, queued: int, unsaved: bool) -> Shown:
        """Everything that is known of it at this moment, as one value."""
        known, model = self._derived, self.model
        life, config = known.life, known.config
        return Shown(
            name=self.name,
            own=self._fitting.own,
            config=config,
            provider=self.provider,
            device=known.device,
            life=life,
            book=self.book,
            endpoint=known.endpoint,
            in_flight=in_flight,
            queued=queued,
            model=model,
            context_size=context_of(config, model.context_length) if life.desired.model else None,
            unsaved=unsaved,
            now=self.now,
        )
