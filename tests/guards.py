"""What a test may not leave behind or reach for: open descriptors, tasks, unhandled errors, foreign hosts."""

import asyncio
import contextlib
import gc
import ipaddress
import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, TypeVar

from hal0.lib.aside import ASIDE

T = TypeVar("T")

# Closing sessions and transports take a few rounds of the loop, never a second. Looks are counted, not seconds: while a
# machine stands still nothing ends.
_LOOK_S: Final = 0.005
_LOOKS: Final = 200


def open_descriptors() -> Counter[str]:
    """What this process holds open: files by path, the rest (sockets, pipes, epoll) by identity."""
    found: Counter[str] = Counter()
    for entry in os.scandir("/proc/self/fd"):  # twice for every test: paths as objects would be most of a short one
        with contextlib.suppress(FileNotFoundError):  # the descriptor that lists this directory is gone again
            found[os.readlink(entry.path)] += 1  # noqa: PTH115
    return found


def still_there(look: Callable[[], T]) -> T:
    """What is found after a moment's patience for its end."""
    for _ in range(_LOOKS):
        if not (found := look()):
            return found
        time.sleep(_LOOK_S)
    return look()


@contextmanager
def no_new_descriptors() -> Iterator[None]:
    """Fail when something opened inside is still open at the end.

    Threads that began inside and that nobody waits for (`hal0.lib.aside`) get a moment to come to their end, also those
    that have opened nothing yet: they may be about to, in the midst of another test. Only then is garbage collected:
    what was merely unreferenced then complains for itself, with the place of its making, because an unclosed socket or
    transport is a ResourceWarning and warnings are errors here.
    """
    before, threads = open_descriptors(), set(threading.enumerate())
    yield
    still_there(lambda: {thread for thread in threading.enumerate() if thread.name == ASIDE} - threads)
    still_there(lambda: open_descriptors() - before and set(threading.enumerate()) - threads)
    if leaked := open_descriptors() - before:
        gc.collect()
        raise AssertionError(f"left open: {dict(leaked)}")


@contextmanager
def quiet_loop(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Fail when the loop met an error that no task or caller took."""
    unhandled: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: unhandled.append(context))
    yield
    if unhandled:
        raise AssertionError(f"nobody handled: {unhandled}") from unhandled[0].get("exception")


async def no_tasks_left() -> None:
    """Fail when any task but the caller's own is still alive after a moment's patience."""
    mine = asyncio.current_task()
    for _ in range(_LOOKS):
        if not asyncio.all_tasks() - {mine}:
            return
        await asyncio.sleep(_LOOK_S)
    left = asyncio.all_tasks() - {mine}
    assert not left, f"tasks left behind: {sorted(str(task) for task in left)}"


class _Loopback:
    """A switchable audit hook: CPython has no way to take one out again."""

    def __init__(self) -> None:
        self.on = False
        self.installed = False

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on or event not in ("socket.connect", "socket.sendto"):
            return
        family, address = args[0].family, args[1]
        if (
            family in (socket.AF_INET, socket.AF_INET6)
            and isinstance(address, tuple)
            and not _is_local(str(address[0]))
        ):
            raise PermissionError(f"this test may talk to this machine only, not to {address[0]}")


_loopback = _Loopback()


@contextmanager
def loopback_only() -> Iterator[None]:
    """Inside, connecting to anything but this machine's own addresses and Unix sockets is refused."""
    if not _loopback.installed:
        sys.addaudithook(_loopback)
        _loopback.installed = True
    _loopback.on = True
    try:
        yield
    finally:
        _loopback.on = False


def _is_local(host: str) -> bool:
    if host in ("", "localhost"):
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified or str(address) in own_addresses()


@cache
def own_addresses() -> tuple[str, ...]:
    """This machine's own IPv4 addresses beyond loopback: what is sent there never leaves it."""
    lines = Path("/proc/net/fib_trie").read_text().splitlines()
    local = [before.split()[-1] for before, line in pairwise(lines) if "/32 host LOCAL" in line]
    return tuple(dict.fromkeys(address for address in local if not address.startswith("127.")))
