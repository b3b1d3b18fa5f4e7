"""Holds requests until their slot may take them, in order of arrival, and counts them in."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from hal0.dispatch.admission import Admission, Go, Refuse, Wait, Waiter, admission, has_seen_load
from hal0.errors import Hal0Error
from hal0.lib.clock import Clock
from hal0.slots.handle import Serving, SlotHandle, SlotSnapshot
from hal0.vocab import SlotName

MAX_HOLD_S: Final = 600.0  # the longest that X-Hal0-Hold may ask for


@dataclass(slots=True)
class Place:
    """A request at the gate. `position` is its place in the line when it first had to wait (1 = next)."""

    waiter: Waiter
    position: int | None = None


class Admitted(NamedTuple):
    """A request, counted in until `serving.end`; `snapshot` is the slot as it was then, `position` as in Place."""

    serving: Serving
    snapshot: SlotSnapshot
    position: int | None = None


def hold_header(headers: Mapping[str, str]) -> float | None:
    """The client's own limit in seconds, from `X-Hal0-Hold: 0..600`. Raises request.invalid."""
    text = headers.get("X-Hal0-Hold")
    if text is None:
        return None
    if text.isascii() and text.isdecimal() and int(text) <= MAX_HOLD_S:
        return float(text)
    raise Hal0Error("request.invalid", f"cannot read X-Hal0-Hold {text!r}: it is 0 to {MAX_HOLD_S:.0f} (seconds)")


class Gate:
    """One line per slot; a place in it lasts until the request goes in, is refused, or its client leaves."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lines: dict[SlotName, list[Place]] = {}

    def waiting(self, slot: SlotName) -> int:
        """How many requests stand at the gate of a slot."""
        return len(self._lines.get(slot, ()))

    def straight(self, handle: SlotHandle) -> Admitted | None:
        """The way of most requests: the slot has room and nobody waits for it. None: `enter`."""
        if handle.name in self._lines:
            return None
        snapshot = handle.snapshot()
        if not snapshot.routable or (snapshot.max_inflight is not None and handle.in_flight >= snapshot.max_inflight):
            return None
        return Admitted(handle.serving(), snapshot)

    async def enter(self, handle: SlotHandle, *, hold_s: float, patience_s: float | None) -> Admitted:
        """Wait until the slot takes the request.

        Raises the refusal. A cancelled caller leaves the line; the load it asked for goes on.
        """
        line = self._lines.setdefault(handle.name, [])
        place = Place(Waiter(arrived=self._clock.now(), hold_s=hold_s, ahead=len(line), patience_s=patience_s))
        line.append(place)
        try:
            snapshot = await self._stand(handle, line, place)
            return Admitted(handle.serving(), snapshot, place.position)
        finally:
            line.remove(place)
            if not line:
                del self._lines[handle.name]

    async def _stand(self, handle: SlotHandle, line: list[Place], place: Place) -> SlotSnapshot:
        """Until the verdict is Go; answers the snapshot that it rests on."""
        while True:
            snapshot = handle.snapshot()
            verdict = self._look(snapshot, handle.in_flight, line, place)
            if isinstance(verdict, Go):
                return snapshot
            if verdict.load:
                handle.request_load()
            if isinstance(verdict, Refuse):
                raise verdict.error
            await self._wait(handle, snapshot, verdict)

    def _look(self, snapshot: SlotSnapshot, in_flight: int, line: list[Place], place: Place) -> Admission:
        ahead = line.index(place)
        place.waiter = replace(place.waiter, ahead=ahead, joined=place.waiter.joined or has_seen_load(snapshot))
        verdict = admission(snapshot, in_flight, place.waiter, self._clock.now())
        if isinstance(verdict, Wait) and not place.waiter.queued:
            place.waiter = replace(place.waiter, queued=True)
            place.position = ahead + 1
        return verdict

    async def _wait(self, handle: SlotHandle, snapshot: SlotSnapshot, verdict: Wait) -> None:
        if handle.snapshot() is not snapshot:
            return  # asking for the load has changed it already: look again
        try:
            async with asyncio.timeout(None if verdict.until is None else verdict.until - self._clock.now()):
                await handle.changed()
        except TimeoutError:
            return  # the next look refuses
