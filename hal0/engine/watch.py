"""The endless event stream: reconnects with backoff, says RESYNC whenever events may have been missed."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol

from hal0.engine.base import EngineEvent, EventKind
from hal0.engine.documents import engine_event, event_key, event_time
from hal0.errors import Hal0Error
from hal0.lib.aio import backoff_s
from hal0.lib.clock import Clock
from hal0.lib.jsonio import JSONDecodeError, loads

FIRST_DELAY_S: Final = 0.1
MAX_DELAY_S: Final = 5.0
# Podman's `since` is coarse and its headers come before it really listens: look back and drop what is known.
_OVERLAP_S: Final = 2.0
_REMEMBERED: Final = 1024  # more events than any overlap holds


class Lines(Protocol):
    async def readline(self) -> bytes: ...


OpenEvents = Callable[[float], AbstractAsyncContextManager[Lines]]


class _Seen:
    """The last events' keys; answers whether one is new."""

    def __init__(self) -> None:
        self._keys: OrderedDict[tuple[str, str, int], None] = OrderedDict()

    def add(self, key: tuple[str, str, int]) -> bool:
        if key in self._keys:
            return False
        self._keys[key] = None
        if len(self._keys) > _REMEMBERED:
            self._keys.popitem(last=False)
        return True


async def watch_events(open_events: OpenEvents, clock: Clock) -> AsyncGenerator[EngineEvent, None]:
    """RESYNC once the stream stands and after each gap, then every event once. Never ends and never raises.

    `open_events(since)` opens podman's stream from that time on (seconds since the epoch). Close the iterator
    (contextlib.aclosing) to leave.
    """
    seen = _Seen()
    latest = clock.now()
    delays = backoff_s(FIRST_DELAY_S, MAX_DELAY_S)
    while True:
        try:
            async with open_events(latest - _OVERLAP_S) as lines:
                yield EngineEvent(EventKind.RESYNC, at=clock.now())
                while line := await lines.readline():
                    document = _document(line)
                    if not seen.add(event_key(document)):
                        continue
                    latest = max(latest, event_time(document))
                    delays = backoff_s(FIRST_DELAY_S, MAX_DELAY_S)
                    if (event := engine_event(document)) is not None:
                        yield event
        except (Hal0Error, ValueError):
            pass  # unreachable, or half a line before the end: both are a gap, and RESYNC follows
        await asyncio.sleep(next(delays))


def _document(line: bytes) -> dict[str, Any]:
    try:
        value = loads(line)
    except JSONDecodeError as error:
        raise ValueError("half an event") from error
    if not isinstance(value, dict):
        raise ValueError("not an event")  # noqa: TRY004  one error for every damaged line
    return value
