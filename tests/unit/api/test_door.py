"""What the door does when that ends on which callers stand."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
import uvloop

from hal0.access.principal import NOBODY
from hal0.api.access import Door
from hal0.config.access import AccessConfig
from hal0.lib.clock import Clock, SystemClock
from hal0.lib.outbox import Outbox

# The first of a process makes a pipe for signals that stays until its end.
uvloop.new_event_loop().close()


class Wire:
    """A transport that keeps what it was given, while it is open."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.closed = False

    def is_closing(self) -> bool:
        return self.closed

    def write(self, data: bytes) -> None:
        self.taken.append(data)

    def close(self) -> None:
        self.closed = True

    abort = close


def door(clock: Clock, *, cut: bool) -> Door:
    store = SimpleNamespace(on_ended=lambda _tell: None, on_ending=lambda _tell: None, sessions={})
    parts, nobody = cast("Any", SimpleNamespace(store=store)), cast("Any", None)
    return Door(AccessConfig, parts, clock, cookie="c", keyless_off=None, owners=nobody, cut=lambda *_: cut)


async def test_what_was_answered_in_the_turn_of_the_end_goes_out_before_it() -> None:
    asked, mine, other = cast("Any", SimpleNamespace()), Wire(), Wire()
    it, outbox, passed = door(SystemClock(), cut=False), Outbox(asyncio.get_running_loop()), (asked, NOBODY)
    to = cast("asyncio.Transport", mine)
    it._passed[to] = passed
    outbox.post(cast("asyncio.Transport", other), b"somebody's")
    outbox.post(to, b"mine")
    it._close(to, passed)
    await asyncio.sleep(0)
    assert (mine.taken, mine.closed) == ([b"mine"], True)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_several_ends_may_be_due_at_once(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """uvloop's timers of that kind do not tell when they are due."""

    async def due() -> None:
        clock = SystemClock()
        it = door(clock, cut=True)
        for before_s in (0.0, 1.0, 2.0):
            it._watch(clock.now() - before_s)
        await asyncio.sleep(0.01)
        assert it._alarm is None

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(due())
