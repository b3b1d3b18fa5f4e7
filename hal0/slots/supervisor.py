"""The supervisor: owns every slot's actor, boots and adopts, listens to the engine, and ends without stopping anything.

Commands of the operator come in here and go to the one actor they concern; the engine's events only make an actor
look sooner than the tick would.
"""

import asyncio
import difflib
import logging
from collections.abc import AsyncIterator, Collection, Coroutine, Mapping
from typing import Final

from hal0.config.diff import Effect, diff
from hal0.config.root import RootConfig
from hal0.engine.base import ContainerInfo, ContainerStatus, Engine, EventKind, LogLine
from hal0.errors import Hal0Error
from hal0.events.bus import Bus, Event, Topic
from hal0.lib.aio import backoff_s, cancelled
from hal0.models.registry import Registry
from hal0.providers.base import Provider
from hal0.slots import boot
from hal0.slots.adopt import LABEL_INSTANCE, LABEL_SLOT, adopt
from hal0.slots.happenings import EngineBack
from hal0.slots.jobs import Job
from hal0.slots.slot import Slot
from hal0.slots.store import Remembered
from hal0.slots.tools import Tools
from hal0.slots.verbs import Asked
from hal0.slots.view import ModelFacts
from hal0.vocab import By, ProviderName, SlotName, Want
from hal0.wire.jobs import JobKind
from hal0.wire.slots import SlotView

log = logging.getLogger(__name__)

