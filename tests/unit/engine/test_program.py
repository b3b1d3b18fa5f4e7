"""A program's lines, its end, and that nothing of it stays."""

import asyncio
import os
import signal
import threading
from pathlib import Path

import pytest

from hal0.engine import program
from hal0.engine.program import Finished, run_program
from tests.vloop import let_callbacks_run, until


def running(pid: int) -> bool:
    """Whether it runs; a process that waits for its new parent to reap it does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_both_outputs_arrive_in_order_with_the_status() -> None:
    lines: list[str] = []
    finished = await run_program(
        ["sh", "-c", "echo one; echo two >&2; printf three; exit 4"], timeout_s=10, on_line=lines.append
    )
    assert finished == Finished(4, ("one", "two", "three"))
    assert lines == ["one", "two", "three"]


async def test_a_deadline_ends_children_that_ignore_sigterm() -> None:
    lines: list[str] = []
    with pytest.raises(TimeoutError):
        await run_program(
            ["sh", "-c", "trap '' TERM; sh -c 'while :; do sleep 1; done' & echo $!; wait"],
            timeout_s=0.5,
            on_line=lines.append,
        )
    assert not running(int(lines[0]))


async def test_a_limit_that_every_line_renews_is_about_silence() -> None:
    talks = ["sh", "-c", "for n in 1 2 3 4 5 6 7 8 9; do sleep 0.06; echo $n; done; exec sleep 60"]
    lines: list[str] = []
    with pytest.raises(TimeoutError):
        await run_program(talks, timeout_s=0.5, on_line=lines.append, renewed=True)
    assert lines == list("123456789")


async def test_what_the_kernel_does_not_let_go_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that is stuck in a driver: no signal reaches it."""
    monkeypatch.setattr(program, "_GRACE_S", 0.05)
    monkeypatch.setattr(program, "_REAP_S", 0.05)
    stuck, threads = list[int](), threading.active_count()
    monkeypatch.setattr(program, "_signal_group", lambda pid, _number: stuck.append(pid))
    async with asyncio.timeout(3):
        assert await program.printed(["sleep", "60"], timeout_s=0.05) is None
    os.kill(stuck[0], signal.SIGKILL)  # it ends after all: nobody minds
    await until(lambda: not Path(f"/proc/{stuck[0]}").exists() and threading.active_count() <= threads, within_s=10)
    await let_callbacks_run()


async def test_what_cannot_be_started_is_an_os_error() -> None:
    with pytest.raises(FileNotFoundError):
        await run_program(["/nonexistent/program"], timeout_s=1, on_line=print)


async def test_the_environment_is_the_one_given() -> None:
    finished = await run_program(["/usr/bin/env"], timeout_s=10, on_line=lambda _: None, env={"ONLY": "this"})
    assert finished.tail == ("ONLY=this",)
