"""`/api/events`: what is, then every change, as one stream that a client can come back to."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Final

from aiohttp import web

from hal0.api import sse
from hal0.errors import Hal0Error
from hal0.events.bus import USUAL, Bus, Event, Reset, Topic
from hal0.services import SERVICES
from hal0.wire.events import EventView

Keep = Callable[[Event | Reset], bool]

_UNKNOWN: Final = -1  # a place that no ring remembers: reset, then everything anew


async def events(request: web.Request) -> web.StreamResponse:
    services = request.app[SERVICES]
    asked, topics = request.headers.get("Last-Event-ID") or request.query.get("after"), _topics(request)
    after = place(asked, services.about.boot)
    async with aclosing(_frames(services.bus, services.about.boot, after, topics)) as frames:
        return await request.app[sse.STREAMS].send(request, frames)


async def of_slot(request: web.Request) -> web.StreamResponse:
    """One slot and its jobs. Raises slot.not_found."""
    services, name = request.app[SERVICES], request.match_info["name"]
    services.supervisor.slot(name)
    asked = request.headers.get("Last-Event-ID") or request.query.get("after")
    after, topics = place(asked, services.about.boot), frozenset({Topic.SLOT, Topic.JOB})
    async with aclosing(_frames(services.bus, services.about.boot, after, topics, _about(name))) as frames:
        return await request.app[sse.STREAMS].send(request, frames)


def _about(slot: str) -> Keep:
    def keep(item: Event | Reset) -> bool:
        if isinstance(item, Reset) or (item.topic is Topic.SLOT and item.id == slot):
            return True
        return item.topic is Topic.JOB and item.value is not None and item.value["target"] == slot

    return keep


def _topics(request: web.Request) -> frozenset[Topic]:
    """Those that were named, separated by commas; the usual ones when none was."""
    named = [name.strip() for name in request.query.get("topics", "").split(",") if name.strip()]
    unknown = next((name for name in named if name not in Topic.__members__.values()), None)
    if unknown is not None:
        known = ", ".join(Topic)
        raise Hal0Error("request.invalid", f"cannot use the topic {unknown!r}: there are {known}", param="topics")
    return frozenset(map(Topic, named)) or USUAL


def place(asked: str | None, boot: str) -> int | None:
    """The sequence number after which to go on; None for everything. Ids of another start are unknown."""
    if not asked:
        return None
    start, _, seq = asked.rpartition("-")
    return int(seq) if start == boot and seq.isdecimal() and len(seq) < 19 else _UNKNOWN


async def _frames(
    bus: Bus, boot: str, after: int | None, topics: frozenset[Topic], keep: Keep = lambda _: True
) -> AsyncGenerator[bytes, None]:
    async with bus.listen(after, topics) as listening:
        at, first = bus.last_seq, list(filter(keep, listening.first))
        yield _frame("hello", boot, None, None if first else f"{boot}-{at}")
        for data in _batch(first, boot, at):
            yield data
        while True:
            for data in _batch(list(filter(keep, await listening.next())), boot, bus.last_seq):
                yield data


def _batch(items: list[Event | Reset], boot: str, at: int) -> list[bytes]:
    """Frames of what belongs together. Snapshots are of `at`; only the last one says so: who loses the connection
    among them has to get them all again."""
    last = len(items) - 1
    frames = []
    for index, item in enumerate(items):
        if isinstance(item, Reset):
            frames.append(_frame("reset", boot, None, f"{boot}-{at}" if index == last else None))
        else:
            seq = item.seq or (at if index == last else 0)
            frames.append(_frame(item.topic, item.id, item.value, f"{boot}-{seq}" if seq else None))
    return frames


def _frame(topic: str, entity: str, value: dict[str, Any] | None, event_id: str | None) -> bytes:
    return sse.frame(EventView(topic=topic, id=entity, value=value).json_bytes(), event_id=event_id)
