"""What a new configuration does to slots: who is new comes, who has changed notices, who is in it no more leaves."""

import asyncio
import functools
import logging
from collections.abc import Callable, Mapping

from hal0.config.root import RootConfig
from hal0.errors import Hal0Error
from hal0.providers.base import Provider
from hal0.slots.kept import Kept
from hal0.slots.lookout import TICK_S
from hal0.slots.placing import Placing
from hal0.slots.slot import Slot
from hal0.slots.verbs import Asked
from hal0.vocab import By, Phase, ProviderName, SlotName, Want
from hal0.wire.jobs import JobKind

log = logging.getLogger(__name__)


class Turnover:
    """Over the supervisor's table of slots; `forgotten` is told who was taken out of it."""

    def __init__(
        self,
        slots: dict[SlotName, Slot],
        providers: Mapping[ProviderName, Provider],
        placing: Placing,
        kept: Kept,
        forgotten: Callable[[SlotName], None],
    ) -> None:
        self._slots = slots
        self._providers = providers
        self._placing = placing
        self._kept = kept
        self._forgotten = forgotten

    async def apply(self, old: RootConfig, new: RootConfig) -> None:
        """`new` is in force already; only the slots that changed notice."""
        for name in map(SlotName, new.slots):
            await self._kept.end(_dropping(name))  # it was on its way out, and is configured again
            if (slot := self._slots.get(name)) is None:
                await self._placing.bring_up([name])
            elif name not in old.slots or old.effective(name) != new.effective(name):
                effective = new.effective(name)
                await slot.reconfigure(effective, self._providers[effective.provider])
                await self._kept.end(f"renew-{name}")  # it looked at the configuration before
                self._kept.keep(f"renew-{name}", functools.partial(self._renew, slot), once=True)
        for name in self._slots:
            if name not in new.slots and _dropping(name) not in self._kept:
                self._kept.keep(_dropping(name), functools.partial(self._drop, name), once=True)

    async def gone(self, name: SlotName) -> None:
        """Return when a slot that is configured no more is unloaded and forgotten."""
        await self._kept.ended(_dropping(name))

    async def _renew(self, slot: Slot) -> None:
        """Replace a container that is not what is configured now; where podman is silent, when it speaks again."""
        while await slot.judge() is not None and slot.life.desired.want is Want.LOADED:
            try:
                error = (await (await slot.ask(Asked(JobKind.RESTART, None, By.CONFIG))).wait()).error
            except Hal0Error as err:
                log.info("slot %s cannot be restarted as configured yet: %s", slot.name, err.message)
            else:
                if error is None or error["code"] != "state.write_failed":
                    break  # it was replaced, or is as it comes up: only a full disk leaves it as it was
            await asyncio.sleep(TICK_S)

    async def _drop(self, name: SlotName) -> None:
        """A slot that is configured no more: unload it, however long that takes, then forget it."""
        slot = self._slots[name]
        shut = slot.config.model_copy(update={"load_on_request": False})  # those who wait would load it again
        while not _unloaded(slot):
            try:
                await slot.reconfigure(shut, self._providers[shut.provider])
                job = await slot.ask(Asked(JobKind.UNLOAD, None, By.CONFIG))
            except Hal0Error as err:
                log.info("slot %s cannot be unloaded yet: %s", name, err.message)
            else:
                await job.wait()
            if not _unloaded(slot):  # such as for a disk that is full: it says so at once
                await asyncio.sleep(TICK_S)
        await self._kept.end(name)
        del self._slots[name]
        self._forgotten(name)


def _unloaded(slot: Slot) -> bool:
    return slot.life.phase is Phase.OFFLINE


def _dropping(name: SlotName) -> str:
    return f"drop-{name}"
