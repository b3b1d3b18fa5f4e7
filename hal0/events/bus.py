"""Bounded fan-out of announcements: publishers never wait, a slow listener is told to look again."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from hal0.lib import jsonio
from hal0.lib.ring import Ring

# Kept for listeners that come back: so many events, or as many as take so many bytes. A slot's view is 1 to 3 KB: at
# least 1300 of them, minutes of nineteen slots that load and swap without a pause.
RING_CAPACITY: Final = 4096
RING_BYTES: Final = 4 << 20
_BESIDE_BYTES: Final = 200  # what an event takes besides its value
LISTENER_CAPACITY: Final = 256  # events a slow listener may be behind before it is reset


class Topic(StrEnum):
    SLOT = "slot"
    JOB = "job"
    IMAGE = "image"
    UPSTREAM = "upstream"
    CAPABILITY = "capability"
    HEALTH = "health"
    ACTIVITY = "activity"
    DECISION = "decision"


# One event per request would drown all others: only who names this topic gets it.
ON_REQUEST: Final = frozenset({Topic.DECISION})
USUAL: Final = frozenset(Topic) - ON_REQUEST


@dataclass(frozen=True, slots=True)
class Event:
    """An entity's whole new value; None when it is gone. `seq` is 0 for snapshots."""

    topic: Topic
    id: str
    value: dict[str, Any] | None
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Reset:
    """The listener missed something: it must forget what it knows; snapshots follow."""

    seq: int


@dataclass(frozen=True, slots=True)
class _Kept:
    """An event in the ring, as JSON: thousands of values as objects take more than twice the memory."""

    topic: Topic
    id: str
    data: bytes | None

    def event(self, seq: int) -> Event:
        return Event(self.topic, self.id, None if self.data is None else jsonio.loads(self.data), seq)

    def size(self) -> int:
        return _BESIDE_BYTES + (0 if self.data is None else len(self.data))


Snapshot = Callable[[], list[Event]]


class Bus:
    """One per process. `snapshot` gives the current value of every entity, for new and reset listeners."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._ring: Ring[_Kept] = Ring(RING_CAPACITY, most_bytes=RING_BYTES, size=_Kept.size)
        self._listeners: set[_Listener] = set()

    @property
    def last_seq(self) -> int:
        return self._ring.last_seq

    def publish(self, topic: Topic, entity: str, value: dict[str, Any] | None) -> None:
        event = Event(topic, entity, value, self._ring.last_seq + 1)
        self._ring.append(_Kept(topic, entity, None if value is None else jsonio.dumps_to_keep(value)))
        for listener in self._listeners:
            if topic in listener.topics:
                listener.offer(event)

    def announce(self, topic: Topic, entity: str, look: Callable[[], dict[str, Any]]) -> None:
        """`publish` of what is costly to look at: while nobody listens nothing is kept, and who comes back is reset."""
        if self.wanted(topic):
            self.publish(topic, entity, look())
        else:
            self._ring.skip()

    def wanted(self, topic: Topic) -> bool:
        """Whether anybody listens to it now."""
        return any(topic in listener.topics for listener in self._listeners)

    @asynccontextmanager
    async def listen(self, after: int | None = None, topics: frozenset[Topic] = USUAL) -> AsyncIterator["Listening"]:
        """Subscribe to `topics` and snapshot in one step: nothing is lost between the two.

        With `after` (a sequence number seen earlier in this boot) only what came since is sent, if still known.
        """
        listener = _Listener(self, topics)
        self._listeners.add(listener)
        try:
            missed = self._ring.since(after) if after is not None else None
            if missed is not None:
                listener.first.extend(kept.event(seq) for seq, kept in missed if kept.topic in topics)
            else:
                if after is not None:
                    listener.first.append(Reset(self.last_seq))
                listener.first.extend(self.snapshot(topics))
            yield Listening(listener)
        finally:
            self._listeners.discard(listener)

    def snapshot(self, topics: frozenset[Topic]) -> list[Event]:
        return [event for event in self._snapshot() if event.topic in topics]


class _Listener:
    def __init__(self, bus: Bus, topics: frozenset[Topic]) -> None:
        self._bus = bus
        self.topics = topics
        self.first: list[Event | Reset] = []
        self._queue: asyncio.Queue[Event] = asyncio.Queue(LISTENER_CAPACITY)
        self._overrun = False

    def offer(self, event: Event) -> None:
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            self._overrun = True

    async def next(self) -> list[Event | Reset]:
        """What to send now: one event, or a reset with snapshots after an overrun."""
        if self._overrun:
            while not self._queue.empty():
                self._queue.get_nowait()
            self._overrun = False
            return [Reset(self._bus.last_seq), *self._bus.snapshot(self.topics)]
        return [await self._queue.get()]


class Listening:
    """A listener's view: what to send first, then `next()` for ever."""

    def __init__(self, listener: _Listener) -> None:
        self._listener = listener

    @property
    def first(self) -> list[Event | Reset]:
        return list(self._listener.first)

    async def next(self) -> list[Event | Reset]:
        return await self._listener.next()
