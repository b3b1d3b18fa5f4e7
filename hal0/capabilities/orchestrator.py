"""The capability cards over slots, images, models and this machine: shown, turned on and off, tried.

A card keeps nothing of its own: what it shows is the slot's table and the slot, so that there is no second truth to
drift from the first. Where these two differ, the card says so.
"""

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from hal0.capabilities.cards import CARDS, Child, Choice, Shelf, choices, find, npu_shown
from hal0.capabilities.plan import Now, Plan, plan
from hal0.capabilities.standing import standing
from hal0.capabilities.switching import Switching
from hal0.capabilities.trial import trial
from hal0.config.root import RootConfig
from hal0.engine.images import ImageState
from hal0.errors import Hal0Error
from hal0.events.bus import Bus, Event, Topic
from hal0.hardware.survey import Survey
from hal0.models.absent import Absent, NotHere
from hal0.models.entry import ModelEntry
from hal0.models.registry import Registry
from hal0.providers.base import Provider
from hal0.slots.jobs import Job
from hal0.slots.supervisor import Supervisor
from hal0.vocab import ProviderName, SlotName
from hal0.wire.capabilities import CardsView, CardView, HiddenView, SelectRequest, TrialView
from hal0.wire.slots import LiveView

# Images and devices come and go by themselves, slots change; a listener hears of it this much later at most.
_LOOK_EVERY_S: Final = 60.0
_TELL_EVERY_S: Final = 1.0
_FIRST_LOOK_S: Final = 5.0  # after the start, which it must not slow down


class Images(Protocol):
    """The part of `engine.images.ImageService` that cards need."""

    async def list(self) -> list[ImageState]: ...


@dataclass(frozen=True, slots=True)
class World:
    """What the cards stand on. `survey` looks at the machine; `live` is what a slot's engine tells of its work;
    `socket` is hal0's own."""

    config: Callable[[], RootConfig]
    supervisor: Supervisor
    registry: Registry
    providers: Mapping[ProviderName, Provider]
    images: Images
    survey: Callable[[], Awaitable[Survey]]
    live: Callable[[str], LiveView | None]
    bus: Bus
    socket: Path


