"""Backoff, single-flight and the broadcast signal."""

import asyncio
import gc
import itertools

import pytest

from hal0.lib.aio import Signal, SingleFlight, backoff_s, cancelled, settled, told_if_broken
from tests.vloop import let_callbacks_run, virtual_time


def test_backoff_doubles_to_its_cap_within_the_jitter() -> None:
    exact = itertools.islice(backoff_s(1, 10, jitter=0), 6)
    assert list(exact) == [1, 2, 4, 8, 10, 10]
    for delay, wanted in zip(backoff_s(1, 10, jitter=0.2), [1, 2, 4, 8, 10, 10], strict=False):
        assert wanted * 0.8 <= delay <= wanted * 1.2


class Work:
    """Counts its runs; ends when told."""

    def __init__(self, error: Exception | None = None) -> None:
        self.runs = 0
        self.error = error

    async def __call__(self) -> int:
        self.runs += 1
        run = self.runs
        await asyncio.sleep(1)
        if self.error:
            raise self.error
        return run


@virtual_time
async def test_callers_of_one_key_share_one_run() -> None:
    flights: SingleFlight[int] = SingleFlight()
    work = Work()
    assert await asyncio.gather(*(flights.run("a", work) for _ in range(50))) == [1] * 50
    assert await flights.run("a", work) == 2, "what has landed is not shared any more"


@virtual_time
async def test_different_keys_fly_side_by_side() -> None:
    flights: SingleFlight[int] = SingleFlight()
    loop = asyncio.get_running_loop()
    before = loop.time()
    await asyncio.gather(*(flights.run(key, Work()) for key in "abc"))
    assert loop.time() - before == pytest.approx(1)


@virtual_time
async def test_a_caller_that_leaves_does_not_end_the_work_of_the_others() -> None:
    flights: SingleFlight[int] = SingleFlight()
    work = Work()
    leaver = asyncio.create_task(flights.run("a", work))
    stayer = asyncio.create_task(flights.run("a", work))
    await asyncio.sleep(0.5)
    leaver.cancel()
    assert await stayer == 1
    assert leaver.cancelled()


@virtual_time
async def test_every_caller_gets_the_failure_and_the_next_one_tries_again() -> None:
    flights: SingleFlight[int] = SingleFlight()
    work = Work(ValueError("no"))
    results = await asyncio.gather(*(flights.run("a", work) for _ in range(3)), return_exceptions=True)
    assert [str(result) for result in results] == ["no"] * 3
    work.error = None
    assert await flights.run("a", work) == 2


@virtual_time
async def test_a_failure_whose_callers_have_all_left_is_no_warning() -> None:
    flights: SingleFlight[int] = SingleFlight()
    caller = asyncio.create_task(flights.run("a", Work(ValueError("unread"))))
    await asyncio.sleep(0.5)
    caller.cancel()
    await asyncio.sleep(1)
    assert caller.cancelled()


@virtual_time
async def test_closing_ends_the_work_under_way() -> None:
    flights: SingleFlight[int] = SingleFlight()
    caller = asyncio.create_task(flights.run("a", Work()))
    await asyncio.sleep(0.5)
    await flights.aclose()
    await let_callbacks_run()
    assert caller.cancelled()


@virtual_time
async def test_a_signal_wakes_everyone_who_waits_and_only_them() -> None:
    signal = Signal()
    signal.notify()  # nobody waits: not remembered
    waiters = [asyncio.create_task(signal.wait()) for _ in range(3)]
    await let_callbacks_run()
    waiters[0].cancel()
    signal.notify()
    await asyncio.gather(*waiters[1:])
    late = asyncio.create_task(signal.wait())
    await asyncio.sleep(60)
    assert not late.done()
    signal.notify()
    await late


async def stubborn(error: Exception | None = None) -> None:
    """Takes ten seconds to end once it is cancelled."""
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(10)
        if error:
            raise error


@pytest.mark.parametrize("error", [None, ValueError("on the way out")])
@virtual_time
async def test_a_cancelled_task_has_ended_however_it_ends(error: Exception | None) -> None:
    task = asyncio.create_task(stubborn(error))
    await asyncio.sleep(1)
    await cancelled(task)
    assert task.done()
    await cancelled(task)


@virtual_time
async def test_a_caller_that_is_cancelled_while_it_waits_is_cancelled() -> None:
    task = asyncio.create_task(stubborn())
    await asyncio.sleep(1)
    caller = asyncio.create_task(cancelled(task))
    await asyncio.sleep(1)
    caller.cancel()
    await asyncio.wait([caller])
    assert caller.cancelled()
    await cancelled(task)


async def test_what_ends_by_a_mistake_is_told_at_once(caplog: pytest.LogCaptureFixture) -> None:
    async def broken() -> None:
        raise ValueError("nobody thought of this")

    async def endless() -> None:
        await asyncio.sleep(60)

    tasks = [asyncio.create_task(work(), name=work.__name__) for work in (broken, endless)]
    for task in tasks:
        task.add_done_callback(told_if_broken)
    await asyncio.sleep(0.01)
    await cancelled(tasks[1])
    assert [record.getMessage() for record in caplog.records] == ["hal0 made a mistake: broken has ended"]


async def test_work_that_fails_while_its_caller_is_cancelled_is_no_unread_failure() -> None:
    told: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))

    async def work() -> None:
        await asyncio.sleep(0.02)
        raise OSError(28, "No space left on device")

    caller = asyncio.create_task(settled(work()))
    await asyncio.sleep(0.01)
    await cancelled(caller)
    del caller
    gc.collect()

    assert told == []
