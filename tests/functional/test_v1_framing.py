"""How an answer is framed for the client that asked: chunks, lengths, and whether the connection goes on."""

from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from hal0.lib import jsonio
from tests.fakes.backend import DONE
from tests.functional.dispatch_app import World, world
from tests.functional.raw_client import RawClient, raw

CHAT = "/v1/chat/completions"


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


async def ask(client: RawClient, body: object, version: str, headers: str = "") -> dict[str, str]:
    """Send one request; the answer's headers, in lower case."""
    data = jsonio.dumps(body)
    head = f"POST {CHAT} HTTP/{version}\r\nHost: 127.0.0.1\r\nContent-Length: {len(data)}\r\n{headers}\r\n"
    await client.send(head.encode() + data)
    status, *lines = (await client.head()).decode().split("\r\n")
    assert status == "HTTP/1.1 200 OK"
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}


@pytest.mark.parametrize(
    ("version", "asked", "told", "goes_on"),
    [
        ("1.1", "", None, True),
        ("1.1", "Connection: close\r\n", "close", False),
        ("1.0", "", None, False),
        ("1.0", "Connection: keep-alive\r\n", "keep-alive", True),
    ],
)
async def test_a_whole_answer_has_a_length_and_keeps_the_connection_as_asked(
    w: World, version: str, asked: str, told: str | None, goes_on: bool
) -> None:
    async with raw(w.port) as client:
        for _ in range(2 if goes_on else 1):
            headers = await ask(client, w.chat(), version, asked)
            assert headers.get("connection") == told
            assert "transfer-encoding" not in headers
            assert parsedate_to_datetime(headers["date"]).tzinfo is not None
            assert jsonio.loads(await client.reader.readexactly(int(headers["content-length"])))["choices"]
        if not goes_on:
            assert await client.rest() == b""


@pytest.mark.parametrize(("version", "asked"), [("1.0", ""), ("1.0", "Connection: keep-alive\r\n")])
async def test_a_stream_for_an_old_client_is_bare_and_ends_with_the_connection(
    w: World, version: str, asked: str
) -> None:
    async with raw(w.port) as client:
        headers = await ask(client, w.chat(stream=True), version, asked)
        assert not {"transfer-encoding", "content-length", "connection"} & headers.keys()
        text = await client.rest()
    assert text.startswith(b"data: {")
    assert text.endswith(DONE)


async def test_a_stream_is_chunked_and_the_connection_goes_on(w: World) -> None:
    async with raw(w.port) as client:
        for _ in range(2):
            headers = await ask(client, w.chat(stream=True), "1.1")
            assert headers["transfer-encoding"] == "chunked"
            assert headers["x-accel-buffering"] == "no"
            text = b""
            while size := int(await client.reader.readuntil(b"\r\n"), 16):
                text += (await client.reader.readexactly(size + 2))[:-2]
            assert await client.reader.readexactly(2) == b"\r\n"
            assert text.endswith(DONE)
