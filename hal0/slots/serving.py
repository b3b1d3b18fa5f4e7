"""Requests under way in one slot: counted by container, and ended together when it must be drained."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hal0.errors import Hal0Error
from hal0.lib.aio import Signal
from hal0.providers.base import Endpoint

OnAbort = Callable[[Hal0Error], None]


@dataclass(frozen=True, slots=True)
class Traffic:
    """What requests tell of their engine: how many are open, and how many bytes of answers have come so far.

    `gave_up_s`: since it was asked last one has ended after so long without a byte; None: none has.
    """

    open: int = 0
    answered: int = 0
    gave_up_s: float | None = None


NO_TRAFFIC: Final = Traffic()


class Request:
    """One request, counted until its `end`; implements `handle.Serving`."""

    __slots__ = ("_callback", "_counted_in", "_moved", "container", "endpoint")

    def __init__(self, endpoint: Endpoint, container: str, counted_in: "InFlight") -> None:
        self.endpoint = endpoint
        self.container = container
        self._counted_in = counted_in
        self._callback: OnAbort | None = None
        self._moved: Callable[[], int] | None = None

    @property
    def moved(self) -> int:
        """Bytes of its answer so far."""
        return 0 if self._moved is None else self._moved()

    def __enter__(self) -> "Request":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        self._counted_in.discard(self)
        self._callback = self._moved = None  # else all that the request had is a circle

    def on_abort(self, callback: OnAbort, moved: Callable[[], int] | None = None) -> None:
        self._callback, self._moved = callback, moved

    def abort(self, error: Hal0Error) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback(error)


class InFlight:
    """The requests of one slot. `on_change` is called after every change of `count`."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._requests: set[Request] = set()
        self._within: Counter[str] = Counter()
        self._on_change = on_change
        self._emptied = Signal()
        self._answered = 0  # bytes, by requests that have ended
        self._gave_up_s: float | None = None

    @property
    def count(self) -> int:
        return len(self._requests)

    def gave_up(self, silent_s: float) -> None:
        """A request has waited for so long without a byte of its answer."""
        self._gave_up_s = max(silent_s, self._gave_up_s or 0.0)

    def traffic(self) -> Traffic:
        """Since it was asked last: for one who asks."""
        gave_up_s, self._gave_up_s = self._gave_up_s, None
        answered = self._answered + sum(request.moved for request in self._requests)
        return Traffic(self.count, answered, gave_up_s)

    def within(self, container: str) -> int:
        """How many of them are in the container of this name."""
        return self._within[container]

    def enter(self, endpoint: Endpoint, container: str) -> Request:
        """A request in the container of this name, counted in."""
        request = Request(endpoint, container, self)
        self._requests.add(request)
        self._within[container] += 1
        self._on_change()
        return request

    def discard(self, request: Request) -> None:
        if request not in self._requests:
            return
        self._requests.remove(request)
        self._answered += request.moved
        self._within[request.container] -= 1
        if not self._within[request.container]:
            del self._within[request.container]
            self._emptied.notify()
        self._on_change()

    async def wait_empty(self, container: str | None = None) -> None:
        """Until no request is left in the container of this name; None: in any."""
        while self.count if container is None else self.within(container):
            await self._emptied.wait()

    def abort_all(self, error: Hal0Error, container: str | None = None) -> None:
        for request in list(self._requests):
            if container in (None, request.container):
                request.abort(error)
