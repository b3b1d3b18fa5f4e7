"""All that remembers, opened and closed together."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from hal0.config.dispatch import DispatchConfig
from hal0.events.bus import Bus
from hal0.lib.clock import Clock, SystemClock
from hal0.observe.database import Database
from hal0.observe.decisions import Decisions
from hal0.observe.engines import EngineMetrics
from hal0.observe.figures import LiveFigures
from hal0.observe.history import History, limits_of
from hal0.observe.live import Feed, LiveDecisions
from hal0.observe.measures import RequestMeasures, SlotMeasures
from hal0.observe.process import LoopLag
from hal0.observe.queries import Reader
from hal0.providers.base import Endpoint


@dataclass(frozen=True, slots=True)
class Past:
    """`decisions` takes what ended, `feed` what happened; `history` keeps both, `reader` gives them back.

    `requests` and `slots` count them for Prometheus; `lag` and `engines` are what else is told there,
    `figures` what busy engines do now.
    """

    decisions: Decisions
    feed: Feed
    history: History
    reader: Reader
    requests: RequestMeasures
    slots: SlotMeasures
    lag: LoopLag
    engines: EngineMetrics
    figures: LiveFigures


@dataclass(frozen=True, slots=True)
class Seen:
    """What is looked at from here. `paths` are those that are counted one by one, `endpoints` the engines by slot,
    `busy` the slots that answer somebody."""

    bus: Bus
    config: Callable[[], DispatchConfig]
    paths: frozenset[str]
    endpoints: Callable[[], Mapping[str, Endpoint]]
    busy: Callable[[], Iterable[str]] = tuple


@asynccontextmanager
async def open_past(file: Path, seen: Seen, clock: Clock, *, wall: Clock | None = None) -> AsyncIterator[Past]:
    """`wall` is the clock of the thread that writes, which has no event loop. Raises state.newer."""
    history = History(Database(file), lambda: limits_of(seen.config()), wall or SystemClock())
    await history.start()
    try:
        requests, slots, lag = RequestMeasures(seen.paths), SlotMeasures(), LoopLag()
        decisions = Decisions(history.put, requests, LiveDecisions(seen.bus))
        feed = Feed(seen.bus, (history.note, slots), clock)
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
            engines = EngineMetrics(session, seen.endpoints)
            figures = LiveFigures(session, seen.endpoints, seen.busy, clock)
            yield Past(decisions, feed, history, Reader(file), requests, slots, lag, engines, figures)
        decisions.flush()
    finally:
        await history.close()
