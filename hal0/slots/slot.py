"""The actor behind one slot: one task, one mailbox, the only writer of the slot's state.

Everything that happens arrives as a message; `happenings.fold` learns from it, `state.decide` chooses, and this module
carries it out: check the transition, write the record, announce it, start the effect. Handlers wait for nothing but
the record write. Slow work runs in one effect task at a time and ends in exactly one message, tagged with the step it
belongs to, so that a late answer of a cancelled step is dropped.
"""

# Longer than most modules: an actor's invariants (who writes, in which order) hold only where they can be read at once.

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from hal0.config.slots import SlotConfig
from hal0.errors import Hal0Error
from hal0.lib.aio import Signal
from hal0.providers.base import Endpoint, Provider
from hal0.slots import failure as failures
from hal0.slots import happenings as h
from hal0.slots import logbook, timers, verbs, warmup
from hal0.slots.effects import Order, Subject, sweep
from hal0.slots.errands import Errands
from hal0.slots.eyes import Eyes
from hal0.slots.handle import SlotSnapshot
from hal0.slots.hands import Hands
from hal0.slots.jobs import Job
from hal0.slots.keeper import Keeper
from hal0.slots.plan import container_name, context_of, resolve_device
from hal0.slots.record import Container, Failure, SlotRecord
from hal0.slots.serving import InFlight, Request
from hal0.slots.state import NEVER, PORT_TRIES, TRANSITIONS, Decision, Effect, decide
from hal0.slots.tools import Owner, Tools
from hal0.slots.verbs import Asked
from hal0.slots.view import ModelFacts, Shown, message, snapshot_of, view_of
from hal0.vocab import By, Phase, Role, SlotName, Want
from hal0.wire.slots import SlotView

log = logging.getLogger(__name__)

_LEAVING_RETRY_S: Final = 60.0
_FLIP_ANNOUNCE_S: Final = 0.05  # ready <-> serving flips with every request: they are announced together
_MAX_STEPS: Final = 16  # decisions in a row; one that never rests is our bug


@dataclass(frozen=True, slots=True)
class _Message:
    """A happening; dropped when its step or container is not the present one any more."""

    happening: h.Happening
    step: int | None = None
    container: str | None = None


_Mail = _Message | Callable[[], None]
T = TypeVar("T")