TICK_S: Final = 3.0  # every event may be lost: this is how long that can go unnoticed
_FIRST_LIST_S: Final = 2.0  # at boot; after that slots stand on their records' word
_LIST_S: Final = 5.0


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
        self._labels = {LABEL_INSTANCE: tools.place.instance}
        self._version = 0
        self._facts: dict[str | None, ModelFacts] = {}
        self._facts_version = -1
        self.engine_up = False

    # -- what dispatch sees -----------------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        return self._version

    def all(self) -> Collection[Slot]:
        return self._slots.values()

    def get(self, name: str) -> Slot | None:
        return self._slots.get(SlotName(name))

    def announce(self, slot: SlotName, *, routing: bool) -> None:
        """Implements `tools.Owner`."""
        if routing:
            self._version += 1
        self._bus.publish(Topic.SLOT, slot, self._slots[slot].view().model_dump(mode="json"))

    def model_facts(self, model: str | None) -> ModelFacts:
        """What the registry says about a model; remembered until the registry changes."""
        if self._facts_version != self._registry.version:
            self._facts.clear()
            self._facts_version = self._registry.version
        facts = self._facts.get(model)
        if facts is None:
            facts = self._facts[model] = self._look_up(model)
        return facts

    def _look_up(self, model: str | None) -> ModelFacts:
        if model is None:
            return ModelFacts()
        try:
            entry = self._registry.require(model)
        except Hal0Error as err:
            return ModelFacts(missing=err.message)
        return ModelFacts(entry.size_bytes, entry.context_length, entry.demo, entry.capabilities)

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
        slot = self.slot(name)
        return await slot.ask(Asked(JobKind.LOAD, await self._known(model or slot.life.desired.model, model), by))

    async def unload(self, name: str, by: By = By.OPERATOR) -> Job:
        return await self.slot(name).ask(Asked(JobKind.UNLOAD, None, by))

    async def restart(self, name: str) -> Job:
        return await self.slot(name).ask(Asked(JobKind.RESTART))

    async def swap(self, name: str, model: str) -> Job:
        slot = self.slot(name)
        return await slot.ask(Asked(JobKind.SWAP, await self._known(model, model)))

    async def reset(self, name: str) -> SlotView:
        slot = self.slot(name)
        await slot.reset()
        return slot.view()

    async def _known(self, wanted: str | None, asked: str | None) -> str | None:
        """The id of the model that was asked for, after a look at the disk when it is not known yet.

        Raises what the registry refuses: a typo changes nothing.
        """
        if wanted is not None and self.model_facts(self._registry.fold(wanted)).missing is not None:
            await asyncio.to_thread(self._registry.scan)
        return None if asked is None else self._registry.require(asked).id

    def views(self) -> list[SlotView]:
        return [slot.view() for slot in self._slots.values()]

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
        past = await self._tools.store.read(self._config.slots)
        infos = await self._list(_FIRST_LIST_S)
        slots = await asyncio.gather(*(self._construct(n, r, alone=infos is None) for n, r in past.items()))
        self._slots.update((slot.name, slot) for slot in slots)
        if infos is not None:
            await self._adopt(infos, past)
        else:
            self._run("late-adoption", self._adopt_later(past))
        self._run("events", self._follow_events())
        self._run("tick", self._tick())

    async def close(self) -> None:
        """End all actors. Containers stay as they are."""
        for task in list(self._tasks.values()):
            await cancelled(task)
        self._tasks.clear()

    async def apply(self, config: RootConfig) -> None:
        """A new valid configuration: only the slots that changed notice; a loaded one is replaced if it must be."""
        old, self._config = self._config, config
        changes = diff(old, config)
        reloads = {change.slot for change in changes if change.effect is Effect.RELOAD}
        for name in dict.fromkeys(change.slot for change in changes if change.slot is not None):
            slot = self.get(name)
            if name not in config.slots:
                await self._drop(name)
            elif slot is None:
                await self._add(name)
            else:
                effective = config.effective(name)
                await slot.reconfigure(effective, self._providers[effective.provider])
                if name in reloads and slot.life.desired.want is Want.LOADED:
                    await slot.ask(Asked(JobKind.RESTART, None, By.CONFIG))

    async def _add(self, name: SlotName) -> None:
        remembered = (await self._tools.store.read([name]))[name]
        slot = self._slots[name] = await self._construct(name, remembered, alone=False)
        infos = boot.by_slot(await self._list(_LIST_S) or []).get(name, [])
        await self._place(slot, infos, remembered)
        self._run(name, slot.run())

    async def _drop(self, name: SlotName) -> None:
        """A slot that is configured no more: unload it, then forget it."""
        slot = self._slots[name]
        job = await slot.ask(Asked(JobKind.UNLOAD, None, By.CONFIG))
        await job.wait()
        await cancelled(self._tasks.pop(name))
        del self._slots[name]
        self._version += 1
        self._bus.publish(Topic.SLOT, name, None)

    async def _construct(self, name: SlotName, past: Remembered, *, alone: bool) -> Slot:
        """A slot as its record has it; `alone`: podman is silent, so its engine is asked whether it still serves."""
        config, tools = self._config.effective(name), self._tools
        provider = self._providers[config.provider]
        serves = alone and await boot.still_answers(past.record, provider, past.secret, tools.watchers)
        configured = boot.configured(config, past.model)
        life = boot.on_the_records_word(past.record, configured, serves=serves, now=tools.clock.now())
        return Slot(name, config, provider, tools, self, life, record=past.record, secret=past.secret)

    async def _place(self, slot: Slot, infos: list[ContainerInfo], past: Remembered) -> None:
        tools, provider = self._tools, self._providers[slot.config.provider]
        found = await boot.ask_engines(infos, provider, past.secret, tools.watchers, tools.place)
        adoption = adopt(past.record, found, boot.configured(slot.config, past.model), tools.clock.now())
        for name in adoption.remove:
            log.info("slot %s: removing %s, which never ran", slot.name, name)
            await self._engine.remove(name)
        slot.adopt(adoption.life, past.record)
        log.info("slot %s: %s at boot (%d containers found)", slot.name, adoption.life.phase, len(infos))

    async def _adopt(self, infos: list[ContainerInfo], past: Mapping[SlotName, Remembered]) -> None:
        found = boot.by_slot(infos)
        await asyncio.gather(
            *(self._place(slot, found.pop(slot.name, []), past[slot.name]) for slot in self._slots.values())
        )
        for slot in self._slots.values():
            self._run(slot.name, slot.run())
        strays = [info for infos_left in found.values() for info in infos_left]
        if strays:
            self._run("strays", self._retire_strays(strays))

    async def _adopt_later(self, past: Mapping[SlotName, Remembered]) -> None:
        for delay_s in backoff_s(0.2, 2.0):
            infos = await self._list(_LIST_S)
            if infos is not None:
                await self._adopt(infos, past)
                return
            await asyncio.sleep(delay_s)

    async def _retire_strays(self, strays: list[ContainerInfo]) -> None:
        """Containers of ours whose slot is configured no more."""
        for info in strays:
            log.warning("removing %s: no slot %r is configured", info.name, info.labels.get(LABEL_SLOT))
            try:
                await self._engine.stop(info.id, timeout_s=20)
                await self._engine.remove(info.id)
            except Hal0Error as err:
                log.warning("cannot remove %s: %s", info.name, err.message)

    def _run(self, name: str, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(coroutine, name=f"supervisor-{name}")
        self._tasks[name] = task
        task.add_done_callback(_report)

    async def _list(self, deadline_s: float) -> list[ContainerInfo] | None:
        """All containers of this instance; None when the engine does not say in time."""
        try:
            async with asyncio.timeout(deadline_s):
                infos = await self._engine.containers(self._labels)
        except (Hal0Error, TimeoutError) as err:
            if self.engine_up:
                log.warning("podman does not answer: %s", err)
            self.engine_up = False
            return None
        if not self.engine_up:
            self.engine_up = True
            for slot in self._slots.values():
                slot.post(EngineBack())
        return infos

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            await self._look()

    async def _look(self) -> None:
        infos = await self._list(_LIST_S)
        if infos is not None:
            running = frozenset(info.name for info in infos if info.status is ContainerStatus.RUNNING)
            for slot in self._slots.values():
                slot.observe(running)

    async def _follow_events(self) -> None:
        async for event in self._engine.events(self._labels):
            if event.kind is EventKind.RESYNC:
                await self._look()
            elif event.kind in (EventKind.DIED, EventKind.REMOVED):
                slot = self.get(event.labels.get(LABEL_SLOT, ""))
                if slot is not None:
                    slot.suspect()


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("%s ended unexpectedly", task.get_name(), exc_info=error)
