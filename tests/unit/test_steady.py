"""The loop of the tests counts what it could use, and nothing else."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from tests.steady import SteadyLoop


async def test_it_is_the_loop_of_every_async_test() -> None:
    assert isinstance(asyncio.get_running_loop(), SteadyLoop)


async def test_time_passes_as_it_does() -> None:
    loop = asyncio.get_running_loop()
    steady, real = loop.time(), time.monotonic()
    await asyncio.sleep(0.2)
    assert 0.199 < loop.time() - steady <= time.monotonic() - real


async def test_a_limit_does_not_end_while_nobody_could_do_anything() -> None:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    async with asyncio.timeout(0.2):
        loop.call_soon(time.sleep, 0.5)
        await asyncio.sleep(0.01)
    assert loop.time() - begun < 0.2


async def test_a_limit_ends_where_nothing_comes() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await asyncio.Event().wait()


async def test_what_came_meanwhile_is_read_before_the_limit_ends() -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        asyncio.get_running_loop().call_soon(time.sleep, 0.3)
        threading.Timer(0.2, far.sendall, [b"x"]).start()
        async with asyncio.timeout(0.1):
            assert await asyncio.get_running_loop().sock_recv(near, 1) == b"x"


STOPPED = """
import asyncio, os
from tests.steady import SteadyLoop

async def main():
    loop = asyncio.get_running_loop()
    begun = loop.time()
    print("begun", flush=True)
    try:
        async with asyncio.timeout(0.3):
            await loop.run_in_executor(None, os.read, 0, 1)
    finally:
        print(loop.time() - begun)

SteadyLoop().run_until_complete(main())
"""


def test_a_process_that_is_stopped_has_all_of_its_time_left() -> None:
    argv = [sys.executable, "-c", STOPPED]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as stopped:
        assert stopped.stdin is not None
        assert stopped.stdout is not None
        stopped.stdout.readline()
        os.kill(stopped.pid, signal.SIGSTOP)
        time.sleep(0.4)
        os.kill(stopped.pid, signal.SIGCONT)
        stopped.stdin.write("x")
        stopped.stdin.close()
        assert float(stopped.stdout.readline()) < 0.3
    assert stopped.returncode == 0
