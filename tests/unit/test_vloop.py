"""The virtual-time loop: time jumps, threads work, nothing hangs in silence."""

import asyncio
import socket
import threading
import time

import pytest

from tests.vloop import Deadlock, LoopClock, VirtualLoop, until, virtual, virtual_time


def test_hours_of_timers_take_no_time_at_all() -> None:
    async def scenario() -> float:
        loop = asyncio.get_running_loop()
        start = loop.time()
        for _ in range(3600):
            await asyncio.sleep(1)
        return loop.time() - start

    before = time.monotonic()
    assert virtual(scenario()) == pytest.approx(3600)
    assert time.monotonic() - before < 2


def test_timers_fire_in_the_order_of_their_times() -> None:
    async def scenario() -> list[int]:
        seen: list[int] = []

        async def after(seconds: int) -> None:
            await asyncio.sleep(seconds)
            seen.append(seconds)

        await asyncio.gather(*(after(s) for s in (50, 3, 700, 1)))
        return seen

    assert virtual(scenario()) == [1, 3, 50, 700]


@virtual_time
async def test_a_timeout_ends_a_wait_that_nothing_else_would_end() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(86_400):
            await asyncio.Event().wait()


def test_tasks_that_wait_for_each_other_are_a_deadlock_with_their_places() -> None:
    async def scenario() -> None:
        await asyncio.create_task(asyncio.Event().wait(), name="waiter")

    with pytest.raises(Deadlock, match=r"waiter at .*locks\.py"):
        virtual(scenario())


def test_a_task_left_behind_fails_the_scenario() -> None:
    async def scenario() -> None:
        asyncio.get_running_loop().create_task(asyncio.sleep(5), name="forgotten")

    with pytest.raises(AssertionError, match="tasks left behind:\n  forgotten"):
        virtual(scenario())


def test_an_error_in_a_callback_fails_the_scenario() -> None:
    async def scenario() -> None:
        asyncio.get_running_loop().call_later(1, [].pop)
        await asyncio.sleep(2)

    with pytest.raises(AssertionError, match="nobody handled"):
        virtual(scenario())


@virtual_time
async def test_the_clock_stands_still_while_a_thread_works() -> None:
    loop = asyncio.get_running_loop()
    release = threading.Event()
    start = loop.time()
    timer = loop.call_later(3600, release.clear)
    threading.Timer(0.05, release.set).start()
    assert await asyncio.to_thread(release.wait, 10)
    assert loop.time() == start
    timer.cancel()


@virtual_time
async def test_a_peer_behind_a_real_socket_is_waited_for() -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    threading.Timer(0.05, far.sendall, [b"x"]).start()
    with near, far:
        assert await asyncio.get_running_loop().sock_recv(near, 1) == b"x"


@virtual_time
async def test_the_wall_clock_follows_the_loop_and_can_be_skewed() -> None:
    clock = LoopClock()
    before = clock.now()
    await asyncio.sleep(60)
    clock.skew_s = -3600
    assert clock.now() - before == pytest.approx(60 - 3600)


@virtual_time
async def test_until_gives_up_at_its_deadline() -> None:
    with pytest.raises(AssertionError, match="not within 5 s"):
        await until(lambda: False, within_s=5)


def test_virtual_loop_is_the_one_that_runs() -> None:
    async def scenario() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    assert isinstance(virtual(scenario()), VirtualLoop)