class Slot:
    """One slot. Implements `handle.SlotHandle`; `run` is its task."""

    def __init__(
        self,
        name: SlotName,
        config: SlotConfig,
        provider: Provider,
        tools: Tools,
        owner: Owner,
        life: h.Life,
        *,
        record: SlotRecord | None = None,
        secret: str = "",
    ) -> None:
        self.name: Final = name
        self._config = config
        self._provider = provider
        self._tools = tools
        self._owner = owner
        self._life = life
        self._secret = secret
        self._mail: asyncio.Queue[_Mail] = asyncio.Queue()
        self._hands = Hands(tools.effects, tools.clock, self._report)
        self._errands = Errands(name, tools.jobs)
        self._eyes = Eyes(name, tools.watchers, self._seen, lambda: self._in_flight.count == 0)
        self._book = logbook.opened(record, life.phase, tools.clock.now())
        self._keeper = Keeper(tools.store, life.desired)
        self._sweep_due = 0.0
        self._looked_at = 0.0
        self._clashed: set[int] = set()  # ports that turned out to be taken during this start
        self._in_flight = InFlight(self._on_in_flight)
        self._flip: asyncio.TimerHandle | None = None
        self._changed = Signal()
        self._snapshot: SlotSnapshot | None = None
        self._hold_ports()

    # -- what others may see and ask --------------------------------------------------------------------------------

    @property
    def config(self) -> SlotConfig:
        return self._config

    @property
    def life(self) -> h.Life:
        return self._life

    @property
    def failure(self) -> Failure | None:
        return self._life.facts.fault or self._life.facts.failure

    def snapshot(self) -> SlotSnapshot:
        if self._snapshot is None:
            self._snapshot = snapshot_of(self._shown())
        return self._snapshot

    def view(self) -> SlotView:
        return view_of(self._shown())

    async def changed(self) -> None:
        await self._changed.wait()

    def request_load(self) -> None:
        desired = self._life.desired
        if desired.want is Want.UNLOADED and desired.model is not None:
            wished = replace(desired, want=Want.LOADED, by=By.REQUEST, at=self._tools.clock.now())
            self.post(h.Wished(wished, again=False))

    def serving(self) -> AbstractContextManager[Request]:
        endpoint = self._endpoint()
        if endpoint is None:
            raise Hal0Error("slot.loading", f"slot {self.name} cannot take a request: it is {self._life.phase}")
        return self._in_flight.enter(endpoint)

    def suspect(self) -> None:
        current = self._life.facts.current
        if current is not None and self._life.facts.launched:
            self._eyes.confirm(current)

    def observe(self, running: frozenset[str]) -> None:
        """The names of all containers that run: is ours still among them?"""
        current = self._life.facts.current
        if current is not None and current.name not in running:
            self.suspect()

    def post(self, happening: h.Happening) -> None:
        self._mail.put_nowait(_Message(happening))

    async def ask(self, asked: Asked) -> Job:
        """An operator's verb. Raises what the verb refuses; the job goes on without its caller."""
        return await self._in_turn(lambda: self._ask(asked))

    async def reset(self) -> None:
        """Forget the failure; from error only."""
        await self._in_turn(lambda: self._fold(verbs.reset(self._life, self._tools.clock.now())))

    async def reconfigure(self, config: SlotConfig, provider: Provider) -> None:
        """New configuration, used from the next start on."""

        def take() -> None:
            self._config, self._provider = config, provider

        await self._in_turn(take)

    async def _in_turn(self, action: Callable[[], T]) -> T:
        """Run `action` in the actor's task between two happenings; its result or refusal comes back."""
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def act() -> None:
            if answer.done():
                return
            try:
                answer.set_result(action())
            except Hal0Error as err:
                answer.set_exception(err)

        self._mail.put_nowait(act)
        return await answer

    def adopt(self, life: h.Life, record: SlotRecord | None) -> None:
        """Where the slot really stands, now that the engine was asked. Before `run`."""
        self._life = life
        self._book = logbook.opened(record, life.phase, self._tools.clock.now())
        self._keeper.saved_desired = life.desired
        self._hold_ports()
        self._announce(routing=True)

    def _hold_ports(self) -> None:
        for container in (self._life.facts.current, *self._life.facts.leaving):
            if container is not None and container.port is not None:
                self._tools.ports.adopt(container.port, container.name)

    # -- the actor --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """For ever. Cancelling it leaves the container as it is."""
        try:
            await self._save()
            await self._note_model()
            await self._settle()
            while True:
                mail = await self._next()
                if isinstance(mail, _Message):
                    self._receive(mail)
                elif mail is not None:
                    mail()
                await self._settle()
        finally:
            await self._close()

    async def _next(self) -> _Mail | None:
        """The next mail; None when a timer is due first."""
        wake_at = self._wake_at()
        if wake_at == NEVER or not self._mail.empty():
            return await self._mail.get()
        try:
            async with asyncio.timeout(max(wake_at - self._tools.clock.now(), 0.0)):
                return await self._mail.get()
        except TimeoutError:
            return None

    def _receive(self, mail: _Message) -> None:
        current = self._life.facts.current
        stale_step = mail.step is not None and mail.step != self._hands.step
        stale_eyes = mail.container is not None and (current is None or current.name != mail.container)
        if not stale_step and not stale_eyes:
            self._fold(mail.happening)

    def _fold(self, happening: h.Happening) -> None:
        """Learn; give back ports of containers that are gone; tell jobs that lost their goal."""
        before = self._life
        if isinstance(happening, h.Died) and not before.facts.launched:
            return  # a second witness of the same death
        if isinstance(happening, h.Launched):
            self._secret = happening.secret
        elif isinstance(happening, h.Clashed) and before.facts.current is not None:
            self._clashed.add(before.facts.current.port or 0)
        self._life = h.fold(before, happening, self._tools.clock.now())
        for name in _names(before) - _names(self._life):
            self._tools.ports.release(name)
        if isinstance(happening, h.Wished):
            self._errands.wished(self._life.desired)
        swap = self._life.facts.swap
        if swap is not None and swap.step == "rollback" and before.facts.swap != swap:
            self._errands.rolled_back(self._life.facts.fault)
        self._snapshot = None

    async def _settle(self) -> None:
        """Decide and carry out until there is nothing more to decide now."""
        for _ in range(_MAX_STEPS):
            await self._expire()
            life = self._life
            decision = decide(life.desired, life.phase, life.facts, self._tools.clock.now())
            if decision.phase is not life.phase:
                await self._enter(decision)
            elif decision.effect is not None:
                await self._begin(decision.effect)
            else:
                break
        else:
            log.error("slot %s does not settle in phase %s: %s", self.name, self._life.phase, self._life.facts)
        self._watch()
        self._errands.settled(self._life, self._tools.clock.now(), message(self._shown()))
        self._announce(routing=True)

    async def _enter(self, decision: Decision) -> None:
        old, phase = self._life, decision.phase
        if phase not in TRANSITIONS[old.phase]:
            raise Hal0Error("system.internal", f"slot {self.name}: {old.phase} -> {phase} is not a transition")
        await self._hands.stop()
        now = self._tools.clock.now()
        self._life = h.enter(old, phase, self._deadline(phase, now))
        if phase is not Phase.STARTING:
            self._clashed.clear()
        if decision.effect is Effect.LAUNCH and not self._reserve():
            return
        current = self._life.facts.current
        self._book = self._book.entered(phase, now, current.model if current else None)
        if not await self._save() and self._refused(old, decision):
            return
        log.info("slot %s: %s -> %s (%s)", self.name, old.phase, phase, message(self._shown()))
        await self._note_model()
        if decision.effect is not None:
            self._start(decision.effect)

    async def _begin(self, effect: Effect) -> None:
        """An effect within the present phase."""
        if effect is Effect.LAUNCH:
            if not self._reserve():
                return
            if not await self._save():
                self._refuse_launch()
                return
        self._start(effect)

    def _refused(self, old: h.Life, decision: Decision) -> bool:
        """The record could not be written: before a create or a wanted stop the step is not taken."""
        if decision.effect is Effect.LAUNCH:
            self._refuse_launch()
            return True
        if decision.phase is Phase.UNLOADING and old.phase is Phase.READY and old.facts.fault is None:
            text = f"cannot unload slot {self.name}: its record cannot be written"
            self._errands.fail(Hal0Error("state.write_failed", text))
            facts = replace(old.facts, restart=False, swap=None)
            self._life = replace(old, desired=self._keeper.saved_desired, facts=facts)
            return True
        return False

    def _refuse_launch(self) -> None:
        current = self._life.facts.current
        if current is not None:
            self._tools.ports.release(current.name)
        self._life = replace(self._life, facts=replace(self._life.facts, current=None))
        self._fail(Hal0Error("state.write_failed", "cannot start the container: the slot's record cannot be written"))

    def _fail(self, error: Hal0Error) -> None:
        self._fold(h.Failed(failures.of_error(error, self._tools.clock.now()), warmup.jitter()))

    def _reserve(self) -> bool:
        """Take the next generation, a name and a port for the launch; they go on disk before anything is created."""
        facts, model = self._life.facts, self._life.desired.model
        assert model is not None, "decide() launches only what has a model"
        generation = facts.generation + 1
        name = container_name(self._tools.place.instance, self.name, generation)
        port = None
        if self._tools.place.network is None:
            try:
                explicit = self._config.port or None
                port = self._tools.ports.lease(self.name, name, explicit=explicit, avoid=self._clashed)
            except Hal0Error as err:
                self._fail(err)
                return False
        self._fold(h.Reserved(Container(Role.CURRENT, name, generation, model, port=port)))
        return True

    def _start(self, effect: Effect) -> None:
        facts = replace(self._life.facts, busy=effect)
        self._life = replace(self._life, facts=facts)
        order = Order(
            effect=effect,
            subject=Subject(self.name, self._config, self._provider),
            model=self._life.desired.model or "",
            container=facts.current,
            fault=facts.fault,
            drain_s=0.0 if facts.fault is not None else self._config.drain_s,
            warmed=self._book.warmed,
            requests=self._in_flight,
        )
        self._hands.start(order)

    def _watch(self) -> None:
        life, current = self._life, self._life.facts.current
        if life.phase in (Phase.WARMING, Phase.READY) and current is not None and life.facts.launched:
            self._eyes.look_at(current, life.phase, self._provider, self._address(current))
        else:
            self._eyes.look_at(None, life.phase, self._provider, None)

    def _report(self, happening: h.Happening, step: int) -> None:
        self._mail.put_nowait(_Message(happening, step=step))

    def _seen(self, container: Container, happening: h.Happening) -> None:
        self._mail.put_nowait(_Message(happening, container=container.name))

    # -- timers -----------------------------------------------------------------------------------------------------

    def _wake_at(self) -> float:
        life, quiet = self._life, self._in_flight.count == 0
        own = timers.wake_at(life.phase, life.facts, self._book, self._config, quiet=quiet, looked_at=self._looked_at)
        return min(own, self._keeper.due, self._sweep_due if life.facts.leaving else NEVER)

    def _deadline(self, phase: Phase, now: float) -> float:
        return timers.deadline(phase, now, self._config, self._model_facts().size_bytes, self._book)

    async def _expire(self) -> None:
        """Fold what time alone has brought."""
        now, facts = self._tools.clock.now(), self._life.facts
        self._looked_at = now
        if now >= facts.deadline:
            await self._overdue(now)
        if facts.port_tries and facts.fault is None:
            self._count_clashes(facts.port_tries)
        if now >= self._keeper.due:
            await self._save()
        if facts.leaving and now >= self._sweep_due and not self._eyes.busy("sweep"):
            self._sweep_due = now + _LEAVING_RETRY_S
            self._eyes.start("sweep", sweep(self._tools.effects, facts.leaving, self.post))
        if self._life.phase is not Phase.READY:
            return
        if timers.recovered(facts, self._book, now):
            self._fold(h.StayedHealthy())
        desired = self._life.desired
        unused = self._in_flight.count == 0 and timers.unused(self._config, self._book, now)
        if unused and desired.want is Want.LOADED:
            self._fold(h.Wished(replace(desired, want=Want.UNLOADED, by=By.IDLE, at=now), again=False))

    def _count_clashes(self, tries: int) -> None:
        """A port that the operator fixed is not replaced by another; else a few are tried."""
        if self._config.port:
            self._fail(Hal0Error("slot.port_taken", f"cannot use port {self._config.port}: another program has it"))
        elif tries >= PORT_TRIES:
            self._fail(Hal0Error("slot.no_free_port", f"cannot start: {tries} ports in a row were taken"))

    async def _overdue(self, now: float) -> None:
        """A phase took too long."""
        phase, facts = self._life.phase, self._life.facts
        if phase is Phase.UNLOADING:  # the effect is stuck in the engine: give it up and begin it again
            await self._hands.stop()
            self._life = replace(self._life, facts=replace(facts, deadline=self._deadline(phase, now)))
            self._fold(h.EngineTrouble())
            return
        self._life = replace(self._life, facts=replace(facts, deadline=NEVER))
        late = failures.of_deadline(phase, now - self._book.since, now)
        self._fold(h.Failed(late, warmup.jitter()))

    # -- files, verbs, announcements --------------------------------------------------------------------------------

    async def _save(self) -> bool:
        return await self._keeper.save(self._shown())

    async def _note_model(self) -> None:
        current = self._life.facts.current
        if self._life.phase is Phase.READY and current is not None:
            await self._keeper.note_model(self.name, current.model)

    def _ask(self, asked: Asked) -> Job:
        """Carry a verb into the facts; the job to follow is the running one when it is the same wish."""
        wished, goal = verbs.wish(asked, self._life, self._tools.clock.now())
        if wished is not None:
            self._fold(wished)
        elif (job := self._errands.running(goal)) is not None:
            return job
        return self._errands.begin(asked, goal, lambda: self._mail.put_nowait(self._cancel))

    def _cancel(self) -> None:
        if self._errands:
            self._fold(verbs.cancel(self._life, self._tools.clock.now()))

    def _on_in_flight(self, _count: int) -> None:
        now = self._tools.clock.now()
        self._book = replace(self._book, last_used=now)
        self._snapshot = None
        self._changed.notify()
        self._keeper.used(now)
        if self._flip is None:
            self._flip = asyncio.get_running_loop().call_later(_FLIP_ANNOUNCE_S, self._flipped)

    def _flipped(self) -> None:
        self._flip = None
        self._announce(routing=False)
        self._mail.put_nowait(_nothing)  # timers may have moved

    def _announce(self, *, routing: bool) -> None:
        self._snapshot = None
        self._changed.notify()
        self._owner.announce(self.name, routing=routing)

    def _endpoint(self) -> Endpoint | None:
        """Where a request may go now: ready, and believed to be alive."""
        life, current = self._life, self._life.facts.current
        if life.phase is not Phase.READY or current is None or not life.facts.launched:
            return None
        return self._address(current)

    def _address(self, container: Container) -> Endpoint:
        return Endpoint(container.host, container.port or self._provider.container_port, self._secret)

    def _model_facts(self) -> ModelFacts:
        return self._owner.model_facts(self._life.desired.model)

    def _shown(self) -> Shown:
        now, model = self._tools.clock.now(), self._model_facts()
        return Shown(
            name=self.name,
            config=self._config,
            provider=self._provider,
            device=resolve_device(self._config, self._tools.place),
            life=self._life,
            book=self._book,
            endpoint=self._endpoint(),
            in_flight=self._in_flight.count,
            model=model,
            context_size=context_of(self._config, model.context_length) if self._life.desired.model else None,
            unsaved=self._keeper.unsaved,
            now=now,
        )

    async def _close(self) -> None:
        """End all own tasks; the container goes on."""
        if self._flip is not None:
            self._flip.cancel()
        await self._hands.stop()
        await self._eyes.close()
        if self._keeper.due != NEVER:
            await self._save()


def _names(life: h.Life) -> frozenset[str]:
    facts = life.facts
    return frozenset(c.name for c in (facts.current, *facts.leaving) if c is not None)


def _nothing() -> None:
    """Mail that only wakes the actor."""
