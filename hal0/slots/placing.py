"""How slots come to be: placed beside what runs at boot, when they are configured, and after a mistake of ours."""

import asyncio
import functools
import logging
from collections.abc import Callable, Collection, Iterable, Mapping

from hal0.config.root import RootConfig
from hal0.engine.base import ContainerInfo
from hal0.providers.base import Provider
from hal0.slots import boot
from hal0.slots.adopt import adopt
from hal0.slots.kept import Kept
from hal0.slots.lookout import LIST_S, Lookout
from hal0.slots.slot import Slot
from hal0.slots.store import Remembered
from hal0.slots.tools import Owner, Tools
from hal0.vocab import ProviderName, SlotName

log = logging.getLogger(__name__)


class Placing:
    """Puts slots into the supervisor's table, and their actors' tasks into `kept`. `config` is what is in force."""

    def __init__(
        self,
        slots: dict[SlotName, Slot],
        config: Callable[[], RootConfig],
        providers: Mapping[ProviderName, Provider],
        tools: Tools,
        owner: Owner,
        lookout: Lookout,
        kept: Kept,
    ) -> None:
        self._slots = slots
        self._config = config
        self._providers = providers
        self._tools = tools
        self._owner = owner
        self._lookout = lookout
        self._kept = kept

    async def bring_up(self, names: Iterable[str], *, within_s: float = LIST_S) -> None:
        """New slots: where podman says in time what runs they are placed by that, else they wait for it.

        Returns when requests may be routed to them.
        """
        past = await self._past(names)
        infos = await self._lookout.containers(within_s)
        slots = await asyncio.gather(*(self._construct(n, r, alone=infos is None) for n, r in past.items()))
        self._slots.update((slot.name, slot) for slot in slots)
        if infos is not None:
            await self._adopt(slots, infos, past)
        else:
            self._kept.keep(f"adopt-{'-'.join(past)}", lambda: self._adopt_later(slots), once=True)

    async def _past(self, names: Iterable[str]) -> Mapping[SlotName, Remembered]:
        """What the disk remembers of slots that come to be."""
        past = await self._tools.store.read(names)
        for name, remembered in past.items():
            self._tools.steward.gpus.recall(name, remembered.gpu)
        return past

    async def _construct(self, name: SlotName, past: Remembered, *, alone: bool) -> Slot:
        """A slot as its record has it; `alone`: podman is silent, so its engine is asked whether it still serves."""
        config, tools = self._config().effective(name), self._tools
        provider = self._providers[config.provider]
        serves = alone and await boot.still_answers(past.record, provider, past.secrets, tools.watchers)
        configured = boot.configured(config, past.model)
        life = boot.on_the_records_word(past.record, configured, serves=serves, now=tools.clock.now())
        return Slot(name, config, provider, tools, self._owner, life, past)

    async def _adopt(
        self, slots: Iterable[Slot], infos: list[ContainerInfo], past: Mapping[SlotName, Remembered]
    ) -> None:
        """Place these slots beside what runs, and let their actors begin."""
        found = boot.by_slot(infos)
        await asyncio.gather(*(self._place(slot, found.get(slot.name, []), past[slot.name]) for slot in slots))
        for slot in sorted(slots, key=lambda slot: -slot.config.priority):
            if self._slots.get(slot.name) is not slot:  # taken out of the configuration meanwhile
                continue
            self._kept.keep(slot.name, slot.run, again=functools.partial(self._place_anew, slot))

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
        found = await boot.ask_engines(infos, provider, past, tools.watchers, tools.place)
        life = adopt(past.record, found, boot.configured(slot.config, past.model), tools.clock.now())
        slot.adopt(life, past.record)
        log.info("slot %s: %s at boot (%d containers found)", slot.name, life.phase, len(infos))
