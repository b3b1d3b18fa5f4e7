"""A slot that may finish what nobody reads any more."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hal0.dispatch.pool import Pool
from hal0.dispatch.proxy import Relay
from hal0.dispatch.trace import Trace
from hal0.dispatch.upstream_http import Connection
from hal0.lib.outbox import Outbox
from hal0.providers.base import Endpoint, Forward
from tests.unit.dispatch.test_answers import Pipe

EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n\n\n\r\n"


class Gone:
    """The client's side in the very turn in which it left."""

    started = True

    def flow(self) -> None:
        pass

    def passes(self, _data: bytes) -> bool:
        return False

    def write(self, _data: bytes) -> bool:
        raise ConnectionResetError("the client left")

    async def drained(self) -> None:
        raise ConnectionResetError("the client left")


@pytest.mark.parametrize("drains", [True, False])
async def test_a_client_that_leaves_in_the_middle_of_a_part_ends_only_what_is_not_to_drain(drains: bool) -> None:
    loop = asyncio.get_running_loop()
    connection = Connection(loop, Outbox(loop))
    connection.connection_made(Pipe())
    connection.send_whole(b"POST / HTTP/1.1\r\n\r\n", 60.0)
    connection.data_received(EVENTS)
    to = Endpoint("127.0.0.1", 1, "")
    out = SimpleNamespace(endpoint=to, forward=Forward("/"), between_bytes_s=60.0, drains=drains)
    trace = Trace("", 0.0, 0.0, "POST", "/")
    relay = Relay(Pool(connect_s=1.0), cast("Any", out), cast("Any", Gone()), trace, loop.time, connection)
    with pytest.raises(ConnectionResetError):
        await relay.run()
    assert connection.usable is drains
    if drains:
        draining = asyncio.ensure_future(relay.drain())
        await asyncio.sleep(0)
        connection.data_received(b"2\r\n{}\r\n")
        assert not draining.done()
        connection.data_received(b"0\r\n\r\n")
        await draining
        assert connection.usable
