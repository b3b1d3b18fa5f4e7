"""Names are resolved beside each other, and nobody waits for one that hangs."""

import asyncio
import socket
import threading
from typing import Any

import pytest

from hal0.outbound.names import Names


async def test_a_name_is_what_the_machine_says() -> None:
    (found,) = await Names().resolve("localhost", 80, socket.AF_INET)
    assert (found["host"], found["port"], found["family"]) == ("127.0.0.1", 80, socket.AF_INET)


@pytest.mark.parametrize("name", ["a" * 300, "a..b"])
async def test_what_can_be_no_name_is_an_error_of_the_network(name: str) -> None:
    with pytest.raises(OSError, match="label"):
        await asyncio.wait_for(Names().resolve(name), 5)


async def test_why_a_name_is_not_known_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(socket.gaierror, match="not known"):
        await asyncio.wait_for(Names().resolve("nobody"), 5)


async def test_a_machine_without_a_thread_left_resolves_nothing_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(OSError, match="no thread left"):
        await asyncio.wait_for(Names().resolve("localhost"), 5)


async def test_a_hundred_that_hang_hold_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    go, ask = threading.Event(), socket.getaddrinfo

    def hangs(host: str, *rest: Any, **more: Any) -> Any:
        if host.startswith("hangs"):
            go.wait(10)
        return ask("localhost", *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    names = Names()
    waiting = [asyncio.create_task(names.resolve(f"hangs{number}")) for number in range(100)]
    try:
        assert await asyncio.wait_for(names.resolve("answers"), 5)
        assert not any(task.done() for task in waiting)
        waiting.pop().cancel()
    finally:
        go.set()
        await asyncio.gather(*waiting)
