"""All that remembers, opened and closed together."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from hal0.config.dispatch import DispatchConfig
from hal0.events.bus import Bus
from hal0.lib.clock import Clock, SystemClock
from hal0.observe.database import Database
from hal0.observe.decisions import Decisions
from hal0.observe.history import History, limits_of
from hal0.observe.live import Feed, LiveDecisions
from hal0.observe.queries import Reader


@dataclass(frozen=True, slots=True)
class Past:
    """`decisions` takes what ended, `feed` what happened; `history` keeps both, `reader` gives them back."""

    decisions: Decisions
    feed: Feed
    history: History
    reader: Reader


@asynccontextmanager
async def open_past(
    file: Path, config: Callable[[], DispatchConfig], bus: Bus, clock: Clock, *, wall: Clock | None = None
) -> AsyncIterator[Past]:
    """`wall` is the clock of the thread that writes, which has no event loop. Raises state.newer."""
    history = History(Database(file), lambda: limits_of(config()), wall or SystemClock())
    await history.start()
    try:
        decisions = Decisions(history.put, LiveDecisions(bus))
        yield Past(decisions, Feed(bus, history.note, clock), history, Reader(file))
        decisions.flush()
    finally:
        await history.close()
