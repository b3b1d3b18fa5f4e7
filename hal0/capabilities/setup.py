"""The setup of a machine: what is proposed for its slots, and one piece of work that fetches and loads it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from hal0.capabilities.cards import Child, Shelf, choices
from hal0.capabilities.installing import Hands, Installing, Pulls
from hal0.capabilities.loadout import Room, loadout, room_of
from hal0.capabilities.offers import Offer, fitted, least
from hal0.capabilities.orchestrator import Orchestrator, World
from hal0.capabilities.picture import label
from hal0.capabilities.prober import Prober
from hal0.capabilities.proposal import ROWS, Standing, Suggestion, chosen, propose
from hal0.errors import Hal0Error
from hal0.lib.aio import cancelled
from hal0.models import catalog
from hal0.models.absent import NotHere
from hal0.models.entry import ModelEntry
from hal0.slots.handle import SlotSnapshot
from hal0.slots.jobs import Job, Jobs
from hal0.slots.ledger import offered
from hal0.vocab import By, SlotName, Want
from hal0.wire.capabilities import SelectRequest
from hal0.wire.jobs import JobKind
from hal0.wire.setup import SetupRequest, SetupView, SuggestionView

_TARGET: Final = "this machine"


@dataclass(frozen=True, slots=True)
class _Own:
    """A model that a slot has already, as an offer. Implements `proposal.Offer`."""

    id: str
    license: str
    size_bytes: int
    memory_bytes: int
    purpose: str = "what it has already"
    context_size: int | None = None


class Setup:
    """One setup at a time; who asks again gets the one under way."""

    def __init__(
        self, world: World, cards: Orchestrator, prober: Prober, jobs: Jobs, pulls: Callable[[], Awaitable[Pulls]]
    ) -> None:
        self._world = world
        self._cards = cards
        self._prober = prober
        self._jobs = jobs
        self._hands = Hands(cards=cards, registry=world.registry, jobs=jobs, pulls=pulls)
        self._under_way: tuple[Job, Installing, asyncio.Task[None]] | None = None

    async def view(self) -> SetupView:
        """The proposal for this machine as it is now. Raises engine.* when podman is silent."""
        shelf, room, items = await self._proposal()
        disk = (await self._prober.look()).disks.get("models")
        views = [self._view(it) for it in items]
        return SetupView(
            machine=label(shelf.survey.host, shelf.survey.machine),
            memory_bytes=room.main_bytes,
            on_gpu=room.gpu_bytes is not None,
            needed_bytes=sum(it.memory_bytes for it in views),
            download_bytes=sum(it.size_bytes for it in views if not it.installed),
            disk_free_bytes=disk.free_bytes if disk else None,
            items=views,
        )

    async def start(self, asked: SetupRequest) -> Job:
        """Raises slot.not_found for a slot that setup does not know, model.* for a name that stands for no model,
        engine.* when podman is silent."""
        for slot in asked.slots or ():
            if slot not in ROWS:
                known = ", ".join(ROWS)
                raise Hal0Error("slot.not_found", f"cannot set up {slot[:100]}: setup knows {known}", param="slots")
        if (job := self._job()) is None:
            _, room, items = await self._proposal()
            for model in (asked.slots or {}).values():
                self._require(model)
            wanted = chosen(items, asked.slots, lambda model: _known(model, room))
            job = self._job() or self._begin(wanted)  # somebody may have been quicker
        return job

    def _require(self, model: str) -> None:
        """What is not here has to be fetched from somewhere."""
        try:
            self._world.registry.require(model)
        except Hal0Error as err:
            elsewhere = "/" in model or (isinstance(err, NotHere) and err.wanted is not None)
            if not elsewhere:
                raise

    def _job(self) -> Job | None:
        """The one under way."""
        return self._under_way[0] if self._under_way is not None and not self._under_way[0].ended else None

    def _begin(self, wanted: Mapping[SlotName, SelectRequest]) -> Job:
        job = self._jobs.start(JobKind.SETUP, _TARGET, By.OPERATOR)
        work = Installing(self._hands, job, wanted)
        task = asyncio.create_task(work.run(), name="setup")
        self._under_way = (job, work, task)

        def give_up() -> None:
            job.on_cancel = None  # it is being cleared up after: that is not given up half way
            task.cancel()

        job.on_cancel = give_up
        return job

    async def aclose(self) -> None:
        """End the watching; downloads and loads go on from where they are at the next start."""
        if self._under_way is not None:
            _, work, task = self._under_way
            work.closing = True
            await cancelled(task)

    # -- looked at ----------------------------------------------------------------------------------------------------

    async def _proposal(self) -> tuple[Shelf, Room, list[Suggestion]]:
        shelf, found = await asyncio.gather(self._cards.look(), self._prober.look())
        await asyncio.to_thread(self._world.registry.scan)
        by_slot = {slot: choices(child, shelf) for slot, child in ROWS.items()}
        room = room_of(offered(found.pools, self._world.config().engine.memory_limit), found.survey)
        standings = {slot: self._standing(child, room) for slot, child in ROWS.items()}
        return shelf, room, propose(loadout(room), by_slot, standings)

    def _standing(self, child: Child, room: Room) -> Standing:
        slot, config = self._world.supervisor.get(child.slot), self._world.config()
        if slot is None or child.slot not in config.slots:
            return Standing()
        if (upstream := config.effective(child.slot).upstream) is not None:
            return Standing(why=f"its requests go to upstream {upstream}")
        seen, view = slot.snapshot(), slot.view()
        why, entry = "" if seen.load_on_request else "it is turned off", self._world.registry.get(seen.model or "")
        if seen.model is None or (entry is not None and entry.demo):
            return Standing(why=why)
        if entry is not None:
            memory = view.memory.need_bytes if view.memory is not None else entry.size_bytes
            return Standing(_own(entry, memory), why, done=_settled(seen, view.desired.by))
        if (known := _known(seen.model, room)) is None:
            return Standing(why=f"it has {seen.model}, which is not downloaded")
        return Standing(known, why)

    def _view(self, it: Suggestion) -> SuggestionView:
        offer = it.offer
        return SuggestionView(
            slot=it.child.slot,
            capability=it.child.capability,
            model=offer.id if offer else None,
            purpose=offer.purpose if offer else "",
            license=offer.license if offer else "",
            size_bytes=offer.size_bytes if offer else 0,
            memory_bytes=offer.memory_bytes if offer else 0,
            device=it.device,
            installed=offer is not None and self._world.registry.get(offer.id) is not None,
            done=it.done,
            why=it.why,
        )


def _known(model: str, room: Room) -> Offer | None:
    """What the catalog has of a model, with the context that there is room for."""
    entry = catalog.find(model)
    return None if entry is None else fitted(entry, room.main_bytes) or least(entry)


def _own(entry: ModelEntry, memory_bytes: int) -> _Own:
    return _Own(entry.id, entry.license or "", entry.size_bytes, memory_bytes)


def _settled(slot: SlotSnapshot, by: By) -> bool:
    """Nobody has to do anything: it is loaded, or has left by somebody's wish and a request brings it back.

    By the configuration alone it is not loaded yet: so it stands when a setup was cut short before its load.
    """
    left = slot.want is Want.UNLOADED and by is not By.CONFIG
    return slot.routable or (left and slot.load_on_request)
