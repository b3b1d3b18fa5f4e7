"""Capability cards as seen over HTTP: what each stands for, what it may run on, and how it is."""

from typing import Any

from hal0.vocab import Capability, Device, ProviderName
from hal0.wire.base import View
from hal0.wire.slots import LiveView


class ChoiceView(View):
    """One provider and device that an image declares; where this machine is not `ready`, `code` and `reason` tell."""

    provider: ProviderName
    device: Device
    image: str
    ready: bool
    code: str | None
    reason: str


class CandidateView(View):
    """A model that this row could have. `installed`: it is on disk."""

    model: str
    size_bytes: int
    installed: bool


class DriftView(View):
    """Where the slot is not as the card says: `card` is what is configured, `slot` what runs."""

    key: str
    card: str
    slot: str


class ChildView(View):
    """One row of a card: what it does, and the slot that does it.

    `switch`: it can be turned on and off by itself. `state` is the slot's, "absent" before the first enable.
    """

    name: str
    capability: Capability
    path: str
    slot: str
    switch: bool
    enabled: bool
    state: str
    message: str
    provider: ProviderName | None
    device: Device | None
    model: str | None
    memory_bytes: int | None
    in_flight: int
    live: LiveView | None  # only while the slot answers somebody
    port: int | None
    choices: list[ChoiceView]
    models: list[CandidateView]
    drift: list[DriftView]


class CardView(View):
    name: str
    children: list[ChildView]


class HiddenView(View):
    """A card that is not shown on this machine, and why."""

    name: str
    code: str
    reason: str
    hint: str


class CardsView(View):
    items: list[CardView]
    hidden: list[HiddenView]


class SelectRequest(View):
    """Turn a row on (or off); what is left out stays as it is, or is chosen. `context_size` in tokens."""

    enabled: bool = True
    model: str | None = None
    provider: ProviderName | None = None
    device: Device | None = None
    context_size: int | None = None


class PlanView(View):
    """What turning a row on would do: `steps` in words, `fields` as they would stand in the slot's table."""

    slot: str
    creates: bool
    model: str
    fields: dict[str, Any]
    steps: list[str]


class TrialView(View):
    """One small real request through hal0. `took_ms` includes a load, if there was one."""

    ok: bool
    message: str
    code: str | None
    slot: str
    took_ms: float
    request_id: str | None
