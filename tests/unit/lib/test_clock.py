"""What is measured is measured finely, whichever loop runs."""

import asyncio
import time

import pytest
import uvloop

from hal0.lib.clock import stopwatch

# The first of a process makes a pipe for signals that stays until its end.
uvloop.new_event_loop().close()


def _moves_within_a_turn() -> bool:
    read, before = stopwatch(asyncio.get_running_loop()), time.perf_counter()
    first, until = read(), time.perf_counter() + 0.0005
    while time.perf_counter() < until:
        pass
    told = read() - first
    return 0.0004 < told <= time.perf_counter() - before


@pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_half_a_millisecond_is_told_inside_one_turn_and_deadlines_agree(loop: type) -> None:
    async def look() -> None:
        assert _moves_within_a_turn()
        await asyncio.sleep(0)
        running = asyncio.get_running_loop()
        assert stopwatch(running)() == pytest.approx(running.time(), abs=0.5)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(look())
