"""Run one program to its end: its lines as they come, a deadline, and nothing of it left when the caller leaves."""

import asyncio
import contextlib
import os
import signal
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

_TAIL_LINES: Final = 20  # enough for the reason a program gives before it stops
_LINE_BYTES: Final = 256 * 1024  # a program that writes longer lines than this is not one of ours
_GRACE_S: Final = 3.0  # for traps that clean up after SIGTERM
_REAP_S: Final = 1.0  # what is stuck in a driver does not even end by SIGKILL: it is left behind


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended: its exit status (negative: the signal that ended it) and its last lines."""

    status: int
    tail: tuple[str, ...]


async def run_program(
    argv: Sequence[str],
    *,
    timeout_s: float,
    on_line: Callable[[str], None],
    env: Mapping[str, str] | None = None,
    renewed: bool = False,
) -> Finished:
    """Run `argv` without a terminal; stdout and stderr arrive line by line in `on_line`, in the order written.

    `env` replaces the environment. With `renewed`, every line gives it `timeout_s` anew. The program has a process
    group of its own; when the deadline passes (TimeoutError) or the caller is cancelled, the whole group gets SIGTERM
    and, 3 s later, SIGKILL; what survives that, because the kernel does not let it go, is not waited for. Raises
    OSError when the program cannot be started.
    """
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=env,
        start_new_session=True,
        limit=_LINE_BYTES,
    )
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    try:
        async with asyncio.timeout(timeout_s) as limit:
            async for line in _lines(process):
                if renewed:
                    limit.reschedule(asyncio.get_running_loop().time() + timeout_s)
                tail.append(line)
                on_line(line)
            status = await process.wait()
    except BaseException:
        await _end_group(process)
        raise
    return Finished(status, tuple(tail))


async def printed(argv: Sequence[str], *, timeout_s: float) -> list[str] | None:
    """What `argv` prints; None where the program is missing, fails or takes too long."""
    lines: list[str] = []
    try:
        ended = await run_program(argv, timeout_s=timeout_s, on_line=lines.append)
    except (OSError, TimeoutError):
        return None
    return lines if ended.status == 0 else None


async def _lines(process: asyncio.subprocess.Process) -> AsyncIterator[str]:
    assert process.stdout is not None
    async for raw in process.stdout:
        yield raw.decode(errors="replace").rstrip()


async def _end_group(process: asyncio.subprocess.Process) -> None:
    for number, grace_s in ((signal.SIGTERM, _GRACE_S), (signal.SIGKILL, _REAP_S)):
        _signal_group(process.pid, number)  # the second time, too: the leader may be gone while its children are not
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await process.wait()


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)
