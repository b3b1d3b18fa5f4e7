"""The measuring side of the drill: when hal0 notices and when it is well again, and what one client sees meanwhile."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from hal0.cli.feed import Feed, entity
from hal0.client import Client, Json, Stream, Unreachable

POLL_S: Final = 0.5  # right even if every event is lost
CONNECT_S: Final = 5.0
FIRST_WORD_S: Final = 60.0
SETTLE_S: Final = 3.0  # a stream that still flows so long after a fault was not cut by it
_ENDING_S: Final = 10.0  # an abandoned stream is closed 2 s after its error event at the latest

Seen = Callable[[Json], bool]


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds since the fault; None: not within the time given."""

    noticed_s: float | None
    recovered_s: float | None


def watch(
    client: Client, slot: str, act: Callable[[], None], *, noticed: Seen, recovered: Seen, within_s: float
) -> Times:
    """Do `act`, then look at the slot's views as hal0 announces them until `recovered`, for `within_s` at most."""
    with Feed(client) as feed:
        until(lambda: entity_of(feed, slot, POLL_S) is not None, CONNECT_S)  # its snapshot: from now on we listen
        began = time.monotonic()
        act()
        first = None
        while (passed := time.monotonic() - began) < within_s:
            view = entity_of(feed, slot, POLL_S) or client.get(f"/api/slots/{slot}")
            passed = time.monotonic() - began
            if first is None and noticed(view):
                first = passed
            if recovered(view):
                return Times(first, passed)
            if _rests(view):
                break
    return Times(first, None)


def _rests(slot: Json) -> bool:
    """It has failed for good: waiting longer brings nothing."""
    failure = slot["failure"]
    return slot["state"] == "error" and failure is not None and failure["failure_class"] == "permanent"


def entity_of(feed: Feed, slot: str, timeout_s: float) -> Json | None:
    """The slot's view from the next event; None when that is about something else, or there is none."""
    event = feed.next(timeout_s)
    topic, name, value = entity(event) if event is not None else ("", "", None)
    return value if (topic, name) == ("slot", slot) else None


def until(true: Callable[[], bool], within_s: float) -> float | None:
    """Seconds until `true()`; None when it is not within the time given."""
    began = time.monotonic()
    while not true():
        if time.monotonic() - began > within_s:
            return None
        time.sleep(0.02)
    return time.monotonic() - began


class Talk:
    """One streamed chat, read in the background as a client would: how far it came, and how it ended."""

    def __init__(self, client: Client, slot: str) -> None:
        # As long as the context allows: the fault has to find it under way.
        body = {
            "model": slot,
            "stream": True,
            "ignore_eos": True,
            "messages": [{"role": "user", "content": "Tell a story that goes on and on."}],
        }
        self._stream: Stream = client.stream("POST", "/v1/chat/completions", body, timeout_s=FIRST_WORD_S)
        self._begun = threading.Event()
        self._left = False
        self._reader = threading.Thread(target=self._read, name="talk", daemon=True)
        self.events = 0
        self.error: Json | None = None
        self.ending: str | None = None  # whole, short, or None while it flows

    def __enter__(self) -> Self:
        self._reader.start()
        self._begun.wait(FIRST_WORD_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left = True
        self._stream.interrupt()
        self._reader.join(_ENDING_S)

    def _read(self) -> None:
        ending = "whole"
        try:
            for event in self._stream.events():
                self.events += 1
                self._begun.set()
                if isinstance(event.data, dict) and isinstance(event.data.get("error"), dict):
                    self.error = event.data["error"]
        except Unreachable:
            ending = "short"
        if not self._left:
            self.ending = ending
        self._begun.set()

    def ended(self) -> None:
        """Return when it has ended, or has had the time to."""
        self._reader.join(_ENDING_S)

    def settled(self) -> None:
        """Return when it has ended, or has gone on for a while."""
        self._reader.join(SETTLE_S)

    @property
    def cut(self) -> bool:
        return self.error is not None or self.ending == "short" or not self.events

    @property
    def told(self) -> bool:
        """It ended as a broken answer must: a typed error event, and no end that looks complete."""
        return bool(self.error and self.error.get("code") and self.error.get("message")) and self.ending == "short"

    def in_words(self) -> str:
        error = f", error {self.error.get('code')}" if self.error else ""
        ending = {"whole": "came to its end", "short": "closed short", None: "went on"}[self.ending]
        return f"{self.events} events{error}, {ending}"
