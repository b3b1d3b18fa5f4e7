"""Silence is noticed on time, and never where something is heard."""

import asyncio

import pytest
import uvloop

from hal0.dispatch.silence import Silence
from tests.vloop import virtual_time

# The first of a process makes a pipe for signals that stays until its end.
uvloop.new_event_loop().close()


class Ear:
    """Hears at these seconds; `silences` are the seconds at which it was told that it is silent."""

    def __init__(self, *heard_at: float) -> None:
        self.loop = asyncio.get_running_loop()
        self.began = self.loop.time()
        self.silences: list[float] = []
        self.silence = Silence(self.loop, self._asked, self._over)
        self._heard = False
        for at in heard_at:
            self.loop.call_at(self.began + at, self._hear)

    def _hear(self) -> None:
        self._heard = True

    def _asked(self) -> bool:
        heard, self._heard = self._heard, False
        return heard

    def _over(self, _limit_s: float) -> None:
        self.silences.append(round(self.loop.time() - self.began, 3))


@virtual_time
async def test_it_is_told_at_its_time_and_again_as_long_as_it_lasts() -> None:
    ear = Ear()
    ear.silence.limit(8.0)
    await asyncio.sleep(20)
    assert ear.silences == pytest.approx([8.0, 16.0])


@virtual_time
async def test_what_is_heard_puts_it_off_by_as_long_and_an_eighth_at_most() -> None:
    ear = Ear(*(float(at) for at in range(1, 30)))
    ear.silence.limit(8.0)
    await asyncio.sleep(37.9)
    assert len(ear.silences) == 1
    assert 37.0 <= ear.silences[0] <= 37.0 + 1.0


@virtual_time
async def test_another_limit_counts_what_has_passed() -> None:
    ear = Ear()
    ear.silence.limit(80.0)
    await asyncio.sleep(4)
    ear.silence.limit(8.0)
    await asyncio.sleep(5)
    assert ear.silences == [8.0]


@virtual_time
async def test_what_begins_anew_counts_from_there() -> None:
    ear = Ear(1.0)
    ear.silence.limit(8.0)
    await asyncio.sleep(4)
    ear.silence.begin()
    await asyncio.sleep(7.9)
    assert ear.silences == []
    await asyncio.sleep(1.1)
    assert ear.silences == [12.0]


@virtual_time
async def test_nobody_is_told_behind_its_end_or_without_a_limit() -> None:
    ear = Ear()
    ear.silence.limit(8.0)
    await asyncio.sleep(4)
    ear.silence.limit(0.0)
    await asyncio.sleep(20)
    ear.silence.limit(8.0)
    ear.silence.end()
    await asyncio.sleep(20)
    assert ear.silences == []


def test_on_uvloop_too_a_shorter_limit_may_follow_one_that_is_over() -> None:
    """Its timers that are due at once are of another kind."""

    async def limits() -> None:
        ear = Ear()
        await asyncio.sleep(0.01)
        ear.silence.limit(0.04)
        ear.silence.limit(0.02)
        await asyncio.sleep(0.03)
        ear.silence.end()
        assert ear.silences

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(limits())
