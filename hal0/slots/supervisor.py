"""The supervisor: all slots, what dispatch and the operator ask of them, and what the engine says of them.

How slots come to be is the business of `placing`, what a new configuration does to them that of `turnover`. An
operator's verb goes to the one actor that it concerns; the engine's events only make an actor look sooner than the tick
would.
"""

import asyncio
import contextlib
import difflib
import functools
import itertools
import logging
from collections.abc import AsyncIterator, Collection, Mapping
from typing import Final

from hal0.config.root import RootConfig
from hal0.engine.base import ContainerInfo, Engine, LogLine
from hal0.errors import Hal0Error
from hal0.events.bus import Bus, Event, Topic
from hal0.lib.aside import Aside
from hal0.models.absent import NotHere
from hal0.models.registry import Registry
from hal0.providers.base import Provider
from hal0.slots import boot, verbs
from hal0.slots.adopt import LABEL_INSTANCE, LABEL_SLOT, Found
from hal0.slots.changeover import switch
from hal0.slots.effects import Stuck
from hal0.slots.happenings import EngineBack
from hal0.slots.household import Household
from hal0.slots.jobs import Job
from hal0.slots.kept import Kept
from hal0.slots.lookout import Lookout
from hal0.slots.lookup import Lookup
from hal0.slots.matching import require_match
from hal0.slots.placing import Placing
from hal0.slots.slot import Slot
from hal0.slots.tools import Tools
from hal0.slots.turnover import Turnover
from hal0.slots.verbs import Asked
from hal0.slots.warmup import STOP_S
from hal0.vocab import By, Phase, ProviderName, Role, SlotName
from hal0.wire.jobs import JobKind
from hal0.wire.slots import SlotView
from hal0.wire.system import GpuView

log = logging.getLogger(__name__)

_JUDGE_EVERY_S: Final = 60.0  # a stale container serves as well as ever: nobody is in a hurry to know
_LOOK_AGAIN_S: Final = 10.0  # a look at a few files and a question to podman, for each slot that rests
_SCAN_EVERY: Final = 6  # of these looks: reading all folders takes longer
_SCAN_S: Final = 30.0  # thousands of files on a disk that has to wake up first
_FIRST_LIST_S: Final = 2.0  # at boot; after that slots stand on their records' word


