"""`-w`: shows again whenever something changes, in place on a terminal, one after the other otherwise."""

import sys
import time
from collections.abc import Callable
from typing import Final

from hal0.cli.feed import Feed, entity
from hal0.cli.session import Session
from hal0.client import Client

REFRESH_S: Final = 2.0  # ages and memory change without an event
SETTLE_S: Final = 0.1  # a burst of events is one change to the eye
HOME_AND_CLEAR: Final = "\x1b[H\x1b[J"


def watched(
    session: Session, client: Client, show: Callable[[], None], *, topic: str | None, refresh_s: float = REFRESH_S
) -> None:
    """Runs `show` at once, after each change of `topic` and, in place or without a topic, every `refresh_s`; until
    interrupted (or --timeout)."""
    in_place = sys.stdout.isatty() and not session.machine
    if not in_place and session.output == "table":
        session.output = "jsonl"
    deadline = time.monotonic() + session.timeout if session.timeout else None
    with Feed(client) as feed:
        while deadline is None or time.monotonic() < deadline:
            if in_place:
                sys.stdout.write(HOME_AND_CLEAR)
            show()
            _wait_for_change(feed, topic, refresh_s if in_place or topic is None else None, deadline)


def _wait_for_change(feed: Feed, topic: str | None, refresh_s: float | None, deadline: float | None) -> None:
    until = min(time.monotonic() + refresh_s if refresh_s else float("inf"), deadline or float("inf"))
    while (left := until - time.monotonic()) > 0:
        event = feed.next(min(left, 1.0))
        if event is not None and entity(event)[0] == topic:
            settled = time.monotonic() + SETTLE_S
            while (rest := settled - time.monotonic()) > 0:
                feed.next(rest)
            return
