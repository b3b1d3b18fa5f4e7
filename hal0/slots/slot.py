"""One slot, as everybody else has it: what may be seen of it, and what may be asked. Its actor does the rest."""

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from hal0.config.root import RootConfig
from hal0.config.slots import SlotConfig
from hal0.engine.base import ContainerInfo
from hal0.errors import Hal0Error
from hal0.providers.base import Provider
from hal0.slots import happenings as h
from hal0.slots import resolved, verbs
from hal0.slots.actor import Actor
from hal0.slots.handle import SlotSnapshot
from hal0.slots.jobs import Job
from hal0.slots.present import Present
from hal0.slots.record import Failure, SlotRecord
from hal0.slots.resolved import Origins
from hal0.slots.serving import Request
from hal0.slots.shown import Shown
from hal0.slots.store import Remembered
from hal0.slots.tools import Owner, Tools
from hal0.slots.verbs import Asked
from hal0.slots.view import view_of
from hal0.vocab import SlotName, Want
from hal0.wire.slots import FailureView, SlotView

log = logging.getLogger(__name__)

Wish: TypeAlias = Callable[[h.Life, float], h.Wished | None]  # of a slot's life at this moment


class Slot:
    """Implements `handle.SlotHandle`; `run` is its task."""

    def __init__(
        self,
        name: SlotName,
        config: SlotConfig,
        provider: Provider,
        tools: Tools,
        owner: Owner,
        life: h.Life,
        past: Remembered,
    ) -> None:
        self.name: Final = name
        self._starts = tools.starts
        self._present = Present(name, config, provider, life, past, clock=tools.clock, place=tools.place, owner=owner)
        self._actor = Actor(self._present, tools, owner, past)

    # -- what others may see ------------------------------------------------------------------------------------------

    @property
    def config(self) -> SlotConfig:
        """As it is started now: under its fallback, if one is tried."""
        return self._present.config

    @property
    def life(self) -> h.Life:
        return self._present.life

    @property
    def failure(self) -> Failure | None:
        return self.life.facts.fault or self.life.facts.failure

    @property
    def rests(self) -> bool:
        """It has failed, and nobody but somebody who changes something has it tried again."""
        return verbs.for_good(self.life) is not None

    @property
    def in_flight(self) -> int:
        """What a container still answers that has been replaced takes no place in the present one."""
        current = self.life.facts.current
        return 0 if current is None else self._actor.face.in_flight.within(current.name)

    @property
    def last_failure(self) -> FailureView | None:
        """Why it failed last, also when it is well again and after a restart of hal0."""
        return self._actor.keeper.last_failure

    def snapshot(self) -> SlotSnapshot:
        return self._actor.face.snapshot(self._present.model)

    def shown(self) -> Shown:
        """Everything that is known of it at this moment."""
        return self._actor.shown()

    def view(self) -> SlotView:
        return view_of(self.shown())

    def asked(self, root: RootConfig, origins: Origins) -> resolved.Asked:
        """What there is to say of a start; `root` is the configuration in force, `origins` who said what."""
        it, missing, launch = self.shown(), None, None
        try:
            if it.live_model is None:
                missing = "it has no model"
            else:
                launch = self._starts.planned(self._present.subject(it.live_model), it.live_model)
                it.provider.start_cmd(launch)
        except Hal0Error as err:
            launch, missing = None, err.message
        return resolved.Asked(
            slot=self.name,
            root=root,
            origins=origins,
            config=it.config,
            provider=it.provider,
            device=it.device,
            model=it.live_model,
            defaults=it.model.defaults,
            fallback=it.fallback.number if it.fallback else None,
            launch=launch,
            missing=missing,
        )

    async def changed(self) -> None:
        await self._actor.face.changed()

    # -- what requests do ---------------------------------------------------------------------------------------------

    def request_load(self) -> None:
        if self.life.desired.want is Want.UNLOADED:
            self._actor.later(functools.partial(self._wish, verbs.requested))

    def serving(self) -> Request:
        endpoint, current = self._present.endpoint, self.life.facts.current
        if endpoint is None or current is None:
            raise Hal0Error("slot.loading", f"slot {self.name} cannot take a request: it is {self.life.phase}")
        return self._actor.face.in_flight.enter(endpoint, current.name)

    def queued(self, count: int) -> None:
        self._actor.face.queue(count)

    def suspect(self, *, silent_s: float | None = None) -> None:
        if silent_s is not None:
            self._actor.face.in_flight.gave_up(silent_s)
        self._actor.suspect()

    # -- what is told and asked, in turn ------------------------------------------------------------------------------

    def observe(self, infos: Sequence[ContainerInfo]) -> None:
        """All containers of this slot, as podman lists them just now."""
        self._actor.observe(infos)

    def post(self, happening: h.Happening) -> None:
        self._actor.post(happening)

    async def ask(self, asked: Asked) -> Job:
        """An operator's verb. Raises what the verb refuses; the job goes on without its caller."""
        return await self._actor.in_turn(lambda: self._actor.begin_job(asked))

    async def wish(self, choose: Wish) -> None:
        """In turn, want what `choose` makes of the slot as it is then (None: nothing new)."""
        await self._actor.in_turn(lambda: self._wish(choose))

    def _wish(self, choose: Wish) -> None:
        wished = choose(self.life, self._present.now)
        if wished is not None:
            self._actor.fold(wished)

    async def reconfigure(self, config: SlotConfig, provider: Provider) -> None:
        """New configuration, used from the next start on; what failed under the old one is tried again."""
        if self._actor.absent is not None:
            self._present.configure(config, provider)
            return

        def take() -> None:
            self._present.configure(config, provider)
            self._wish(lambda life, _now: verbs.reconfigured(config.model, life, self._present.book))

        await self._actor.in_turn(take)

    async def judge(self) -> str | None:
        """Find out whether the current container is what would be started now; why it is not."""
        current = self.life.facts.current
        if current is None or not self.life.facts.launched:
            return None
        stale = await self._starts.stale(self._present.subject(current.model), current)
        self._actor.post(h.Judged(stale), of=current)
        return stale

    async def look_again(self) -> None:
        """What failed for good is tried again when its image or its model's files have changed since."""
        model, failure = self.life.desired.model, verbs.for_good(self.life)
        if model is None or failure is None:
            return
        subject = self._present.subject(model)
        if await self._starts.mended(subject, model, failure, self._present.now) and self.failure is failure:
            log.info("slot %s: tried again, its image or its model's files have changed", self.name)
            await self.wish(verbs.mended)

    # -- its task -----------------------------------------------------------------------------------------------------

    def adopt(self, life: h.Life, record: SlotRecord | None) -> None:
        """Where the slot really stands, now that the engine was asked. Before `run`."""
        self._actor.adopt(life, record)

    async def run(self) -> None:
        """For ever, after `adopt`. Cancelling it leaves the container as it is; after an error `adopt` it anew."""
        await self._actor.run()
