"""Requests under way in one slot: counted, and ended together when the slot must be drained."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hal0.errors import Hal0Error
from hal0.lib.aio import Signal
from hal0.providers.base import Endpoint

OnAbort = Callable[[Hal0Error], None]


class Request:
    """One request; implements `handle.Serving`."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._callback: OnAbort | None = None

    @property
    def endpoint(self) -> Endpoint:
        return self._endpoint

    def on_abort(self, callback: OnAbort) -> None:
        self._callback = callback

    def abort(self, error: Hal0Error) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback(error)


class InFlight:
    """The requests of one slot. `on_change(count)` is called after every change."""

    def __init__(self, on_change: Callable[[int], None]) -> None:
        self._requests: set[Request] = set()
        self._on_change = on_change
        self._empty = Signal()

    @property
    def count(self) -> int:
        return len(self._requests)

    @contextmanager
    def enter(self, endpoint: Endpoint) -> Iterator[Request]:
        request = Request(endpoint)
        self._requests.add(request)
        self._on_change(len(self._requests))
        try:
            yield request
        finally:
            self._requests.discard(request)
            if not self._requests:
                self._empty.notify()
            self._on_change(len(self._requests))

    async def wait_empty(self) -> None:
        while self._requests:
            await self._empty.wait()

    def abort_all(self, error: Hal0Error) -> None:
        for request in list(self._requests):
            request.abort(error)
