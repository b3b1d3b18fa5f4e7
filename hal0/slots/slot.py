"""The actor behind one slot: one task, one mailbox, the only writer of the slot's state.

What happens arrives as a message; `learning.fold` learns from it, `state.decide` chooses, and this module carries it
out. Handlers wait for nothing but the record write; slow work is one effect at a time that ends in exactly one message.
"""
# Long because an actor's invariants (who writes, in which order) hold only where they can be read at once.

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, TypeAlias, TypeVar

from hal0.config.slots import SlotConfig
from hal0.engine.base import ContainerInfo
from hal0.errors import Hal0Error
from hal0.providers.base import Provider, Trial
from hal0.slots import failure as failures
from hal0.slots import fallback, learning, logbook, timers, verbs, warmup
from hal0.slots import happenings as h
from hal0.slots.berths import Berths
from hal0.slots.departures import Departures
from hal0.slots.effects import Subject
from hal0.slots.errands import Errands
from hal0.slots.face import Face
from hal0.slots.handle import SlotSnapshot
from hal0.slots.hands import Hands
from hal0.slots.jobs import Job
from hal0.slots.keeper import Keeper
from hal0.slots.loading import Expected
from hal0.slots.mailbox import Call, Mailbox, Message
from hal0.slots.orders import order_of
from hal0.slots.plan import context_of, resolve_device
from hal0.slots.record import Container, Failure, SlotRecord, Swap, SwapStep
from hal0.slots.serving import Request
from hal0.slots.sight import Sight
from hal0.slots.state import NEVER, TRANSITIONS, Decision, Effect, decide
from hal0.slots.store import Remembered
from hal0.slots.tools import Owner, Tools
from hal0.slots.verbs import Asked
from hal0.slots.view import Shown, address_of, endpoint_of, message, model_of, view_of
from hal0.slots.watchers import Watched
from hal0.vocab import Phase, Role, SlotName, Want
from hal0.wire.slots import FailureView, SlotView

log = logging.getLogger(__name__)

_MAX_STEPS: Final = 16  # decisions in a row; one that never rests is our bug

