"""The actor behind one slot: one task, one mailbox, the only writer of the slot's state.

What happens arrives as a message; `learning.fold` learns from it, `state.decide` chooses, and this module carries it
out. Handlers wait for nothing but the record write; slow work is one effect at a time that ends in exactly one message.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from hal0.engine.base import ContainerInfo
from hal0.errors import Hal0Error
from hal0.slots import fallback, learning, timers, verbs
from hal0.slots import happenings as h
from hal0.slots.aftermath import Aftermath
from hal0.slots.berths import Berths
from hal0.slots.departures import Departures
from hal0.slots.errands import Errands
from hal0.slots.face import Face
from hal0.slots.hands import Hands
from hal0.slots.jobs import Job
from hal0.slots.keeper import Keeper
from hal0.slots.launching import Launching
from hal0.slots.logbook import Logbook
from hal0.slots.mailbox import Call, Mailbox, Message
from hal0.slots.orders import order_of
from hal0.slots.present import Present
from hal0.slots.record import Container, SlotRecord
from hal0.slots.shown import Shown
from hal0.slots.sight import Sight
from hal0.slots.state import NEVER, TRANSITIONS, Decision, Effect, decide
from hal0.slots.store import Remembered
from hal0.slots.telling import message
from hal0.slots.tools import Owner, Tools
from hal0.slots.verbs import Asked
from hal0.vocab import Phase

log = logging.getLogger(__name__)

_MAX_STEPS: Final = 16  # decisions in a row; one that never rests is our bug

T = TypeVar("T")


class Actor:
    """`absent`: why nobody reads the mailbox; before adoption, and after the end."""

    def __init__(self, present: Present, tools: Tools, owner: Owner, past: Remembered) -> None:
        name = present.name
        self._it = present
        self._steward = tools.steward
        self._mailbox = Mailbox(tools.clock)
        self._hands = Hands(tools, self._report)
        self._errands = Errands(name, tools.jobs)
        self.face = Face(self.shown, owner, used=self._used, flipped=lambda: self.later(_look))
        self._sight = Sight(name, tools.watchers, self._mailbox, self.face.in_flight)
        self._berths = Berths(name, tools.ports, tools.place)
        self.keeper = Keeper(tools.store, present.life, past.failure)
        self._departures = Departures(tools.effects, self.face.in_flight, self._sight.current, self.post)
        self._aftermath = Aftermath(present, self._berths, self._departures, self._errands)
        self._launching = Launching(present, self._berths, self.fold, self._save)
        self._looked_at = 0.0
        self.absent: Hal0Error | None = Hal0Error(
            "engine.unreachable", f"cannot change slot {name}: podman has not said yet what runs"
        )
        self._berths.hold(present.life)

    # -- from outside -------------------------------------------------------------------------------------------------

    def shown(self) -> Shown:
        """Everything that is known of the slot at this moment."""
        face = self.face
        return self._it.shown(in_flight=face.in_flight.count, queued=face.queued, unsaved=self.keeper.unsaved)

    def post(self, happening: h.Happening, of: Container | None = None) -> None:
        """It happened; `of`: to this container, and to no later one."""
        self._mailbox.put(Message(happening, container=of.name if of is not None else None))

    def later(self, action: Callable[[], None]) -> None:
        """Have it done in turn, whenever that is."""
        self._mailbox.put(Call(action))

    async def in_turn(self, action: Callable[[], T]) -> T:
        """Have it done in turn, and wait for its result. Raises why nobody would do it."""
        if self.absent is not None:
            raise Hal0Error(self.absent.code, self.absent.message)
        return await self._mailbox.in_turn(action)

    def suspect(self) -> None:
        """Something looked wrong with the current container."""
        facts = self._it.life.facts
        if self.absent is None and facts.current is not None and facts.launched:
            self._sight.current.confirm(facts.current)

    def observe(self, infos: Sequence[ContainerInfo]) -> None:
        if self.absent is None:
            self._sight.compare(infos, self._it.life)

    # -- in turn ------------------------------------------------------------------------------------------------------

    def adopt(self, life: h.Life, record: SlotRecord | None) -> None:
        """Where the slot really stands, now that the engine was asked. Before `run`."""
        it, before = self._it, self._it.life
        self.absent = None
        it.placed(life, record)
        it.learn(deadline=it.deadline(life.phase))
        self._aftermath.follow_swap(None)
        self._berths.give_back(before, it.life)
        self.keeper.saved = it.life
        self._departures.hurry()
        self._berths.hold(it.life)
        self.face.announce()

    async def run(self) -> None:
        """For ever, after `adopt`. Cancelling it leaves the container as it is; after an error `adopt` it anew."""
        name = self._it.name
        error = Hal0Error("server.stopping", f"cannot change slot {name}: hal0 is stopping")
        try:
            await self._save()
            await self._settle()
            while True:
                mail = await self._mailbox.next(self._wake_at())
                if isinstance(mail, Call):
                    mail.act()
                elif mail is not None and mail.is_of(self._it.life, self._hands.step):
                    self.fold(mail.happening)
                await self._settle()
        except Exception:
            error = Hal0Error("system.internal", f"slot {name} met a mistake of hal0's: it starts again")
            self._errands.fail(error)
            raise
        finally:
            self.absent = error
            self._mailbox.refuse_all(error)
            await self._close()

    def fold(self, happening: h.Happening) -> None:
        """Learn what happened, and do what follows from it at once."""
        it, before = self._it, self._it.life
        it.life = learning.fold(before, happening, it.now)
        if isinstance(happening, h.Failed | h.Buried):
            it.life = fallback.after(before, it.life, it.config, it.book, it.now)
        if isinstance(happening, h.Measured):
            it.book = self.keeper.took(self.shown(), self._steward.used)
        self._aftermath.of(before, happening)
        self.face.outdated()

    async def _settle(self) -> None:
        """Decide and carry out until there is nothing more to decide now; then write, look and tell."""
        it = self._it
        for _ in range(_MAX_STEPS):
            await self._expire()
            if it.life.facts.busy is None:
                await self._hands.stop()  # what may still be under way is not wanted any more
            decision = decide(it.life.desired, it.life.phase, it.life.facts, it.now)
            if decision.phase is not it.life.phase:
                await self._enter(decision)
            elif decision.effect is not None:
                await self._begin(decision.effect)
            else:
                break
        else:
            log.error("slot %s does not settle by a mistake of hal0's: %s", it.name, it.life)
        if self.keeper.behind(it.life):
            await self._save()
        if it.life.phase is Phase.READY and it.life.facts.current is not None:
            await self.keeper.note_model(it.life.facts.current.model, self.shown)
        if not self.keeper.unsaved:  # what is stopped is leaving on disk as well
            self._departures.tend(it.life.facts.leaving, it.now, it.config.drain_s)
        await self.keeper.note_failure(it.life, self.shown)
        self._sight.watch(it.life, it.watched)
        if it.life.phase is Phase.OFFLINE and self.keeper.forgets(it.life.desired):
            text = f"slot {it.name} is unloaded, but its record cannot be written: hal0 goes on trying, and would load"
            self._errands.fail(Hal0Error("state.write_failed", f"{text} it again if it were started anew before that"))
        self._errands.settled(self.shown)
        self.face.announce()

    async def _enter(self, decision: Decision) -> None:
        """Take the step on disk first; only then end what was under way and begin what comes next."""
        it, old, book, phase = self._it, self._it.life, self._it.book, decision.phase
        if phase not in TRANSITIONS[old.phase]:
            raise Hal0Error("system.internal", f"slot {it.name}: {old.phase} -> {phase} is not a transition")
        it.life = learning.enter(old, phase, it.deadline(phase))
        if phase is not Phase.STARTING:
            self._berths.forget_clashes()
        current = it.life.facts.current
        it.book = book.entered(phase, it.now, current.model if current else None)
        if not await self._save() and phase is Phase.UNLOADING and old.facts.fault is None:
            self._refuse_stop(old, book)
            return
        await self._hands.stop()
        log.info("slot %s: %s -> %s (%s)", it.name, old.phase, phase, message(self.shown()))
        self.face.announce()
        if decision.effect is not None:
            self._start(decision.effect)

    async def _begin(self, effect: Effect) -> None:
        """An effect within the present phase."""
        if effect is Effect.TURN:
            self.fold(h.Turned())  # requests go there from here on; the old one is stopped when that is on disk
        elif effect is not Effect.LAUNCH or await self._launching.prepare():
            self._start(effect)

    def _start(self, effect: Effect) -> None:
        it = self._it
        it.learn(busy=effect)
        subject = it.subject(it.life.desired.model)
        self._hands.start(order_of(effect, subject, it.life, self.face.in_flight, warmed=it.book.warmed))

    def _refuse_stop(self, old: h.Life, book: Logbook) -> None:
        """A wanted stop could not be recorded: the step is not taken, and whoever wanted it is told."""
        text = f"cannot unload slot {self._it.name}: its record cannot be written"
        self._errands.fail(Hal0Error("state.write_failed", text))
        self._it.life = learning.not_left(old, self.keeper.saved, self.keeper.due)
        self._it.book = book

    def _report(self, happening: h.Happening, step: int) -> None:
        self._mailbox.put(Message(happening, step=step))

    # -- timers -------------------------------------------------------------------------------------------------------

    def _wake_at(self) -> float:
        it, quiet = self._it, self.face.quiet
        own = timers.wake_at(it.life.phase, it.life.facts, it.book, it.config, quiet=quiet, looked_at=self._looked_at)
        departs = NEVER if self.keeper.unsaved else self._departures.wake_at(it.life.facts.leaving)
        return min(own, self.keeper.wake_at, departs)

    async def _expire(self) -> None:
        """Learn what time alone has brought."""
        it, now, facts = self._it, self._it.now, self._it.life.facts
        self._looked_at = now
        if now >= facts.deadline and (container := timers.overdue(it.life)) is not None:
            await self._give_up_for_now(container, now)
        if now >= self.keeper.due:
            await self._save()
        self.keeper.expire(now)
        quiet = self.face.quiet and not self.keeper.unsaved  # unsaved: an unload would be refused
        for happening in timers.come_due(it.life, it.book, it.config, now, quiet=quiet):
            self.fold(happening)
        if now >= it.life.facts.deadline:
            it.learn(deadline=NEVER)

    async def _give_up_for_now(self, container: Container, now: float) -> None:
        """What has to go does not: whoever waits is told, and it is tried again until it is done."""
        it = self._it
        await self._hands.stop()
        text, code = f"podman has not ended {container.name} within {now - it.book.since:.0f} s", "engine.unreachable"
        if self.keeper.unsaved:  # what is leaving is not stopped before that is on disk
            text, code = f"the record of slot {it.name} cannot be written", "state.write_failed"
        self._errands.fail(Hal0Error(code, f"cannot finish: {text}; hal0 goes on trying"))
        it.learn(deadline=it.deadline(it.life.phase))
        self.fold(h.EngineTrouble(text))

    # -- the operator, files, the end ---------------------------------------------------------------------------------

    def begin_job(self, asked: Asked) -> Job:
        """Carry a verb into the facts; the job to follow is the running one when it is the same wish."""
        it = self._it
        wished, goal = verbs.wish(replace(asked, mode=it.config.swap), it.life, it.now)
        if wished is not None:
            self.fold(wished)
        elif (job := self._errands.running(goal)) is not None:
            return job
        return self._errands.begin(asked, goal, lambda job: self.later(lambda: self._cancel(job)))

    def _cancel(self, job: Job) -> None:
        if self._errands.waits(job):
            self._errands.cancelled()
            self.fold(verbs.cancel(self._it.life, self._it.now))

    def _used(self) -> None:
        """Requests came or went."""
        now = self._it.now
        self._it.book = replace(self._it.book, last_used=now)
        self.keeper.used(now)

    async def _save(self) -> bool:
        return await self.keeper.save(self.shown())

    async def _close(self) -> None:
        """End all own tasks; the container goes on."""
        self.face.close()
        await self._hands.stop()
        await self._sight.close()
        if self.keeper.due != NEVER:
            await self._save()


def _look() -> None:
    """Mail that only wakes the actor: timers may have moved."""
