"""The supervisor: owns every slot's actor, boots and adopts, listens to the engine, and ends without stopping anything.

Commands of the operator come in here and go to the one actor they concern; the engine's events only make an actor
look sooner than the tick would.
"""

import asyncio
import difflib
import functools
import logging
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Mapping
from typing import Final, TypeAlias

from hal0.config.root import RootConfig
from hal0.engine.base import ContainerInfo, Engine, LogLine
from hal0.errors import Hal0Error
from hal0.events.bus import Bus, Event, Topic
from hal0.lib.aio import backoff_s, cancelled
from hal0.models.absent import NotHere
from hal0.models.registry import Registry
from hal0.providers.base import Provider
from hal0.slots import boot, verbs
from hal0.slots.adopt import LABEL_INSTANCE, LABEL_SLOT, Found, adopt
from hal0.slots.changeover import switch
from hal0.slots.effects import Stuck
from hal0.slots.happenings import EngineBack
from hal0.slots.household import Household
from hal0.slots.jobs import Job
from hal0.slots.lookout import TICK_S, Lookout
from hal0.slots.lookup import Lookup
from hal0.slots.matching import require_match
from hal0.slots.slot import Slot
from hal0.slots.store import Remembered
from hal0.slots.tools import Tools
from hal0.slots.verbs import Asked
from hal0.slots.warmup import STOP_S
from hal0.vocab import By, Phase, ProviderName, Role, SlotName, Want
from hal0.wire.jobs import JobKind
from hal0.wire.slots import SlotView
from hal0.wire.system import GpuView

log = logging.getLogger(__name__)

_JUDGE_EVERY_S: Final = 60.0  # a stale container serves as well as ever: nobody is in a hurry to know
_FIRST_LIST_S: Final = 2.0  # at boot; after that slots stand on their records' word

