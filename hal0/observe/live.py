"""Tells the event stream: requests that ended, for those who ask for them, and what happened to hal0 itself."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from hal0.events.bus import Bus, Event, Reset, Topic
from hal0.lib import jsonio
from hal0.lib.clock import Clock
from hal0.observe.activity import Activity, Value, over, told
from hal0.observe.decisions import DecisionRecord
from hal0.observe.sentence import sentence
from hal0.wire.history import ActivityView, DecisionView

# Of one batch. More than an eye can follow, less than would push slower news out of the stream's memory.
_SHOWN: Final = 16
_FAILED: Final = 400

Row = dict[str, Any]


def row_of(record: DecisionRecord) -> Row:
    """The record as the history gives it back."""
    row: Row = jsonio.loads(jsonio.dumps(record))
    return row


def decision_view(row: Mapping[str, Any], left_out: int = 0) -> DecisionView:
    return DecisionView(**row, summary=sentence(row), left_out=left_out)


class LiveDecisions:
    """A sink. Announces nothing while nobody asks, and of a crowd some: those that failed first, then the newest."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._left_out = 0

    def __call__(self, records: Sequence[DecisionRecord]) -> None:
        if not self._bus.wanted(Topic.DECISION):
            self._left_out = 0
            return
        ranked = sorted(range(len(records)), key=lambda n: (records[n].status >= _FAILED, n))
        shown = frozenset(ranked[-_SHOWN:])
        for number, record in enumerate(records):
            if number in shown:
                view = decision_view(row_of(record), self._left_out)
                self._bus.publish(Topic.DECISION, record.request_id, view.model_dump(mode="json"))
                self._left_out = 0
            else:
                self._left_out += 1


class Feed:
    """Reads what happened off the event stream, and tells it on: to `listeners`, and to the stream itself."""

    def __init__(self, bus: Bus, listeners: Sequence[Callable[[Activity], None]], clock: Clock) -> None:
        self._bus = bus
        self._listeners = listeners
        self._clock = clock
        self._known: dict[tuple[str, str], Value] = {}
        self._last_id = 0

    def say(self, kind: str, subject: str, message: str, by: str | None = None) -> None:
        """Something that no change of a value tells."""
        self._tell(Activity.made(kind, subject, message, self._clock.now(), by))

    async def follow(self) -> None:
        """Runs for ever. What is there at the beginning is no news."""
        async with self._bus.listen() as listening:
            self._learn(listening.first)
            while True:
                items = await listening.next()
                if any(isinstance(item, Reset) for item in items):
                    self._learn(items)
                    continue
                for event in items:
                    assert isinstance(event, Event)
                    self._see(event)

    def _learn(self, items: Sequence[Event | Reset]) -> None:
        self._known = {(item.topic, item.id): item.value for item in items if isinstance(item, Event)}

    def _see(self, event: Event) -> None:
        before = self._known.get((event.topic, event.id))
        entry = told(event.topic, event.id, before, event.value, self._clock.now())
        if over(event.topic, event.value):
            self._known.pop((event.topic, event.id), None)
        elif event.topic in (Topic.SLOT, Topic.JOB, Topic.UPSTREAM):
            self._known[event.topic, event.id] = event.value
        if entry is not None:
            self._tell(entry)

    def _tell(self, entry: Activity) -> None:
        number = max(entry.id, self._last_id + 1)
        self._last_id = number
        entry = Activity(number, entry.at, entry.kind, entry.subject, entry.message, entry.by)
        for listener in self._listeners:
            listener(entry)
        view = ActivityView(**entry.__dict__)
        self._bus.publish(Topic.ACTIVITY, str(number), view.model_dump(mode="json"))
