"""Holds requests until their slot may take them, in order of arrival, and counts them in."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from hal0.config.dispatch import DispatchConfig
from hal0.dispatch.admission import Admission, Go, Refuse, Wait, Waiter, admission, crowded_out, has_seen_load
from hal0.dispatch.line import Line, Place
from hal0.dispatch.pace import Pace
from hal0.dispatch.rota import Rota
from hal0.dispatch.trace import Trace
from hal0.dispatch.turns import Rules
from hal0.errors import Hal0Error
from hal0.lib.clock import Clock
from hal0.slots.handle import Serving, SlotHandle, Slots, SlotSnapshot
from hal0.vocab import SlotName

MAX_HOLD_S: Final = 600.0  # the longest that X-Hal0-Hold may ask for
_SECONDS: Final = re.compile(r"[0-9]{1,9}\Z")


class Admitted(NamedTuple):
    """A request, counted in until `serving.end`; `snapshot` is the slot as it was then."""

    serving: Serving
    snapshot: SlotSnapshot


def hold_header(headers: Mapping[str, str]) -> float | None:
    """The client's own limit in seconds, from `X-Hal0-Hold: 0..600`. Raises request.invalid."""
    text = headers.get("X-Hal0-Hold")
    if text is None:
        return None
    if _SECONDS.match(text) and float(text) <= MAX_HOLD_S:
        return float(text)
    message = f"cannot read X-Hal0-Hold {text[:100]!r}: it is 0 to {MAX_HOLD_S:.0f} (seconds)"
    raise Hal0Error("request.invalid", message)


class Gate:
    """One line per slot; a place in it lasts until the request goes in, is refused, or its client leaves."""

    def __init__(self, slots: Slots, clock: Clock, config: DispatchConfig, pace: Pace) -> None:
        self._slots = slots
        self._clock = clock
        self._pace = pace
        self._lines: dict[SlotName, Line] = {}
        self._rota = Rota(slots, self._lines, clock, self._rules(config))

    def apply(self, config: DispatchConfig) -> None:
        """Another configuration is in force; whoever waits goes on waiting."""
        self._rota.apply(self._rules(config))

    async def close(self) -> None:
        await self._rota.close()

    def waiting(self, slot: SlotName) -> int:
        """How many requests stand at the gate of a slot."""
        return len(self._lines.get(slot, ()))

    def refusal(self, handle: SlotHandle, hold_s: float) -> Hal0Error | None:
        """What a request would be refused with now; None: it would go in, or wait. Changes nothing."""
        now, ahead = self._clock.now(), self.waiting(handle.name)
        verdict = admission(handle.snapshot(), handle.in_flight, Waiter(now, hold_s, ahead), now)
        return verdict.error if isinstance(verdict, Refuse) else None

    def straight(self, handle: SlotHandle, snapshot: SlotSnapshot) -> Admitted | None:
        """The way of most requests: the slot, as it is now, has room and nobody waits for it. None: `enter`."""
        if handle.name in self._lines or handle.name in self._rota.closed:
            return None
        if not snapshot.routable or (snapshot.max_inflight is not None and handle.in_flight >= snapshot.max_inflight):
            return None
        return Admitted(handle.serving(), snapshot)

    async def enter(self, handle: SlotHandle, trace: Trace, *, hold_s: float, patience_s: float | None) -> Admitted:
        """Wait until the slot takes the request; the trace learns how it waited.

        Raises the refusal. A cancelled caller leaves the line; the load it asked for goes on.
        """
        line = self._lines.setdefault(handle.name, Line())
        arrived, service_s = self._clock.now(), self._pace.service_s(handle.name)
        place = Place(Waiter(arrived, hold_s, patience_s=patience_s, service_s=service_s), trace.key_id)
        line.join(place)
        served = False
        try:
            snapshot = await self._stand(handle, line, place, trace)
            serving, served = handle.serving(), True
            return Admitted(serving, snapshot)
        finally:
            place.turn_over(self._clock.now())
            trace.turn_s = place.turn_s
            line.leave(place, served=served)
            if not line and self._lines.get(handle.name) is line:
                del self._lines[handle.name]
                self._rota.left(handle.name)
            if trace.queue_position is not None:
                handle.queued(len(line))

    def _rules(self, config: DispatchConfig) -> Rules:
        return Rules(
            fits=self._slots.fits_together, max_wait_s=config.max_wait_s, min_residency_s=config.min_residency_s
        )

    async def _stand(self, handle: SlotHandle, line: Line, place: Place, trace: Trace) -> SlotSnapshot:
        """Until the verdict is Go; answers the snapshot that it rests on."""
        while True:
            snapshot = handle.snapshot()
            verdict = self._look(handle, snapshot, line, place)
            if isinstance(verdict, Refuse) and verdict.full:
                verdict = self._squeezed(handle, snapshot, line, place, verdict)
            if not isinstance(verdict, Go) and (barred := self._slots.barred(handle.name)) is not None:
                raise barred
            if not isinstance(verdict, Go) and verdict.load:
                self._rota.ask(handle)
                verdict = self._look(handle, snapshot, line, place)  # now with what is expected
            if isinstance(verdict, Go):
                return snapshot
            if isinstance(verdict, Refuse):
                if verdict.load:
                    self._rota.wish(handle.name, place.waiter.arrived, place.key)
                raise verdict.error
            if trace.queue_position is None:
                trace.queue_position = place.waiter.ahead + 1
                handle.queued(len(line))
            if handle.snapshot() is snapshot:  # else asking for the load has changed it already
                await place.sleep(handle, None if verdict.until is None else verdict.until - self._clock.now())

    def _look(self, handle: SlotHandle, snapshot: SlotSnapshot, line: Line, place: Place) -> Admission:
        if place.refusal is not None:
            return Refuse(place.refusal)
        now = self._clock.now()
        turn_in_s = None if has_seen_load(snapshot) else self._rota.turn_in_s(handle.name)
        place.look(snapshot, line, turn_in_s, now)
        verdict = admission(snapshot, handle.in_flight, place.waiter, now)
        if isinstance(verdict, Wait):
            place.waiter = replace(place.waiter, queued=True)
        return verdict

    def _squeezed(
        self, handle: SlotHandle, snapshot: SlotSnapshot, line: Line, place: Place, full: Refuse
    ) -> Admission:
        """A full line takes in a caller who has fewer places than another; that one's last request is refused."""
        other = line.gives_way(place)
        if other is None:
            return full
        waiter = replace(place.waiter, behind=place.waiter.behind - 1)
        if isinstance(admission(snapshot, handle.in_flight, waiter, self._clock.now()), Refuse):
            return full
        line.dismiss(other, crowded_out(snapshot, handle.in_flight, other.waiter))
        return self._look(handle, snapshot, line, place)
