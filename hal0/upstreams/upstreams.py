"""All upstreams: made of the configuration, their lists kept fresh in the background, asked at once where one lacks."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Final

from hal0.config.root import RootConfig
from hal0.config.upstreams import UpstreamConfig
from hal0.errors import Hal0Error
from hal0.events.bus import Bus, Event, Topic
from hal0.lib.aio import Signal, cancelled
from hal0.lib.clock import Clock
from hal0.upstreams.link import Link
from hal0.upstreams.snapshot import Hop, UpstreamSnapshot
from hal0.upstreams.upstream import LIST_S, Upstream
from hal0.upstreams.view import view_of
from hal0.wire.upstreams import UpstreamView

# Lists asked for at the same time, of all upstreams together.
_PARALLEL: Final = 4
# A list comes at once; who needs longer waits for it beside the others.
_PLACE_S: Final = 2.0
# What a request may wait for lists, however many upstreams are asked.
PREFETCH_S: Final = LIST_S

MakeLink = Callable[[str, UpstreamConfig], Link]


class Upstreams:
    """Implements `snapshot.KnownUpstreams`. `link` makes the way to one upstream."""

    def __init__(self, config: RootConfig, link: MakeLink, clock: Clock, bus: Bus) -> None:
        self.version = 0
        self._link = link
        self._clock = clock
        self._bus = bus
        self._known: dict[str, Upstream] = {}
        self._fronts: Mapping[str, Hop] = {}
        self._catalog_s = 0.0
        self._asking: dict[Upstream, asyncio.Task[None]] = {}
        self._places = asyncio.Semaphore(_PARALLEL)
        self._woken = Signal()
        self._apply(config)

    # What is there.

    def get(self, name: str) -> Upstream | None:
        return self._known.get(name)

    def named(self, name: str) -> Upstream:
        """Raises upstream.not_found."""
        known = self._known.get(name)
        if known is None:
            raise Hal0Error("upstream.not_found", f"cannot find an upstream {name!r}", hint="hal0ctl upstream list")
        return known

    def snapshots(self) -> Collection[UpstreamSnapshot]:
        return [upstream.snapshot() for upstream in self._known.values() if upstream.config.enabled]

    def fronts(self) -> Mapping[str, Hop]:
        return self._fronts

    def views(self) -> list[UpstreamView]:
        return [view_of(upstream, self._clock.now()) for upstream in self._known.values()]

    def view(self, name: str) -> UpstreamView:
        """Raises upstream.not_found."""
        return view_of(self.named(name), self._clock.now())

    def snapshot_events(self) -> list[Event]:
        return [Event(Topic.UPSTREAM, view.name, view.model_dump(mode="json")) for view in self.views()]

    # The configuration.

    def apply(self, root: RootConfig) -> None:
        """Make it so; an upstream that stays as configured keeps its list and its circuit."""
        self._apply(root)
        self._woken.notify()

    def _apply(self, root: RootConfig) -> None:
        before = self._known
        keep = root.dispatch.catalog_s == self._catalog_s
        self._catalog_s = root.dispatch.catalog_s
        self._known = {}
        for name, config in root.upstreams.items():
            old = before.get(name)
            same = keep and old is not None and old.config == config
            self._known[name] = old if same and old is not None else self._made(name, config)
        self._fronts = _fronts(root)
        self.version += 1
        for name, upstream in self._known.items():
            if before.get(name) is not upstream:
                self._publish(upstream)
        for name in before.keys() - self._known.keys():
            self._bus.publish(Topic.UPSTREAM, name, None)

    def _made(self, name: str, config: UpstreamConfig) -> Upstream:
        link = self._link(name, config)
        return Upstream(
            name, config, link, self._clock, catalog_s=self._catalog_s, changed=self._changed, seen=self._seen
        )

    def _changed(self, upstream: Upstream) -> None:
        self.version += 1
        self._seen(upstream)

    def _seen(self, upstream: Upstream) -> None:
        if self._known.get(upstream.name) is upstream:  # not one that was replaced meanwhile
            self._publish(upstream)

    def _publish(self, upstream: Upstream) -> None:
        view = view_of(upstream, self._clock.now())
        self._bus.publish(Topic.UPSTREAM, upstream.name, view.model_dump(mode="json"))

    # Model lists.

    async def keep_fresh(self) -> None:
        """Renew lists as they fall due, for ever."""
        while True:
            now = self._clock.now()
            asked = [upstream for upstream in self._known.values() if upstream.config.enabled]
            for upstream in asked:
                if upstream.due_at <= now:
                    self._ask(upstream)
            waiting = [upstream.due_at for upstream in asked if upstream not in self._asking]
            await self._until(min(waiting, default=None))

    async def close(self) -> None:
        for task in list(self._asking.values()):
            await cancelled(task)

    async def prefetch(self, wanted: str | None = None) -> frozenset[str]:
        """Ask the upstreams whose models nobody knows yet, for at most PREFETCH_S; the names of those that answered.

        With a model `wanted` they are those that may list it, and once one does nobody waits for the others. Callers
        share what is under way; a list that comes too late for them is there for the next.
        """
        cold = [
            upstream
            for upstream in self._known.values()
            if upstream.cold and (wanted is None or upstream.snapshot().may_list(wanted))
        ]
        asking = {self._ask(upstream) for upstream in cold}
        with suppress(TimeoutError):
            async with asyncio.timeout(PREFETCH_S):
                while asking and not any(upstream.lists(wanted) for upstream in cold):
                    _, asking = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        return frozenset(upstream.name for upstream in cold if upstream.models is not None)

    async def refresh(self, name: str) -> Upstream:
        """Ask one for its list now; how that went is in it. Raises upstream.not_found."""
        upstream = self.named(name)
        await asyncio.shield(self._ask(upstream))
        return upstream

    def _ask(self, upstream: Upstream) -> asyncio.Task[None]:
        """The asking that is under way, or a new one; it goes on when its callers leave."""
        task = self._asking.get(upstream)
        if task is None:
            task = self._asking[upstream] = asyncio.create_task(self._turn(upstream), name="upstream-models")
        return task

    async def _turn(self, upstream: Upstream) -> None:
        """Who hangs has no place among those that are asked at the same time for as long as that lasts."""
        asking: asyncio.Task[None] | None = None
        try:
            async with self._places:
                asking = asyncio.create_task(upstream.ask())
                await asyncio.wait({asking}, timeout=_PLACE_S)
            await asking
        finally:
            if asking is not None:
                await cancelled(asking)
            del self._asking[upstream]
            self._woken.notify()

    async def _until(self, due_at: float | None) -> None:
        """Until then (None: no time), or until a list came or the configuration changed."""
        try:
            async with asyncio.timeout(None if due_at is None else max(due_at - self._clock.now(), 0.0)):
                await self._woken.wait()
        except TimeoutError:
            return


def _fronts(root: RootConfig) -> dict[str, Hop]:
    """A slot without a model stands for nothing yet."""
    return {
        name: Hop(slot.upstream, slot.model)
        for name in root.slots
        if (slot := root.effective(name)).upstream is not None and slot.model is not None
    }
