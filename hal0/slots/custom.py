"""What hal0 changes about slots in the configuration, and at once for real: made, deleted, pinned; and what it says."""

import asyncio
import functools
from collections.abc import Callable, Mapping
from typing import Any

from hal0.config import custom, table
from hal0.config.custom import Draft, Sources
from hal0.config.live import LiveConfig
from hal0.config.load import Loaded
from hal0.config.table import Kept
from hal0.errors import Hal0Error
from hal0.lib.aio import ToTheEnd
from hal0.slots.resolved import resolved
from hal0.slots.store import SlotStore
from hal0.slots.supervisor import Supervisor
from hal0.wire.jobs import JobState
from hal0.wire.resolved import ResolvedView
from hal0.wire.slots import SlotView


class CustomSlots:
    """What is begun here ends, also when its caller leaves: a slot is made or not, deleted or not."""

    def __init__(self, live: LiveConfig, supervisor: Supervisor, store: SlotStore) -> None:
        self._live = live
        self._supervisor = supervisor
        self._store = store
        self._to_the_end = ToTheEnd()
        self._leaving: set[str] = set()

    async def draft(self, name: str, fields: Mapping[str, Any]) -> Draft:
        """What `create` would write. Raises as `create`, and changes nothing."""
        return await asyncio.to_thread(custom.draft, self._live.sources, name, fields)

    async def create(self, name: str, fields: Mapping[str, Any]) -> SlotView:
        """A new slot, configured by `fields` (SlotConfig's). Raises config.invalid, slot.reserved or slot.exists."""
        return await self._to_the_end.run(self._create(name, fields))

    async def delete(self, name: str) -> None:
        """Unload the slot, take it out of the configuration, and forget it: all of its state.

        Raises slot.not_found, slot.reserved, slot.pinned, and whatever keeps it from being unloaded.
        """
        slot = self._supervisor.slot(name)
        custom.deletable(slot.name)
        if slot.view().pinned:
            raise Hal0Error(
                "slot.pinned", f"cannot delete slot {name}: it is pinned", hint=f"hal0ctl slot unpin {name}"
            )
        await self._to_the_end.run(self._delete(name))

    async def pin(self, name: str, *, pinned: bool) -> SlotView:
        """Never unload the slot to make room, or do: in its configuration, so that it stays so.

        Raises slot.not_found, config.conflict or state.write_failed.
        """
        slot = self._supervisor.slot(name)
        if slot.view().pinned != pinned:
            await self.put(name, {"pinned": pinned})
        return slot.view()

    async def put(self, name: str, fields: Mapping[str, Any]) -> Kept:
        """Set these fields at once; a slot that is not there is made, a reserved one too. Raises as `table.put`."""
        return await self._to_the_end.run(self._put(name, fields))

    async def put_back(self, name: str, kept: Kept) -> None:
        """The slot's file as it was before `put`; a slot that was made by it is unloaded and forgotten.

        Raises config.conflict when somebody has changed the file since.
        """
        await self._to_the_end.run(self._changed(name, functools.partial(table.put_back, kept=kept)))

    async def edit(self, write: Callable[[Sources], Loaded]) -> None:
        """Change the configuration by `write`; in force when this returns. Raises what `write` raises."""
        await self._to_the_end.run(self._live.edit(write, self._supervisor.apply))

    def resolved(self, name: str) -> ResolvedView:
        """How the slot would be started, and who said each of it. Raises slot.not_found."""
        return resolved(self._supervisor.slot(name).asked(self._live.root, self._live.origins))

    async def close(self) -> None:
        await self._to_the_end.aclose()

    async def _create(self, name: str, fields: Mapping[str, Any]) -> SlotView:
        self._not_leaving(name)
        write = functools.partial(custom.add, name=name, fields=fields)
        await self._live.edit(write, self._supervisor.apply)
        return self._supervisor.slot(name).view()

    async def _put(self, name: str, fields: Mapping[str, Any]) -> Kept:
        self._not_leaving(name)
        written: list[Kept] = []

        def write(sources: Sources) -> Loaded:
            loaded, kept = table.put(sources, name, fields)
            written.append(kept)
            return loaded

        await self._live.edit(write, self._supervisor.apply)
        return written[0]

    def _not_leaving(self, name: str) -> None:
        """The state of the old one would be taken for the new one's. Raises slot.exists."""
        if name in self._leaving:
            raise Hal0Error("slot.exists", f"cannot create slot {name}: the old one is still being deleted")

    async def _delete(self, name: str) -> None:
        view = await (await self._supervisor.unload(name)).wait()
        if view.error is not None:
            raise Hal0Error(view.error["code"], view.error["message"], details=view.error["details"])
        if view.state is not JobState.DONE:
            raise Hal0Error("slot.illegal_transition", f"cannot delete slot {name}: its unload was {view.state}")
        await self._changed(name, functools.partial(custom.take_away, name=name))

    async def _changed(self, name: str, write: Callable[[Sources], Loaded]) -> None:
        """In force; a slot that it takes away is gone with all of its state."""
        self._leaving.add(name)
        try:
            await self._live.edit(write, self._supervisor.apply)
            await self._supervisor.gone(name)
            if self._supervisor.get(name) is None:  # nobody put it back into a file meanwhile
                await self._store.forget(name)
        finally:
            self._leaving.discard(name)
