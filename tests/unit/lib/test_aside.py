"""Work that hangs costs its own thread: nobody waits for it, and hal0 can end."""

import asyncio
import contextlib
import subprocess
import sys
import threading

import pytest

from hal0.lib.aside import Aside, OneThread


async def test_what_it_gives_and_what_it_raises() -> None:
    assert await Aside(lambda a, b: a + b).within(5, 1, b=2) == 3
    with pytest.raises(ZeroDivisionError):
        await Aside(lambda: 1 // 0).within(5)


async def test_who_asks_together_shares_one_and_nobody_waits_longer_than_agreed() -> None:
    begun: list[int] = []
    answers = threading.Event()

    def work() -> int:
        begun.append(1)
        answers.wait(10)
        return len(begun)

    look = Aside(work)
    assert await asyncio.gather(*(look.within(0.02) for _ in range(20))) == [None] * 20
    assert (look.hangs, len(begun)) == (True, 1)
    answers.set()
    assert await look.within(5) in (1, 2)
    assert not look.hangs


async def test_who_asks_something_else_gets_no_answer_to_what_was_asked_before() -> None:
    """Its asker may have left: what is under way ends first, and is nobody's."""
    answers = threading.Event()

    def work(asked: int) -> int:
        answers.wait(10)
        return asked

    look = Aside(work)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.01):
            await look.within(5, 1)
    assert not look.hangs, "nobody gave it up: who waited for it was cancelled"
    other = asyncio.create_task(look.within(5, 2))
    await asyncio.sleep(0)
    answers.set()
    assert await other == 2


async def test_who_asks_something_else_waits_no_longer_than_agreed() -> None:
    answers = threading.Event()
    look = Aside(lambda _asked: answers.wait(10))
    assert [await look.within(0.01, number) for number in range(3)] == [None] * 3
    assert look.hangs
    answers.set()
    assert await look.within(5, 3)


async def test_a_thread_that_cannot_begin_now_begins_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    one = OneThread("one")
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", full)
        with pytest.raises(RuntimeError, match="new thread"):
            one.submit(int)
    assert await asyncio.wait_for(asyncio.wrap_future(one.submit(int, "7")), 5) == 7
    one.shutdown()


async def test_a_failure_that_nobody_waits_for_any_more_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    fails = threading.Event()

    def work() -> int:
        fails.wait(10)
        raise OSError("gone")

    look = Aside(work)
    assert await look.within(0.01) is None
    fails.set()
    with pytest.raises(OSError, match="gone"):
        await look.within(5)
    assert caplog.records == []


def test_a_process_ends_while_its_work_hangs() -> None:
    """With asyncio's own threads it would wait for ever."""
    program = (
        "import asyncio, threading\n"
        "from hal0.lib.aside import Aside\n"
        "async def main():\n"
        "    assert await Aside(threading.Event().wait).within(0.01) is None\n"
        "    print('done')\n"
        "asyncio.run(main())\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=120, check=False)
    assert (ended.returncode, ended.stdout.strip(), ended.stderr) == (0, b"done", b"")