Work: TypeAlias = Callable[[], Coroutine[None, None, None]]


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
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.model_facts = Lookup(registry, lambda: self._config.models.pull_on_request)
        tools.steward.settle(Household(self._slots, self.model_facts, lambda: self._config))
        self.fit = tools.steward.fit
        self._lookout = Lookout(engine, {LABEL_INSTANCE: tools.place.instance}, self)
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
            await asyncio.to_thread(self._registry.scan)
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
        past = await self._past(self._config.slots)
        infos = await self._lookout.containers(_FIRST_LIST_S)
        slots = await asyncio.gather(*(self._construct(n, r, alone=infos is None) for n, r in past.items()))
        self._slots.update((slot.name, slot) for slot in slots)
        await self._tools.steward.look()
        if infos is not None:
            await self._adopt(slots, infos, past)
        else:
            self._keep("late-adoption", lambda: self._adopt_later(slots), once=True)
        self._keep("events", self._lookout.follow)
        self._keep("tick", self._lookout.tick)
        self._keep("judge", self._judge)
        self._keep("steward", self._tools.steward.keep_looking)

    async def close(self) -> None:
        """End all actors. Containers stay as they are."""
        for task in list(self._tasks.values()):
            await cancelled(task)
        self._tasks.clear()
        await self._tools.steward.gpus.aclose()

    async def apply(self, config: RootConfig) -> None:
        """A new valid configuration: only the slots that changed notice."""
        old, self._config = self._config, config
        if old.engine.memory_limit != config.engine.memory_limit:
            self._tools.steward.house.room_made(anew=True)
        for name in map(SlotName, config.slots):
            slot = self.get(name)
            if (drop := self._tasks.pop(_dropping(name), None)) is not None:
                await cancelled(drop)  # it was on its way out, and is configured again
            if slot is None:
                await self._add(name)
            elif name not in old.slots or old.effective(name) != config.effective(name):
                effective = config.effective(name)
                await slot.reconfigure(effective, self._providers[effective.provider])
                if (renew := self._tasks.pop(f"renew-{name}", None)) is not None:
                    await cancelled(renew)  # it looked at the configuration before
                self._keep(f"renew-{name}", functools.partial(self._renew, slot), once=True)
        for name in self._slots:
            if name not in config.slots and _dropping(name) not in self._tasks:
                self._keep(_dropping(name), functools.partial(self._drop, name), once=True)

    async def gone(self, name: str) -> None:
        """Return when a slot that is configured no more is unloaded and forgotten."""
        if (drop := self._tasks.get(_dropping(SlotName(name)))) is not None:
            await asyncio.wait([drop])

    async def _add(self, name: SlotName) -> None:
        past = await self._past([name])
        infos = await self._lookout.containers()
        slot = self._slots[name] = await self._construct(name, past[name], alone=infos is None)
        if infos is not None:
            await self._adopt([slot], infos, past)
        else:
            self._keep(f"late-{name}", lambda: self._adopt_later([slot]), once=True)

    async def _renew(self, slot: Slot) -> None:
        """Replace a container that is not what is configured now; where podman is silent, when it speaks again."""
        while await slot.judge() is not None and slot.life.desired.want is Want.LOADED:
            try:
                await slot.ask(Asked(JobKind.RESTART, None, By.CONFIG))
            except Hal0Error as err:
                log.info("slot %s cannot be restarted as configured yet: %s", slot.name, err.message)
                await asyncio.sleep(TICK_S)
            else:
                break

    async def _drop(self, name: SlotName) -> None:
        """A slot that is configured no more: unload it, however long that takes, then forget it."""
        slot = self._slots[name]
        shut = slot.config.model_copy(update={"load_on_request": False})  # those who wait would load it again
        while slot.life.phase is not Phase.OFFLINE:
            try:
                await slot.reconfigure(shut, self._providers[shut.provider])
                job = await slot.ask(Asked(JobKind.UNLOAD, None, By.CONFIG))
            except Hal0Error as err:
                log.info("slot %s cannot be unloaded yet: %s", name, err.message)
                await asyncio.sleep(TICK_S)
            else:
                await job.wait()
        await cancelled(self._tasks.pop(name))
        del self._slots[name]
        del self._tasks[_dropping(name)]
        self._version += 1
        self._bus.publish(Topic.SLOT, name, None)

    async def _past(self, slots: Iterable[str]) -> Mapping[SlotName, Remembered]:
        """What the disk remembers of slots that come to be."""
        past = await self._tools.store.read(slots)
        for name, remembered in past.items():
            self._tools.steward.gpus.recall(name, remembered.gpu)
        return past

    # -- boot and adoption ------------------------------------------------------------------------------------------

    async def _construct(self, name: SlotName, past: Remembered, *, alone: bool) -> Slot:
        """A slot as its record has it; `alone`: podman is silent, so its engine is asked whether it still serves."""
        config, tools = self._config.effective(name), self._tools
        provider = self._providers[config.provider]
        serves = alone and await boot.still_answers(past.record, provider, past.secrets, tools.watchers)
        configured = boot.configured(config, past.model)
        life = boot.on_the_records_word(past.record, configured, serves=serves, now=tools.clock.now())
        return Slot(name, config, provider, tools, self, life, past)

    async def _adopt(
        self, slots: Iterable[Slot], infos: list[ContainerInfo], past: Mapping[SlotName, Remembered]
    ) -> None:
        """Place these slots beside what runs, and let their actors begin."""
        found = boot.by_slot(infos)
        await asyncio.gather(*(self._place(slot, found.get(slot.name, []), past[slot.name]) for slot in slots))
        for slot in slots:
            self._keep(slot.name, slot.run, again=functools.partial(self._place_anew, slot))

    async def _adopt_later(self, slots: Collection[Slot]) -> None:
        infos = await self._lookout.patiently()
        await self._adopt(slots, infos, await self._tools.store.read([slot.name for slot in slots]))

    async def _place_anew(self, slot: Slot) -> None:
        """A slot whose actor failed stands where a boot would place it."""
        infos = boot.by_slot(await self._lookout.patiently()).get(slot.name, [])
        past = await self._tools.store.read([slot.name])
        await self._place(slot, infos, past[slot.name])

    async def _place(self, slot: Slot, infos: list[ContainerInfo], past: Remembered) -> None:
        tools, provider = self._tools, self._providers[slot.config.provider]
        found = await boot.ask_engines(infos, provider, past.secrets, tools.watchers, tools.place)
        life = adopt(past.record, found, boot.configured(slot.config, past.model), tools.clock.now())
        slot.adopt(life, past.record)
        log.info("slot %s: %s at boot (%d containers found)", slot.name, life.phase, len(infos))

    # -- what the lookout tells (`lookout.Watch`) ---------------------------------------------------------------------

    def engine_back(self) -> None:
        for slot in self._slots.values():
            slot.post(EngineBack())

    def seen(self, infos: list[ContainerInfo]) -> None:
        found = boot.by_slot(infos)
        for slot in self._slots.values():
            slot.observe(found.pop(slot.name, []))
        for info in (info for left in found.values() for info in left):
            if (name := f"stray-{info.id}") not in self._tasks:
                self._keep(name, functools.partial(self._retire_stray, info), once=True)

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

    async def _retire_stray(self, info: ContainerInfo) -> None:
        """A container of ours whose slot is configured no more. If it will not go it is met again at the next look."""
        log.warning("removing %s: no slot %r is configured", info.name, info.labels.get(LABEL_SLOT))
        try:
            await self._tools.effects.retire(Found(info, answers=False).container(Role.LEAVING, {}), stop_s=STOP_S)
        except (Stuck, Hal0Error) as err:
            log.warning("cannot remove %s: %s", info.name, err)

    # -- tasks --------------------------------------------------------------------------------------------------------

    def _keep(self, name: str, work: Work, *, again: Work | None = None, once: bool = False) -> None:
        """Have `work` done in a task of its own; one that fails by our own mistake begins again, after `again`."""
        task = asyncio.create_task(self._kept(name, work, again, once=once), name=f"supervisor-{name}")
        self._tasks[name] = task

    async def _kept(self, name: str, work: Work, again: Work | None, *, once: bool) -> None:
        failed = False
        for delay_s in backoff_s(1.0, 60.0):
            try:
                if failed and again is not None:
                    await again()
                failed = False
                await work()
                if once:
                    break
            except Exception:  # the task's outermost line: nothing that hal0 keeps alive may end by a mistake
                log.exception("%s failed by a mistake of hal0's; it begins again in %.0f s", name, delay_s)
            failed = True
            await asyncio.sleep(delay_s)
        if self._tasks.get(name) is asyncio.current_task():
            del self._tasks[name]


def _dropping(name: SlotName) -> str:
    return f"drop-{name}"
