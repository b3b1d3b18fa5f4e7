"""Requests under way in one slot: counted, and ended together when the slot must be drained."""

from collections.abc import Callable

from hal0.errors import Hal0Error
from hal0.lib.aio import Signal
from hal0.providers.base import Endpoint

OnAbort = Callable[[Hal0Error], None]


class Request:
    """One request, counted until its `end`; implements `handle.Serving`."""

    __slots__ = ("_callback", "_counted_in", "endpoint")

    def __init__(self, endpoint: Endpoint, counted_in: "InFlight") -> None:
        self.endpoint = endpoint
        self._counted_in = counted_in
        self._callback: OnAbort | None = None

    def __enter__(self) -> "Request":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        self._counted_in.discard(self)

    def on_abort(self, callback: OnAbort) -> None:
        self._callback = callback

    def abort(self, error: Hal0Error) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback(error)


class InFlight:
    """The requests of one slot. `on_change` is called after every change of `count`."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._requests: set[Request] = set()
        self._on_change = on_change
        self._empty = Signal()

    @property
    def count(self) -> int:
        return len(self._requests)

    def enter(self, endpoint: Endpoint) -> Request:
        """A request, counted in."""
        request = Request(endpoint, self)
        self._requests.add(request)
        self._on_change()
        return request

    def discard(self, request: Request) -> None:
        self._requests.discard(request)
        if not self._requests:
            self._empty.notify()
        self._on_change()

    async def wait_empty(self) -> None:
        while self._requests:
            await self._empty.wait()

    def abort_all(self, error: Hal0Error) -> None:
        for request in list(self._requests):
            request.abort(error)
