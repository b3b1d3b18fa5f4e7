"""One slot's files: its record is written before anything is announced, and written again until it could be."""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from pydantic import ValidationError

from hal0.errors import Hal0Error
from hal0.slots.happenings import Life
from hal0.slots.logbook import Logbook
from hal0.slots.need import Used
from hal0.slots.record import SCHEMA, Desired, Failure, SlotRecord
from hal0.slots.shown import Shown
from hal0.slots.state import NEVER
from hal0.slots.store import SlotStore
from hal0.slots.view import failure_of, failure_view
from hal0.wire.slots import FailureView

log = logging.getLogger(__name__)

_RETRY_S: Final = 5.0
_USE_EVERY_S: Final = 5.0  # the time of last use is written this often at most


class Keeper:
    """`due`: when the record wants to be written even if nothing happens; `unsaved`: memory is ahead of the disk."""

    def __init__(self, store: SlotStore, life: Life, last_failure: bytes | None = None) -> None:
        self._store = store
        self.saved = life  # what the disk says
        self.unsaved = False
        self.due = NEVER
        self.last_failure = _read(last_failure)
        self._noted: tuple[Failure | None, float | None] = None, None
        self._model: str | None = None  # what override.env was told last
        self._notes_at = NEVER  # when it is tried again to write what could not be noted

    async def save(self, shown: Shown) -> bool:
        """Write the record; False when it could not be (it is retried, and shown as unsaved)."""
        try:
            await self._store.write_record(record_of(shown))
        except Hal0Error as err:
            if not self.unsaved:
                log.error("slot %s: %s", shown.name, err.message)  # noqa: TRY400  the message says it all
            self.unsaved, self.due = True, shown.now + _RETRY_S
            return False
        self.unsaved, self.due, self.saved = False, NEVER, shown.life
        return True

    def behind(self, life: Life) -> bool:
        """Something changed that the next boot must know, and its writing has not failed just now."""
        return not self.unsaved and _lasting(self.saved) != _lasting(life)

    def forgets(self, desired: Desired) -> bool:
        """A boot would not find this wish on disk."""
        return self.unsaved and self.saved.desired != desired

    @property
    def wake_at(self) -> float:
        """When there is something to write even if nothing happens."""
        return min(self.due, self._notes_at)

    def expire(self, now: float) -> None:
        """What could not be noted may be tried again."""
        if now >= self._notes_at:
            self._notes_at = NEVER

    def used(self, now: float) -> None:
        """The slot was used: worth writing down, but not at once."""
        if self.due == NEVER:
            self.due = now + _USE_EVERY_S

    def took(self, shown: Shown, used: Callable[[Shown], Used | None]) -> Logbook:
        """The book with what the slot's load has taken of memory by now; worth writing down, but not at once."""
        book = shown.book.took(used(shown))
        if book is not shown.book:
            self.used(shown.now)
        return book

    async def note_failure(self, life: Life, look: Callable[[], Shown]) -> None:
        """Keep why it failed, when its evidence is in and when what comes next is known; a success forgets nothing."""
        failure = life.facts.fault or life.facts.next_fault or life.facts.failure
        if failure is None or not failure.settled:
            return
        shown = look()
        view = failure_of(shown) or failure_view(failure, 1, None)
        noted = failure, view.next_attempt_at
        if noted == self._noted or (failure == self._noted[0] and view.next_attempt_at is None):
            return
        self.last_failure = view
        text = view.model_dump_json(indent=2).encode() + b"\n"
        if await self._note(shown, lambda: self._store.write_failure(shown.name, text)):
            self._noted = noted

    async def note_model(self, model: str, look: Callable[[], Shown]) -> None:
        """The live model decides from now on, not the configuration's seed."""
        if model == self._model:
            return
        shown = look()
        if await self._note(shown, lambda: self._store.write_override(shown.name, model)):
            self._model = model

    async def _note(self, shown: Shown, write: Callable[[], Awaitable[None]]) -> bool:
        """Whether it is on disk; what is not is tried again, as the record is."""
        if self._notes_at != NEVER:
            return False
        try:
            await write()
        except Hal0Error as err:
            log.warning("slot %s: %s", shown.name, err.message)
            self._notes_at = shown.now + _RETRY_S
            return False
        return True


def _read(data: bytes | None) -> FailureView | None:
    """What an earlier hal0 kept; a file that cannot be read is no reason not to start."""
    try:
        return None if data is None else FailureView.model_validate_json(data)
    except ValidationError:
        return None


def _lasting(life: Life) -> tuple[object, ...]:
    """What a boot decides by; progress and last use may be written later."""
    facts = life.facts
    failure = facts.fault or facts.failure
    return (
        life.desired,
        life.phase,
        facts.generation,
        facts.containers,
        facts.swap,
        facts.attempts,
        facts.fallback,
        failure,
    )


def record_of(shown: Shown) -> SlotRecord:
    """What the disk is told of this moment."""
    life, facts, book = shown.life, shown.life.facts, shown.book
    return SlotRecord(
        schema=SCHEMA,
        name=shown.name,
        state=shown.state,
        phase=life.phase,
        since=book.since,
        desired=life.desired,
        model=life.desired.model,
        provider=shown.provider.name,
        device=shown.device,
        generation=facts.generation,
        containers=facts.containers,
        swap=facts.swap,
        progress=facts.progress,
        failure=facts.fault or facts.failure,
        attempts=facts.attempts,
        load_history=book.history,
        last_used=book.last_used,
        updated_at=shown.now,
        memory_history=book.memory,
        fallback=facts.fallback,
    )
