"""Events that pass by themselves: the client gets, and the history counts, what it would have without them."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import HttpVersion10, HttpVersion11
from hypothesis import given
from hypothesis import strategies as st

from hal0.dispatch.chunks import lone_size
from hal0.dispatch.downstream import Downstream
from hal0.dispatch.surface import Dialect
from hal0.dispatch.upstream_http import Connection
from hal0.dispatch.usage import Meter, Usage
from hal0.lib.clock import SystemClock
from hal0.lib.outbox import Outbox
from tests.unit.dispatch.test_answers import Pipe

TOKEN = b'data: {"content":"x"}\n\n'
EVENTS = (
    *(TOKEN, b"\n\n", b"data: a\r\n\r\n", b"data: begun", b" and ended\n\n", b": ping\n\n", b"data: [DONE]\n\n"),
    *(
        b'data: {"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n',
        b'data: {"usa',
        b'ge":{"prompt_tokens":5}}\n\n',
    ),
)


class Transport:
    def __init__(self) -> None:
        self.written = bytearray()
        self.waiting = 0
        self.closing = False

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return self.waiting


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


def begun(transport: Transport, version: Any = HttpVersion11) -> Downstream:
    asked = SimpleNamespace(transport=transport, version=version, keep_alive=True)
    down = Downstream(cast("Any", asked), Dialect.OPENAI, "r", SystemClock(), keepalive_s=None)
    down.start(200, "OK", ((b"Content-Type", b"text/event-stream"),), None)
    transport.written.clear()
    return down


def sent(chunks: list[bytes], *, version: Any, passing: bool) -> tuple[bytes, int, Usage, float | None]:
    """What the client got, and what was counted."""
    transport = Transport()
    down, meter = begun(transport, version), Meter(lambda: 7.0)
    for data in chunks:
        if not (passing and down.passes(data)):
            body = data[-lone_size(data) - 2 : -2]
            meter.saw(body)
            assert down.write(body)
    return bytes(transport.written), down.bytes_out, meter.usage(), meter.first_at


@given(st.lists(st.sampled_from(EVENTS).map(chunk), max_size=12), st.sampled_from([HttpVersion10, HttpVersion11]))
def test_nobody_sees_which_events_passed_by_themselves(chunks: list[bytes], version: Any) -> None:
    assert sent(chunks, version=version, passing=True) == sent(chunks, version=version, passing=False)


def test_only_what_can_go_at_once_and_needs_no_look_passes() -> None:
    transport = Transport()
    down = begun(transport)
    assert not down.passes(chunk(TOKEN))  # the first is looked at
    down.write(TOKEN)
    assert down.passes(chunk(TOKEN))
    for other in (chunk(TOKEN)[:-1], chunk(TOKEN) * 2, chunk(b"data: begun"), b"0\r\n\r\n", chunk(EVENTS[7])):
        assert not down.passes(other)
    transport.waiting = 1
    assert not down.passes(chunk(TOKEN))  # whoever waits for the client has to hear of it
    transport.waiting, transport.closing = 0, True
    assert not down.passes(chunk(TOKEN))
    assert transport.written == chunk(TOKEN) * 2


async def test_nothing_passes_what_waits() -> None:
    """A client that takes no more for now gets what came meanwhile in its order."""
    loop = asyncio.get_running_loop()
    connection = Connection(loop, Outbox(loop))
    connection.connection_made(Pipe())
    connection.send_whole(b"POST / HTTP/1.1\r\n\r\n", 60.0)
    got = list[bytes]()

    def take(data: bytes) -> bool:
        got.append(data)
        return False

    def passes(data: bytes) -> bool:
        pytest.fail(f"{data!r} passed")

    pouring = asyncio.create_task(connection.pour(take, 60.0, passes))
    await asyncio.sleep(0)
    connection.data_received(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"1\n\n"))
    connection.data_received(chunk(b"2\n\n"))
    assert not await pouring
    connection.data_received(chunk(b"3\n\n") + b"0\r\n\r\n")
    assert await connection.pour(take, 60.0, passes)
    assert got == [b"1\n\n", b"2\n\n3\n\n"]