T = TypeVar("T")
Wish: TypeAlias = Callable[[h.Life, float], h.Wished | None]  # of a slot's life at this moment


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
        past: Remembered,
    ) -> None:
        self.name: Final = name
        self._fitting = fallback.Fitting(config)
        self._provider = provider
        self._tools = tools
        self._owner = owner
        self._life = life
        self._secrets = dict(past.secrets)
        self._mailbox = Mailbox(tools.clock)
        self._hands = Hands(tools.effects, tools.steward, tools.clock, self._report)
        self._errands = Errands(name, tools.jobs)
        self._face = Face(self.shown, owner, used=self._used, flipped=lambda: self._mailbox.put(Call(_look)))
        self._sight = Sight(name, tools.watchers, self._mailbox, self._face.in_flight)
        self._berths = Berths(name, tools.ports, tools.place)
        self._book = logbook.opened(past.record, life.phase, tools.clock.now())
        self._keeper = Keeper(tools.store, life, past.failure)
        self._departures = Departures(tools.effects, self._face.in_flight, self._sight.current, self.post)
        self._looked_at = 0.0
        # Why nobody reads the mailbox: before adoption, and after the end.
        self._absent: Hal0Error | None = Hal0Error(
            "engine.unreachable", f"cannot change slot {name}: podman has not said yet what runs"
        )
        self._berths.hold(life)

    # -- what others may see and ask --------------------------------------------------------------------------------

    @property
    def config(self) -> SlotConfig:
        return self._config

    @property
    def _config(self) -> SlotConfig:
        """As configured, under the fallback that is tried instead."""
        return self._fitting.under(self._life.facts.fallback)

    @property
    def life(self) -> h.Life:
        return self._life

    @property
    def failure(self) -> Failure | None:
        return self._life.facts.fault or self._life.facts.failure

    @property
    def in_flight(self) -> int:
        """What a container still answers that has been replaced takes no place in the present one."""
        current = self._life.facts.current
        return 0 if current is None else self._face.in_flight.within(current.name)

    @property
    def last_failure(self) -> FailureView | None:
        """Why it failed last, also when it is well again and after a restart of hal0."""
        return self._keeper.last_failure

    def snapshot(self) -> SlotSnapshot:
        return self._face.snapshot(self._owner.model_facts(model_of(self._life)))

    def view(self) -> SlotView:
        return view_of(self.shown())

    async def changed(self) -> None:
        await self._face.changed()

    def request_load(self) -> None:
        if self._life.desired.want is Want.UNLOADED:
            self._mailbox.put(Call(functools.partial(self._wish, verbs.requested)))

    def serving(self) -> Request:
        endpoint, current = endpoint_of(self._life, self._provider, self._secrets), self._life.facts.current
        if endpoint is None or current is None:
            raise Hal0Error("slot.loading", f"slot {self.name} cannot take a request: it is {self._life.phase}")
        return self._face.in_flight.enter(endpoint, current.name)

    def queued(self, count: int) -> None:
        self._face.queue(count)

    def suspect(self) -> None:
        current = self._life.facts.current
        if self._absent is None and current is not None and self._life.facts.launched:
            self._sight.current.confirm(current)

    def observe(self, infos: Sequence[ContainerInfo]) -> None:
        """All containers of this slot, as podman lists them just now."""
        if self._absent is None:
            self._sight.compare(infos, self._life)

    def post(self, happening: h.Happening) -> None:
        self._mailbox.put(Message(happening))

    async def ask(self, asked: Asked) -> Job:
        """An operator's verb. Raises what the verb refuses; the job goes on without its caller."""
        return await self._in_turn(lambda: self._ask(asked))

    async def wish(self, choose: Wish) -> None:
        """In turn, want what `choose` makes of the slot as it is then (None: nothing new)."""
        await self._in_turn(lambda: self._wish(choose))

    def _wish(self, choose: Wish) -> None:
        wished = choose(self._life, self._tools.clock.now())
        if wished is not None:
            self._fold(wished)

    async def reconfigure(self, config: SlotConfig, provider: Provider) -> None:
        """New configuration, used from the next start on; what failed under the old one is tried again."""

        def take() -> None:
            if fallback.left_by(self._fitting.own, config):
                self._life = replace(self._life, facts=replace(self._life.facts, fallback=None, starts_failed=0))
            self._fitting, self._provider = fallback.Fitting(config), provider
            if self._absent is None and (wish := verbs.reconfigured(config.model, self._life, self._book)) is not None:
                self._fold(wish)

        if self._absent is not None:
            take()
        else:
            await self._in_turn(take)

    async def judge(self) -> str | None:
        """Find out whether the current container is what would be started now; why it is not."""
        current = self._life.facts.current
        if current is None or not self._life.facts.launched:
            return None
        subject = Subject(self.name, self._config, self._provider)
        stale = await self._tools.effects.stale(subject, current)
        self._mailbox.put(Message(h.Judged(stale), container=current.name))
        return stale

    async def _in_turn(self, action: Callable[[], T]) -> T:
        if self._absent is not None:
            raise Hal0Error(self._absent.code, self._absent.message)
        return await self._mailbox.in_turn(action)

    def adopt(self, life: h.Life, record: SlotRecord | None) -> None:
        """Where the slot really stands, now that the engine was asked. Before `run`."""
        now, before = self._tools.clock.now(), self._life
        self._life, self._absent = life, None
        self._book = logbook.opened(record, life.phase, now)
        self._life = replace(life, facts=replace(life.facts, deadline=self._deadline(life.phase, now)))
        self._follow_swap(None)
        self._berths.give_back(before, self._life)
        self._keeper.saved = self._life
        self._departures.hurry()
        self._berths.hold(self._life)
        self._face.announce()

    # -- the actor --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """For ever, after `adopt`. Cancelling it leaves the container as it is; after an error `adopt` it anew."""
        error = Hal0Error("server.stopping", f"cannot change slot {self.name}: hal0 is stopping")
        try:
            await self._save()
            await self._settle()
            while True:
                mail = await self._mailbox.next(self._wake_at())
                if isinstance(mail, Message):
                    self._receive(mail)
                elif mail is not None:
                    mail.act()
                await self._settle()
        except Exception:
            error = Hal0Error("system.internal", f"slot {self.name} met a mistake of hal0's: it starts again")
            self._errands.fail(error)
            raise
        finally:
            self._absent = error
            self._mailbox.refuse_all(error)
            await self._close()

    def _receive(self, mail: Message) -> None:
        life = self._life
        whose = life.facts.next if isinstance(mail.happening, h.Beside) else life.facts.current
        stale_step = mail.step is not None and mail.step != self._hands.step
        stale_eyes = mail.container is not None and (whose is None or whose.name != mail.container)
        stale_phase = mail.phase is not None and mail.phase is not life.phase
        if not (stale_step or stale_eyes or stale_phase):
            self._fold(mail.happening)

    def _fold(self, happening: h.Happening) -> None:
        """Learn; give back ports of containers that are gone; tell jobs that lost their goal."""
        before = self._life
        match happening:
            case h.Launched(container, secret) | h.Beside(h.Launched(container, secret)):
                self._secrets[container.generation] = secret
            case h.Clashed():
                self._berths.clashed(before.facts.current)
            case h.Beside(h.Clashed()):
                self._berths.clashed(before.facts.next)
            case h.Turned():
                self._book = self._book.turned(self._tools.clock.now(), before.desired.model)
            case h.Strayed() | h.EngineBack():
                self._departures.hurry()
            case _:
                pass
        now = self._tools.clock.now()
        self._life = learning.fold(before, happening, now)
        if isinstance(happening, h.Failed | h.Buried):
            self._life = fallback.after(before, self._life, self._config, self._book, now)
        self._berths.give_back(before, self._life)
        if isinstance(happening, h.Measured):
            self._book = self._keeper.took(self.shown(), self._tools.steward.used)
        if isinstance(happening, h.Wished):
            self._errands.wished(self._life.desired)
        if before.facts.swap is not None and before.facts.swap != self._life.facts.swap:
            self._errands.swapping(before.facts.swap, self._life, happening)
        self._follow_swap(before.facts.swap)
        self._face.outdated()

    def _follow_swap(self, before: Swap | None) -> None:
        """Each step beside the present container has its own deadline, and its place in the book."""
        swap, now = self._life.facts.swap, self._tools.clock.now()
        if swap is None or not swap.overlaps or (before is not None and before.step is swap.step):
            return
        size = self._owner.model_facts(swap.to_model).size_bytes
        deadline = timers.step_deadline(swap.step, now, self._config, size, self._book)
        self._life = replace(self._life, facts=replace(self._life.facts, deadline=deadline))
        self._book = self._book.stepped(swap.step, now)

    async def _settle(self) -> None:
        """Decide and carry out until there is nothing more to decide now."""
        for _ in range(_MAX_STEPS):
            await self._expire()
            if self._life.facts.busy is None:
                await self._hands.stop()  # what may still be under way is not wanted any more
            life = self._life
            decision = decide(life.desired, life.phase, life.facts, self._tools.clock.now())
            if decision.phase is not life.phase:
                await self._enter(decision)
            elif decision.effect is not None:
                await self._begin(decision.effect)
            else:
                break
        else:
            log.error("slot %s does not settle by a mistake of hal0's: %s", self.name, self._life)
        if self._keeper.behind(self._life):
            await self._save()
        await self._note_model()
        if not self._keeper.unsaved:  # what is stopped is leaving on disk as well
            self._departures.tend(self._life.facts.leaving, self._tools.clock.now(), self._config.drain_s)
        await self._keeper.note_failure(self.shown())
        self._sight.watch(self._life, self._watched)
        told = fallback.words(self._config, self._life.facts.fallback)
        note = f"started by {told}" if told is not None and self._life.phase is Phase.READY else None
        self._errands.settled(self._life, self._tools.clock.now(), message(self.shown()), note)
        self._face.announce()

    async def _enter(self, decision: Decision) -> None:
        """Take the step on disk first; only then end what was under way and begin what comes next."""
        old, book, phase = self._life, self._book, decision.phase
        if phase not in TRANSITIONS[old.phase]:
            raise Hal0Error("system.internal", f"slot {self.name}: {old.phase} -> {phase} is not a transition")
        now = self._tools.clock.now()
        self._life = learning.enter(old, phase, self._deadline(phase, now))
        if phase is not Phase.STARTING:
            self._berths.forget_clashes()
        current = self._life.facts.current
        self._book = book.entered(phase, now, current.model if current else None)
        if not await self._save() and self._refused(old, book, decision):
            return
        await self._hands.stop()
        log.info("slot %s: %s -> %s (%s)", self.name, old.phase, phase, message(self.shown()))
        self._face.announce()
        if decision.effect is not None:
            self._start(decision.effect)

    async def _begin(self, effect: Effect) -> None:
        """An effect within the present phase."""
        if effect is Effect.TURN:
            self._fold(h.Turned())  # requests go there from here on; the old one is stopped when that is on disk
            return
        if effect is Effect.LAUNCH:
            if not self._reserve():
                return
            if not await self._save():
                self._refuse_launch()
                return
        self._start(effect)

    def _refused(self, old: h.Life, book: logbook.Logbook, decision: Decision) -> bool:
        """The record could not be written: before a create or a wanted stop the step is not taken."""
        if decision.phase is Phase.UNLOADING and old.facts.fault is None:
            text = f"cannot unload slot {self.name}: its record cannot be written"
            self._errands.fail(Hal0Error("state.write_failed", text))
            saved, current = self._keeper.saved, old.facts.current
            arrived = old.phase is Phase.READY and current is not None and current.model == saved.desired.model
            swap = None if arrived else saved.facts.swap  # the disk may not know yet that the swap is done
            if swap is not None and swap.overlaps:  # the wish has ended what was under way
                swap = replace(swap, step=SwapStep.PULLING)
            facts = replace(old.facts, restart=False, swap=swap, again_at=self._keeper.due)
            self._life, self._book = replace(old, desired=saved.desired, facts=facts), book
            return True
        return False

    def _refuse_launch(self) -> None:
        before = self._life
        facts = replace(before.facts, next=None) if self._life.overlaps else replace(before.facts, current=None)
        self._life = replace(before, facts=facts)
        self._berths.give_back(before, self._life)
        self._fail(Hal0Error("state.write_failed", "cannot start the container: the slot's record cannot be written"))

    def _fail(self, error: Hal0Error) -> None:
        failed = h.Failed(failures.of_error(error, self._tools.clock.now()), warmup.jitter())
        self._fold(h.Beside(failed) if self._life.overlaps else failed)

    def _reserve(self) -> bool:
        """Take the next generation, a name and a port for the launch; they go on disk before anything is created."""
        beside = self._life.overlaps
        try:
            container = self._berths.reserve(self._life, self._config, Role.NEXT if beside else Role.CURRENT)
        except Hal0Error as err:
            if beside:  # without a second port the present container has to leave first
                self._fold(h.Crowded(err.message))
            else:
                self._fail(err)
            return False
        self._fold(h.Beside(h.Reserved(container)) if beside else h.Reserved(container))
        return True

    def _start(self, effect: Effect) -> None:
        self._life = replace(self._life, facts=replace(self._life.facts, busy=effect))
        subject = Subject(self.name, self._config, self._provider)
        self._hands.start(order_of(effect, subject, self._life, self._face.in_flight, warmed=self._book.warmed))

    def _watched(self, container: Container) -> Watched:
        model, book = self._owner.model_facts(container.model), self._book
        trial = Trial(container.model, model.capabilities, self._config.extra_args)
        usual_s, began = warmup.expected_s(book.history, container.model), book.load_started or book.since
        return Watched(
            container,
            self._provider,
            address_of(container, self._provider, self._secrets),
            Expected(model.size_bytes, usual_s, began),
            trial if self._config.verify_on_load else None,
        )

    def _report(self, happening: h.Happening, step: int) -> None:
        self._mailbox.put(Message(happening, step=step))

    # -- timers -----------------------------------------------------------------------------------------------------

    def _wake_at(self) -> float:
        life, quiet = self._life, self._face.in_flight.count == 0
        own = timers.wake_at(life.phase, life.facts, self._book, self._config, quiet=quiet, looked_at=self._looked_at)
        departs = NEVER if self._keeper.unsaved else self._departures.wake_at(life.facts.leaving)
        return min(own, self._keeper.due, departs)

    def _deadline(self, phase: Phase, now: float) -> float:
        size = self._owner.model_facts(self._life.desired.model).size_bytes
        return timers.deadline(phase, now, self._config, size, self._book)

    async def _expire(self) -> None:
        """Learn what time alone has brought."""
        now, facts = self._tools.clock.now(), self._life.facts
        self._looked_at = now
        if now >= facts.deadline and facts.current is not None and self._life.phase in (Phase.UNLOADING, Phase.ERROR):
            await self._give_up_for_now(facts.current, now)
        if now >= self._keeper.due:
            await self._save()
        quiet = self._face.in_flight.count == 0 and not self._keeper.unsaved  # unsaved: an unload would be refused
        for happening in timers.come_due(self._life, self._book, self._config, now, quiet=quiet):
            self._fold(happening)
        if now >= self._life.facts.deadline:
            self._life = replace(self._life, facts=replace(self._life.facts, deadline=NEVER))

    async def _give_up_for_now(self, container: Container, now: float) -> None:
        """The effect is stuck in the engine: whoever waits is told, and it begins again until it is done."""
        await self._hands.stop()
        text = f"podman has not ended {container.name} within {now - self._book.since:.0f} s"
        error = Hal0Error("engine.unreachable", f"cannot finish: {text}; hal0 goes on trying")
        self._errands.fail(error)
        facts = replace(self._life.facts, deadline=self._deadline(self._life.phase, now))
        self._life = replace(self._life, facts=facts)
        self._fold(h.EngineTrouble(text))

    # -- files, verbs, announcements --------------------------------------------------------------------------------

    async def _save(self) -> bool:
        return await self._keeper.save(self.shown())

    async def _note_model(self) -> None:
        current = self._life.facts.current
        if self._life.phase is Phase.READY and current is not None:
            await self._keeper.note_model(self.name, current.model)

    def _ask(self, asked: Asked) -> Job:
        """Carry a verb into the facts; the job to follow is the running one when it is the same wish."""
        asked = replace(asked, mode=self._config.swap)
        wished, goal = verbs.wish(asked, self._life, self._tools.clock.now())
        if wished is not None:
            self._fold(wished)
        elif (job := self._errands.running(goal)) is not None:
            return job
        return self._errands.begin(asked, goal, lambda job: self._mailbox.put(Call(lambda: self._cancel(job))))

    def _cancel(self, job: Job) -> None:
        if self._errands.waits(job):
            self._errands.cancelled()
            self._fold(verbs.cancel(self._life, self._tools.clock.now()))

    def _used(self) -> None:
        """Requests came or went."""
        now = self._tools.clock.now()
        self._book = replace(self._book, last_used=now)
        self._keeper.used(now)

    def shown(self) -> Shown:
        """Everything that is known of it at this moment."""
        now, model = self._tools.clock.now(), self._owner.model_facts(model_of(self._life))
        return Shown(
            name=self.name,
            config=self._config,
            provider=self._provider,
            device=resolve_device(self._config, self._tools.place),
            life=self._life,
            book=self._book,
            endpoint=endpoint_of(self._life, self._provider, self._secrets),
            in_flight=self._face.in_flight.count,
            queued=self._face.queued,
            model=model,
            context_size=context_of(self._config, model.context_length) if self._life.desired.model else None,
            unsaved=self._keeper.unsaved,
            now=now,
        )

    async def _close(self) -> None:
        """End all own tasks; the container goes on."""
        self._face.close()
        await self._hands.stop()
        await self._sight.close()
        if self._keeper.due != NEVER:
            await self._save()


def _look() -> None:
    """Mail that only wakes the actor: timers may have moved."""
