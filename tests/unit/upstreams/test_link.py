"""TLS to an upstream: whom hal0 believes, and what it says when it does not."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession, TCPConnector

from hal0.config.upstreams import UpstreamConfig
from hal0.errors import Hal0Error
from hal0.upstreams.link import Link
from hal0.upstreams.session import new_session

# A key and the certificate for 127.0.0.1 that it signed itself: nobody trusts it, and nobody but this test uses it.
PEM = Path(__file__).with_name("far.pem")
LIST = b'{"data":[{"id":"m"}]}'


@asynccontextmanager
async def server(*, tls: bool) -> AsyncIterator[int]:
    """Answers every request with a list; without `tls` it speaks plainly at once, as to a client that expects TLS."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if tls:
            await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(LIST), LIST))
        await writer.drain()
        writer.close()

    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(PEM)
    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        await listening.wait_closed()


def link(port: int, session: ClientSession) -> Link:
    config = UpstreamConfig.model_validate({"base_url": f"https://127.0.0.1:{port}/v1"})
    return Link("far", config, session, {}, instance="here")


@pytest.mark.parametrize(("tls", "why"), [(True, "self-signed certificate"), (False, "no TLS with it")])
async def test_a_server_that_cannot_prove_itself_gets_no_request(tls: bool, why: str) -> None:
    async with server(tls=tls) as port, new_session() as session:
        with pytest.raises(Hal0Error, match=why) as raised:
            await link(port, session).models()
        assert raised.value.code == "upstream.unreachable"


async def test_one_that_can_is_asked() -> None:
    trust = ssl.create_default_context(cafile=str(PEM))
    session = ClientSession(connector=TCPConnector(ssl=trust), auto_decompress=False)
    async with server(tls=True) as port, session:
        assert await link(port, session).models() == (200, LIST)
