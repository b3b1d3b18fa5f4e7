"""What follows from a happening beside what is learned of it: secrets, ports and the book are kept, jobs are told."""

from hal0.slots import happenings as h
from hal0.slots.berths import Berths
from hal0.slots.departures import Departures
from hal0.slots.errands import Errands
from hal0.slots.present import Present
from hal0.slots.record import Swap


class Aftermath:
    def __init__(self, present: Present, berths: Berths, departures: Departures, errands: Errands) -> None:
        self._it = present
        self._berths = berths
        self._departures = departures
        self._errands = errands

    def of(self, before: h.Life, happening: h.Happening) -> None:
        """The slot's life was `before`; what `happening` teaches is learned."""
        it = self._it
        match happening:
            case h.Launched(container, secret) | h.Beside(h.Launched(container, secret)):
                here = {known.generation for known in it.life.facts.containers}
                kept = {generation: old for generation, old in it.secrets.items() if generation in here}
                it.secrets = {**kept, container.generation: secret}
            case h.Clashed():
                self._berths.clashed(before.facts.current)
            case h.Beside(h.Clashed()):
                self._berths.clashed(before.facts.next)
            case h.Created() | h.Beside(h.Created()):
                it.book = it.book.created(it.now)
            case h.Answered() | h.Beside(h.Answered()):
                it.book = it.book.answered(it.now)
            case h.Turned():
                it.book = it.book.turned(it.now, before.desired.model)
            case h.Strayed() | h.EngineBack():
                self._departures.hurry()
            case h.Wished():
                self._errands.wished(it.life.desired)
            case _:
                pass
        self._berths.give_back(before, it.life)
        if before.facts.swap is not None and before.facts.swap != it.life.facts.swap:
            self._errands.swapping(before.facts.swap, it.life, happening)
        self.follow_swap(before.facts.swap)

    def follow_swap(self, before: Swap | None) -> None:
        """Each step beside the present container has its own deadline, and its place in the book."""
        it, swap = self._it, self._it.life.facts.swap
        if swap is None or not swap.overlaps or (before is not None and before.step is swap.step):
            return
        it.learn(deadline=it.step_deadline(swap.step, swap.to_model))
        it.book = it.book.stepped(swap.step, it.now)
