"""The client's side when the client is not there any more."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from aiohttp import HttpVersion11

from hal0.dispatch.downstream import Downstream
from hal0.dispatch.surface import Dialect
from hal0.lib.clock import SystemClock
from tests.fakes.slots import settled
from tests.unit.dispatch.test_answers import Pipe


class Broken(Pipe):
    """Closed by the first write, which is when a socket learns that the other end has left."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.closed = True

    def get_write_buffer_size(self) -> int:
        return 0


async def test_a_client_that_left_unnoticed_is_no_failure_of_a_sign_of_life() -> None:
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: failures.append(context))
    transport = Broken()
    asked = cast("Any", SimpleNamespace(transport=transport, version=HttpVersion11, keep_alive=True))
    down = Downstream(asked, Dialect.OPENAI, "id", SystemClock(), keepalive_s=0.01)
    await settled(lambda: transport.closed)
    down.close()
    assert failures == []
