"""A slot that may finish what nobody reads any more."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hal0.dispatch.pool import Pool
from hal0.dispatch.proxy import Relay
from hal0.dispatch.upstream_http import Connection
from hal0.providers.base import Endpoint, Forward
from tests.unit.dispatch.test_answers import Pipe


async def test_a_client_that_left_in_the_middle_of_a_part_is_no_failure_of_draining() -> None:
    def gone(_data: bytes, _chunk: bytes | None) -> bool:
        raise ConnectionResetError("the client left")

    connection = Connection(asyncio.get_running_loop())
    connection.connection_made(Pipe())
    connection.send_whole(b"POST / HTTP/1.1\r\n\r\n", 60.0)
    connection.data_received(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n")
    with pytest.raises(ConnectionResetError):
        await connection.pour(gone, 60.0)
    out = SimpleNamespace(endpoint=Endpoint("127.0.0.1", 1, ""), forward=Forward("/"), between_bytes_s=60.0)
    nobody = cast("Any", None)
    relay = Relay(Pool(connect_s=1.0), cast("Any", out), nobody, nobody, nobody, connection)
    await relay.drain()
    assert not connection.usable
