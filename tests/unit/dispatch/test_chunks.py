"""Chunks that come alone need no parser: what is passed on is what it would have read, wherever the pieces end."""

import asyncio
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal0.dispatch.chunks import lone_size
from hal0.dispatch.upstream_http import Connection
from hal0.errors import Hal0Error
from hal0.lib.outbox import Outbox
from tests.unit.dispatch.test_answers import Pipe

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


def chunk(body: bytes) -> bytes:
    return b"%X\r\n%b\r\n" % (len(body), body)


BODIES = st.one_of(
    st.sampled_from([b"data: {}\n\n", b"\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n", b"\n", b"a"]),
    st.binary(min_size=1, max_size=40),
)
# What is no chunk as engines send them, or is none at all.
ODDITIES = st.sampled_from(
    [
        *(b"2;x=y\r\n{}\r\n", b"002\r\n{}\r\n", b"2\r\n{}}\r\n", b"3\r\n{}\r\n", b"-2\r\n{}\r\n", b"0x2\r\n{}\r\n"),
        *(b"1_0\r\n0123456789abcdef\r\n", b" 2\r\n{}\r\n", b"2\n{}\r\n", b"2\r\n{}\n\n", b"\r\n", b"fffffffff\r\n"),
    ]
)


async def poured(pieces: list[bytes], *, parser_alone: bool) -> tuple[bytes, bool | str]:
    """What comes out of an answer that arrives in these pieces, and whether it had an end; or what was wrong."""
    loop = asyncio.get_running_loop()
    connection = Connection(loop, Outbox(loop))
    connection.connection_made(Pipe())
    connection.send_whole(b"POST / HTTP/1.1\r\n\r\n", 60.0)
    came = bytearray()

    def take(data: bytes) -> bool:
        came.extend(data)
        return True

    def passes(data: bytes) -> bool:
        size = lone_size(data)
        body = data[-size - 2 : -2]
        assert not size or re.fullmatch(rb"(?i)0*%x\r\n%b\r\n" % (size, re.escape(body)), data)
        came.extend(body if size else b"")
        return size > 0

    pouring = asyncio.create_task(connection.pour(take, 60.0, None if parser_alone else passes))
    await asyncio.sleep(0)
    for piece in pieces:
        connection.data_received(piece)
        if connection.failed:
            break
    end: bool | str = connection.complete
    if not end and not connection.failed:
        connection.abort(Hal0Error("upstream.broken", "no end"))
    try:
        await pouring
    except Hal0Error as error:
        end = error.message
    return bytes(came), end


@given(
    st.lists(st.one_of(BODIES.map(chunk), BODIES.map(chunk), ODDITIES), max_size=12),
    st.lists(st.integers(0, 600), max_size=12),
    st.booleans(),
)
def test_what_is_passed_on_is_what_the_parser_reads(chunks: list[bytes], cuts: list[int], whole: bool) -> None:
    """Pieces that end with the chunks, and pieces that end anywhere else besides."""
    wire = HEAD + b"".join(chunks) + LAST
    ends = {len(HEAD)}
    for each in chunks:
        ends.add(max(ends) + len(each))
    if not whole:
        ends |= {cut for cut in cuts if cut < len(wire)}
    marks = [0, *sorted(ends), len(wire)]
    pieces = [wire[begin:end] for begin, end in pairwise(marks) if begin < end]

    async def run() -> None:
        assert await poured(pieces, parser_alone=False) == await poured(pieces, parser_alone=True), pieces

    asyncio.run(run())


async def test_a_chunk_alone_needs_no_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = [b"data: %d\n\n" % number for number in range(5)]
    pieces = [HEAD, *map(chunk, tokens), LAST]
    fed = list[bytes]()
    on_body = Connection.on_body

    def seen(connection: Connection, data: bytes) -> None:
        fed.append(data)
        on_body(connection, data)

    monkeypatch.setattr(Connection, "on_body", seen)

    assert await poured(pieces, parser_alone=False) == (b"".join(tokens), True)
    assert fed == tokens[:1]  # only by that was it known that chunks come


@pytest.mark.parametrize("data", [b"", b"2", b"2\r\n", LAST, chunk(b"{}")[:-1], chunk(b"{}") + b"2", chunk(b"{}") * 2])
def test_what_is_not_one_whole_chunk(data: bytes) -> None:
    assert lone_size(data) == 0


def test_what_has_the_size_of_no_chunk_is_none() -> None:
    assert [size for size in range(2, 5000) if lone_size(bytes(size - 2) + b"\r\n")] == []