class Orchestrator:
    """`switching` does what is planned here."""

    def __init__(self, world: World, switching: Switching) -> None:
        self._world = world
        self._switching = switching
        self._shelf: Shelf | None = None
        self._told: dict[str, CardView] = {}

    async def aclose(self) -> None:
        """End the watching of what is under way."""
        await self._switching.aclose()

    # -- shown --------------------------------------------------------------------------------------------------------

    async def cards(self) -> CardsView:
        """Every card of this machine, and which is not shown and why. Raises engine.* when podman is silent."""
        shelf = await self.look()
        fault = npu_shown(shelf)
        hidden = [] if fault is None else [_hidden("npu", fault)]
        return CardsView(items=self._cards(shelf), hidden=hidden)

    async def card(self, name: str) -> CardView:
        """Raises capability.not_found, or why the card is not shown."""
        shelf = await self.look()
        children = CARDS.get(name)
        if children is None:
            known = ", ".join(CARDS)
            raise Hal0Error("capability.not_found", f"cannot find card {name}: there are {known}")
        _shown(children[0], shelf)
        return self._card(name, children, shelf)

    # -- changed ------------------------------------------------------------------------------------------------------

    async def plan(self, card: str, name: str, asked: SelectRequest) -> Plan:
        """What `select` would do. Raises as it, and touches nothing."""
        return await self._plan(self._child(card, name), asked)

    async def turn_on(self, child: Child, asked: SelectRequest) -> Job:
        """As `select`, for a row that need not be a card's. Raises as it."""
        return self._switching.on(await self._plan(child, asked), asked)

    async def _plan(self, child: Child, asked: SelectRequest) -> Plan:
        shelf = await self.look()
        _shown(child, shelf)
        await asyncio.to_thread(self._world.registry.scan)  # what was just put there is there
        config, slot = self._world.config(), self._world.supervisor.get(child.slot)
        now = Now(
            config.effective(child.slot) if child.slot in config.slots else None,
            slot.snapshot().model if slot is not None else None,
        )
        installed = [entry.id for entry in self._models(child)]
        return plan(child, asked, now, choices(child, shelf), installed, self._known)

    async def select(self, card: str, name: str, asked: SelectRequest) -> Job:
        """Turn a row on as asked, or off. Raises what `plan.plan` refuses, capability.not_found, slot.not_found."""
        child = self._child(card, name)
        if (job := self._switching.under_way(child, asked)) is not None:
            return job
        if asked.enabled:
            return await self.turn_on(child, asked)
        if child.rides:
            raise Hal0Error("slot.illegal_transition", f"cannot switch {child.id} by itself", hint="hal0ctl cap list")
        self._world.supervisor.slot(child.slot)
        return self._switching.off(child, asked)

    async def test(self, card: str, name: str, *, timeout_s: float) -> TrialView:
        """Raises capability.not_found, or slot.not_found before the first enable."""
        child = self._child(card, name)
        slot = self._world.supervisor.slot(child.slot)
        return await trial(child, slot.name, self._world.socket, timeout_s=timeout_s)

    # -- announced ----------------------------------------------------------------------------------------------------

    def snapshot_events(self) -> list[Event]:
        """Every card, for new listeners; none before the first look."""
        shelf = self._shelf
        cards = [] if shelf is None else self._cards(shelf)
        return [Event(Topic.CAPABILITY, card.name, card.model_dump(mode="json")) for card in cards]

    async def keep_telling(self) -> None:
        """Announce cards that have changed while somebody listens; runs for ever."""
        await asyncio.sleep(_FIRST_LOOK_S)
        clock, looked_at = asyncio.get_running_loop().time, -math.inf
        while True:
            wanted, due = self._world.bus.wanted(Topic.CAPABILITY), clock() - looked_at >= _LOOK_EVERY_S
            if due and (wanted or self._shelf is None):
                looked_at = clock()
                with contextlib.suppress(Hal0Error):  # podman is silent, which is said elsewhere
                    self._tell(await self.look())
            elif wanted and self._shelf is not None:
                self._tell(self._shelf)
            await asyncio.sleep(_TELL_EVERY_S)

    def configured(self, _root: RootConfig) -> None:
        """The configuration has changed: what that changes of the cards is told."""
        if self._shelf is not None:
            asyncio.get_running_loop().call_soon(self._tell, self._shelf)

    def _tell(self, shelf: Shelf) -> None:
        cards = {card.name: card for card in self._cards(shelf)}
        for name in self._told.keys() - cards.keys():
            self._world.bus.publish(Topic.CAPABILITY, name, None)
        for name, card in cards.items():
            if self._told.get(name) != card:
                self._world.bus.publish(Topic.CAPABILITY, name, card.model_dump(mode="json"))
        self._told = cards

    # -- looked at ----------------------------------------------------------------------------------------------------

    async def look(self) -> Shelf:
        """What there is to choose from now. Raises engine.* when podman is silent."""
        world = self._world
        survey, states = await asyncio.gather(world.survey(), world.images.list())
        self._shelf = Shelf(world.providers, {state.entry.key: state for state in states}, survey)
        return self._shelf

    def _cards(self, shelf: Shelf) -> list[CardView]:
        shown = npu_shown(shelf) is None
        return [self._card(name, children, shelf) for name, children in CARDS.items() if shown or not children[0].npu]

    def _card(self, name: str, children: Sequence[Child], shelf: Shelf) -> CardView:
        config = self._world.config()
        views = []
        for child in map(self._placed, children):
            slot = self._world.supervisor.get(child.slot)
            table = config.effective(child.slot) if child.slot in config.slots else None
            offered: tuple[Choice, ...] = choices(child, shelf)
            view = slot.view() if slot is not None else None
            live = self._world.live(view.name) if view is not None and view.in_flight else None
            views.append(standing(child, table, view, offered, self._models(child), live))
        return CardView(name=name, children=views)

    def _child(self, card: str, name: str) -> Child:
        return self._placed(find(card, name))

    def _placed(self, child: Child) -> Child:
        """FLM may have been given a slot under another name; there is but one NPU."""
        if not child.npu:
            return child
        slots = self._world.config().slots
        own = next((name for name, slot in slots.items() if slot.provider is ProviderName.FLM), None)
        return child if own is None else replace(child, slot=SlotName(own))

    def _known(self, model: str) -> ModelEntry | Absent:
        """Raises what the registry refuses and nobody can fetch."""
        try:
            return self._world.registry.require(model)
        except NotHere as err:
            if err.wanted is None:
                raise
            return err.wanted

    def _models(self, child: Child) -> list[ModelEntry]:
        """Those on disk that can do it; what only FLM knows is the NPU card's alone."""
        tags = self._world.providers[ProviderName.FLM].tags
        entries = self._world.registry.entries()
        return [it for it in entries if child.capability in it.capabilities and (it.id in tags) is child.npu]


def _shown(child: Child, shelf: Shelf) -> None:
    """Raises why the child's card is not shown here."""
    if child.npu and (fault := npu_shown(shelf)) is not None:
        raise fault


def _hidden(name: str, fault: Hal0Error) -> HiddenView:
    return HiddenView(name=name, code=fault.code, reason=fault.message, hint=fault.hint)
