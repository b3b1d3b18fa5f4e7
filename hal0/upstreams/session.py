"""aiohttp's client as upstreams need it: nothing added, nothing changed, and no connection outlives its use."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Final

from aiohttp import ClientRequest, ClientSession, DummyCookieJar, TCPConnector, TraceConfig
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import StreamWriter

from hal0.errors import Hal0Error
from hal0.outbound.names import Names

# Idle connections are kept for less time than servers and the boxes between commonly keep theirs.
_IDLE_S: Final = 15.0


class _Abrupt(ResponseHandler):
    """aiohttp closes politely: what waits to be sent is sent first, to one that may never read it."""

    def close(self) -> None:
        self.abort()


class _Verbatim(ClientRequest):
    """aiohttp writes headers as UTF-8. A client's are bytes that may be anything: they come, and go, as Latin-1."""

    async def write_bytes(
        self, writer: AbstractStreamWriter, conn: Connection, content_length: int | None = None
    ) -> None:
        """A head waits in the writer for its body, which every request that a client sent has."""
        assert isinstance(writer, StreamWriter)
        if writer._headers_buf is not None:  # noqa: SLF001  nothing public takes bytes
            writer._headers_buf = writer._headers_buf.decode().encode("latin-1")  # noqa: SLF001
        await super().write_bytes(writer, conn, content_length)


def new_session() -> ClientSession:
    """For all upstreams: bytes as they come, no cookies, no proxies from the environment, nothing said on its own."""
    noted = TraceConfig()
    noted.on_connection_reuseconn.append(_note_reuse)
    noted.on_connection_create_end.append(_note_connected)
    connector = TCPConnector(limit=0, keepalive_timeout=_IDLE_S, resolver=Names())
    made = partial(_Abrupt, loop=asyncio.get_running_loop())
    connector._factory = made  # type: ignore[assignment]  # noqa: SLF001  nothing public takes it
    return ClientSession(
        connector=connector,
        request_class=_Verbatim,
        cookie_jar=DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        trace_configs=[noted],
    )


async def _note_reuse(_session: ClientSession, context: SimpleNamespace, _params: object) -> None:
    context.trace_request_ctx.reused = True
    context.trace_request_ctx.connected()


async def _note_connected(_session: ClientSession, context: SimpleNamespace, _params: object) -> None:
    context.trace_request_ctx.connected()


@dataclass(slots=True)
class Told:
    """What aiohttp tells of one request: that its connection is there, and whether it had been used before.

    `lost` is why hal0 itself could not go on reading the body.
    """

    connected: Callable[[], None] = lambda: None
    reused: bool = False
    lost: Hal0Error | None = None
