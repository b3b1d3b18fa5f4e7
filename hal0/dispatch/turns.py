"""What turns among slots are made of: rules, requests, what happens, what is decided. Pure; `schedule` decides."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from hal0.vocab import SlotName

Fits: TypeAlias = Callable[[frozenset[SlotName]], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What turns rest on; durations in seconds.

    `fits`: may these slots be loaded at the same time (`slots.budget.fits_together`)? `handover_s`: from the decision
    to a slot's first request, by its history: what runs elsewhere ends, the load. `room`: how many requests a slot
    takes at once (absent: any number). `pinned`: slots that never make way.
    """

    fits: Fits
    max_wait_s: float = 60.0  # what a plain request is held for a load by default
    min_residency_s: float = 5.0  # a load is worth some work: below that the machine only loads
    settle_s: float = 0.25  # requests sent together arrive within that: an idle slot stays so long for its share
    handover_s: Mapping[SlotName, float] = field(default_factory=dict)
    room: Mapping[SlotName, int] = field(default_factory=dict)
    pinned: frozenset[SlotName] = frozenset()


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `key` is whose share it counts to (API key or caller). `arrived` on the caller's clock."""

    id: str
    slot: SlotName
    key: str
    arrived: float


@dataclass(frozen=True, slots=True)
class Turn:
    """A change under way: these leave, then `slot` is loaded. `begun`: the switch has been ordered."""

    slot: SlotName
    leaving: frozenset[SlotName]
    begun: bool = False


@dataclass(frozen=True, slots=True)
class Schedule:
    """`resident`: loaded slots and since when; `waiting` in order of arrival; `served`: requests per key, as shares."""

    resident: Mapping[SlotName, float] = field(default_factory=dict)
    waiting: tuple[Request, ...] = ()
    running: Mapping[str, Request] = field(default_factory=dict)
    served: Mapping[str, int] = field(default_factory=dict)
    turn: Turn | None = None


@dataclass(frozen=True, slots=True)
class Arrived:
    request: Request


@dataclass(frozen=True, slots=True)
class Ended:
    """A request is over, or its client left the line."""

    id: str


@dataclass(frozen=True, slots=True)
class Ready:
    """A slot is loaded, whoever asked for it."""

    slot: SlotName


@dataclass(frozen=True, slots=True)
class Gone:
    """A slot is not loaded any more: unloaded by somebody, or it crashed."""

    slot: SlotName


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """The load that a switch asked for has failed."""

    slot: SlotName


@dataclass(frozen=True, slots=True)
class Tick:
    """The moment that `next_at` named."""


Event: TypeAlias = Arrived | Ended | Ready | Gone | LoadFailed | Tick


@dataclass(frozen=True, slots=True)
class Admit:
    """This request goes in now."""

    id: str


@dataclass(frozen=True, slots=True)
class Switch:
    """Unload these, which have no request left, then load `load`; ends in `Ready` or `LoadFailed`."""

    load: SlotName
    unload: tuple[SlotName, ...]


@dataclass(frozen=True, slots=True)
class Drop:
    """The load this request waited for has failed: it is told why."""

    id: str


Decision: TypeAlias = Admit | Switch | Drop
