"""Requests under way in a slot: counted in, and let go of."""

import gc
import weakref

from hal0.providers.base import Endpoint
from hal0.slots.serving import InFlight, Request


class Answerer:
    """Whoever answers the request, and is told if it has to end."""

    def __init__(self, serving: Request) -> None:
        self.serving = serving
        serving.on_abort(self.abort, self.moved)

    def abort(self, error: Exception) -> None:
        raise AssertionError(error)

    def moved(self) -> int:
        return 7


def test_a_request_that_has_ended_lets_go_of_who_answered_it() -> None:
    in_flight = InFlight(lambda: None)
    answerer = Answerer(in_flight.enter(Endpoint("127.0.0.1", 1, ""), "c"))
    there = weakref.ref(answerer)
    answerer.serving.end()
    assert in_flight.traffic().answered == 7, "what it had sent counts"
    gc.disable()
    try:
        del answerer
        assert there() is None, "without the garbage collector"
    finally:
        gc.enable()