class Supervisor:
    """All slots. Implements `handle.Slots`."""

    def __init__(
        self,
        config: RootConfig,
        engine: Engine,
        registry: Registry,
        providers: Mapping[ProviderName, Provider],
        tools: Tools,
        bus: Bus,
    ) -> None:
        self._config = config
        self._engine = engine
        self._registry = registry
        self._providers = providers
        self._tools = tools
        self._bus = bus
        self._slots: dict[SlotName, Slot] = {}
        self._kept = Kept()
        self.model_facts = Lookup(registry, lambda: self._config.models.pull_on_request)
        began = tools.clock.now()
        tools.steward.settle(Household(self._slots, self.model_facts, lambda: self._config, began=began))
        self.fit = tools.steward.fit
        self._lookout = Lookout(engine, {LABEL_INSTANCE: tools.place.instance}, self)
        self._placing = Placing(self._slots, lambda: self._config, providers, tools, self, self._lookout, self._kept)
        self._turnover = Turnover(self._slots, providers, self._placing, self._kept, self._forgotten)
        self._scanning = Aside(self._scan_now)
        self._version = 0

    @property
    def engine_up(self) -> bool:
        """Podman answered when it was asked last."""
        return self._lookout.up

    # -- what dispatch sees -----------------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        return self._version

    def all(self) -> Collection[Slot]:
        return self._slots.values()

    def get(self, name: str) -> Slot | None:
        return self._slots.get(SlotName(name))

    def fits_together(self, slots: frozenset[SlotName]) -> bool:
        return self._tools.steward.fits_together(slots)

    def barred(self, slot: SlotName) -> Hal0Error | None:
        return self._tools.steward.barred(slot)

    async def switch(self, load: SlotName, unload: Collection[SlotName]) -> None:
        await switch(self.slot(load), [slot for name in unload if (slot := self.get(name)) is not None])

    # -- what slots tell and ask (`tools.Owner`) -----------------------------------------------------------------------

    def announce(self, slot: SlotName, *, routing: bool) -> None:
        if routing:
            self._version += 1
            self._tools.steward.changed()
        self._bus.announce(Topic.SLOT, slot, lambda: self._slots[slot].view().model_dump(mode="json"))

    # -- the operator's verbs ---------------------------------------------------------------------------------------

    def slot(self, name: str) -> Slot:
        """Raises slot.not_found, with the nearest name."""
        slot = self.get(name)
        if slot is None:
            near = next(iter(difflib.get_close_matches(name, self._slots, n=1)), None)
            hint = f"Did you mean {near}?" if near else None
            raise Hal0Error("slot.not_found", f"cannot find slot {name}", details={"did_you_mean": near}, hint=hint)
        return slot

    async def load(self, name: str, model: str | None = None, by: By = By.OPERATOR) -> Job:
        slot = self._engined(name)
        known = await self._known(slot, model or slot.life.desired.model, model)
        await self._hope(slot, known or slot.life.desired.model)
        return await slot.ask(Asked(JobKind.LOAD, known, by))

    async def unload(self, name: str, by: By = By.OPERATOR, *, drain_s: float | None = None) -> Job:
        """`drain_s`: how long open streams may finish this time; None: as configured."""
        return await self.slot(name).ask(Asked(JobKind.UNLOAD, None, by, drain_s))

    async def restart(self, name: str) -> Job:
        return await self._engined(name).ask(Asked(JobKind.RESTART))

    async def swap(self, name: str, model: str) -> Job:
        slot = self._engined(name)
        known = await self._known(slot, model, model)
        await self._hope(slot, known)
        return await slot.ask(Asked(JobKind.SWAP, known))

    async def _hope(self, slot: Slot, model: str | None) -> None:
        """What serves is not given up for a model that can never fit, or has yet to come; nor is one fetched in vain.

        Raises slot.memory_budget, model.not_downloaded.
        """
        current, missing = slot.life.facts.current, self.model_facts(model).missing is not None
        if slot.life.phase is Phase.READY and model is not None and current is not None and current.model != model:
            self._registry.require(model)
            await self._tools.steward.hope(slot.name, model)
        elif missing and model is not None:
            await self._tools.steward.hope(slot.name, model)

    async def reset(self, name: str) -> SlotView:
        slot = self.slot(name)
        await slot.wish(verbs.reset)
        return slot.view()

    def _engined(self, name: str) -> Slot:
        """A slot that has an engine to start. Raises slot.illegal_transition for one that stands for an upstream."""
        slot, upstream = self.slot(name), self._config.effective(name).upstream
        if upstream is not None:
            raise Hal0Error(
                "slot.illegal_transition",
                f"cannot load slot {name}: its requests go to upstream {upstream!r}, there is nothing to load",
                hint=f"hal0ctl upstream show {upstream}",
            )
        return slot

    async def _known(self, slot: Slot, wanted: str | None, asked: str | None) -> str | None:
        """The id of the model that was asked for, after a look at the disk when it is not known yet.

        One that is not here is known where it can be fetched. Raises what the registry refuses, and what the slot's
        engine does not load: a slip changes nothing.
        """
        if wanted is not None and self.model_facts(self._registry.fold(wanted)).missing is not None:
            await self._scan()
        if asked is None:
            return None
        try:
            entry = self._registry.require(asked)
        except NotHere as err:
            if err.wanted is None:
                raise
            return err.wanted.id
        require_match(entry, self._providers[slot.config.provider])
        return entry.id

    async def _scan(self) -> None:
        """Look at the models' folders. Raises slot.deadline where their filesystem does not answer."""
        if await self._scanning.within(_SCAN_S) is None:
            raise Hal0Error("slot.deadline", "cannot look for models: the filesystem they are on does not answer")

    def _scan_now(self) -> bool:
        self._registry.scan()
        return True

    def views(self) -> list[SlotView]:
        return [slot.view() for slot in self._slots.values()]

    def gpus(self) -> list[GpuView]:
        """GPUs that images and language models share."""
        return self._tools.steward.gpus.views()

    def snapshot_events(self) -> list[Event]:
        """Every slot's present value, for new listeners."""
        return [Event(Topic.SLOT, slot.name, slot.view().model_dump(mode="json")) for slot in self._slots.values()]

    def logs(self, name: str, *, tail: int | None, follow: bool) -> AsyncIterator[LogLine]:
        """The current container's log. Raises slot.not_found, or slot.offline when there is no container."""
        current = self.slot(name).life.facts.current
        if current is None:
            raise Hal0Error("slot.offline", f"slot {name} has no container, so it has no log")
        return self._engine.logs(current.id or current.name, tail=tail, follow=follow)

    # -- life -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Boot: place every slot, then run its actor. Returns when requests may be routed."""
        await self._placing.bring_up(self._config.slots, within_s=_FIRST_LIST_S)
        await self._tools.steward.look()
        self._kept.keep("events", self._lookout.follow)
        self._kept.keep("tick", self._lookout.tick)
        self._kept.keep("judge", self._judge)
        self._kept.keep("mended", self._look_again)
        self._kept.keep("steward", self._tools.steward.keep_looking)

    async def close(self) -> None:
        """End all actors. Containers stay as they are."""
        await self._kept.aclose()
        await self._tools.steward.gpus.aclose()

    async def apply(self, config: RootConfig) -> None:
        """A new valid configuration: only the slots that changed notice."""
        old, self._config = self._config, config
        if old.engine.memory_limit != config.engine.memory_limit:
            self._tools.steward.house.room_made(anew=True)
        await self._turnover.apply(old, config)

    async def gone(self, name: str) -> None:
        """Return when a slot that is configured no more is unloaded and forgotten."""
        await self._turnover.gone(SlotName(name))

    def _forgotten(self, name: SlotName) -> None:
        self._version += 1
        self._bus.publish(Topic.SLOT, name, None)

    # -- what the lookout tells (`lookout.Watch`) ---------------------------------------------------------------------

    def engine_back(self) -> None:
        for slot in self._slots.values():
            slot.post(EngineBack())

    def seen(self, infos: list[ContainerInfo]) -> None:
        found = boot.by_slot(infos)
        for slot in self._slots.values():
            slot.observe(found.pop(slot.name, []))
        for info in (info for left in found.values() for info in left):
            if (name := f"stray-{info.id}") not in self._kept:
                self._kept.keep(name, functools.partial(self._retire_stray, info), once=True)

    def ended(self, labels: Mapping[str, str]) -> None:
        slot = self.get(labels.get(LABEL_SLOT, ""))
        if slot is not None:
            slot.suspect()

    async def _judge(self) -> None:
        """Images come and go by themselves: now and then every container is compared with what would be started."""
        while True:
            for slot in list(self._slots.values()):
                await slot.judge()
            await asyncio.sleep(_JUDGE_EVERY_S)

    async def _look_again(self) -> None:
        """Images are built and models mended without a word: who rests because of them is looked at now and then."""
        for count in itertools.count():
            await asyncio.sleep(_LOOK_AGAIN_S)
            resting = [slot for slot in self._slots.values() if slot.rests]
            with contextlib.suppress(Hal0Error):  # a share that hangs, or an actor that begins anew just now
                if count % _SCAN_EVERY == 0 and any(self.model_facts(s.life.desired.model).missing for s in resting):
                    await self._scan()
                for slot in resting:
                    await slot.look_again()

    async def _retire_stray(self, info: ContainerInfo) -> None:
        """A container of ours whose slot is configured no more. If it will not go it is met again at the next look."""
        log.warning("removing %s: no slot %r is configured", info.name, info.labels.get(LABEL_SLOT))
        try:
            await self._tools.effects.retire(Found(info, answers=False).container(Role.LEAVING, {}), stop_s=STOP_S)
        except (Stuck, Hal0Error) as err:
            log.warning("cannot remove %s: %s", info.name, err)
