"""The door's one timer, for the ends of what callers stand on."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
import uvloop

from hal0.api.access import Door
from hal0.config.access import AccessConfig
from hal0.lib.clock import SystemClock

# The first of a process makes a pipe for signals that stays until its end.
uvloop.new_event_loop().close()


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_several_ends_may_be_due_at_once(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """uvloop's timers of that kind do not tell when they are due."""

    async def due() -> None:
        clock = SystemClock()
        store = SimpleNamespace(on_ended=lambda _tell: None, on_ending=lambda _tell: None, sessions={})
        parts, nobody = cast("Any", SimpleNamespace(store=store)), cast("Any", None)
        door = Door(AccessConfig, parts, clock, cookie="c", keyless_off=None, owners=nobody, cut=lambda *_: True)
        for before_s in (0.0, 1.0, 2.0):
            door._watch(clock.now() - before_s)
        await asyncio.sleep(0.01)
        assert door._alarm is None

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(due())
