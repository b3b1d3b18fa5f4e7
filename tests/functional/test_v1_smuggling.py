"""Requests that two readers could understand differently: refused, alone and in front of one that hides behind them.

Whatever reads a connection is bound by this file, so everything goes through real sockets.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hal0.lib import jsonio
from tests.fakes.backend import SECRET, Talk
from tests.functional.dispatch_app import World, world
from tests.functional.raw_client import RawClient, raw

CHAT = "/v1/chat/completions"
BODY = b'{"model":"fake-chat","messages":[]}'
HIDDEN = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 17\r\n\r\n" + b'{"prompt":"away"}'
LIMIT_S = 10


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


def post(*lines: bytes, body: bytes = b"", line: bytes = b"POST /v1/chat/completions HTTP/1.1") -> bytes:
    return b"\r\n".join((line, b"Host: localhost", *lines, b"", b"")) + body


def sized(size: bytes) -> bytes:
    return post(b"Content-Length: " + size, body=BODY)


def coded(coding: bytes) -> bytes:
    return post(b"Transfer-Encoding: " + coding, body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY))


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", body=body)


LENGTH = b"Content-Length: %d" % len(BODY)
AMBIGUOUS = {
    "both lengths": post(LENGTH, b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "both lengths, the other way": post(b"Transfer-Encoding: chunked", LENGTH, body=b"0\r\n\r\n"),
    "two lengths": post(LENGTH, b"Content-Length: 3", body=BODY),
    "twice the same length": post(LENGTH, LENGTH, body=BODY),
    "a list of lengths": sized(b"%d, %d" % (len(BODY), len(BODY))),
    "a signed length": sized(b"+%d" % len(BODY)),
    "a negative length": sized(b"-1"),
    "a hexadecimal length": sized(b"0x23"),
    "a length with an underscore": sized(b"3_5"),
    "a length in other digits": sized("٣٥".encode()),
    "an endless length": sized(b"9" * 40),
    "no length": sized(b""),
    "an unknown coding": coded(b"xchunked"),
    "a coding that is not the last": coded(b"chunked, identity"),
    "a coding twice": coded(b"chunked, chunked"),
    "a coding with a control character": coded(b"\x0bchunked"),
    "two coding headers": post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=b"0\r\n\r\n"),
    "a coding in HTTP/1.0": post(
        b"Transfer-Encoding: chunked", body=b"0\r\n\r\n", line=b"POST /v1/chat/completions HTTP/1.0"
    ),
    "a chunk size with a prefix": chunked(b"0x23\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a negative chunk size": chunked(b"-23\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a chunk size that overflows": chunked(b"1" + b"0" * 16 + b"23\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a chunk that is longer than it says": chunked(b"2\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a chunk size ended by a line feed": chunked(b"23\n" + BODY + b"\r\n0\r\n\r\n"),
    "a line feed in a chunk extension": chunked(b"23;a=\nb\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a space before the colon": post(b"Content-Length : %d" % len(BODY), body=BODY),
    "a folded header": post(LENGTH, b"X-Long: a", b" b", body=BODY),
    "a first header that is folded": post(b" X-Long: a", LENGTH, body=BODY),
    "a header without a colon": post(b"Content-Length", body=BODY),
    "a header without a name": post(b": a", LENGTH, body=BODY),
    "a NUL in a header": post(b"X-Own: a\x00b", LENGTH, body=BODY),
    "a bare CR in a header": post(b"X-Own: a\rX-Other: b", LENGTH, body=BODY),
    "a bare LF between headers": post(b"X-Own: a\nX-Other: b", LENGTH, body=BODY),
    "a name that is no token": post(b"X(Own): a", LENGTH, body=BODY),
    "a NUL in a name": post(b"X\x00Own: a", LENGTH, body=BODY),
    "lines that end in LF": post(LENGTH, body=BODY).replace(b"\r\n", b"\n"),
    "no version": post(LENGTH, body=BODY, line=b"POST /v1/chat/completions"),
    "HTTP/2": post(LENGTH, body=BODY, line=b"POST /v1/chat/completions HTTP/2.0"),
    "a version in lower case": post(LENGTH, body=BODY, line=b"POST /v1/chat/completions http/1.1"),
    "a space in the target": post(LENGTH, body=BODY, line=b"POST /v1/chat completions HTTP/1.1"),
    "a control character in the target": post(LENGTH, body=BODY, line=b"POST /v1/chat/completions\x01 HTTP/1.1"),
    "a method that is no token": post(LENGTH, body=BODY, line=b"PO(ST /v1/chat/completions HTTP/1.1"),
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a TLS greeting": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
    "no HTTP": b"\x00\x01\x02\r\n\r\n",
    "two hosts": post(b"Host: evil.example", LENGTH, body=BODY),
    "no host": b"POST /v1/chat/completions HTTP/1.1\r\n%b\r\n\r\n%b" % (LENGTH, BODY),
}


async def refused(port: int, data: bytes) -> bool:
    """Whether there is one answer, a refusal in hal0's words, and then the end of the connection."""
    async with raw(port) as client:
        await client.send(data)
        answers = await asyncio.wait_for(client.rest(), LIMIT_S)
    code = jsonio.loads(answers.partition(b"\r\n\r\n")[2])["error"]["code"]
    return answers.startswith(b"HTTP/1.") and answers.count(b"HTTP/1.") == 1 and code == "request.invalid"


async def test_what_has_two_meanings_is_refused_and_nothing_behind_it_is_heard(
    w: World, caplog: pytest.LogCaptureFixture
) -> None:
    let_through = [name for name, data in AMBIGUOUS.items() if not await refused(w.port, data + HIDDEN)]
    assert let_through == []
    assert w.backend.seen == []
    assert "Traceback" not in caplog.text


async def test_bytes_that_are_no_request_are_repeated_nowhere(w: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with raw(w.port) as client:
        await client.send(post(b"Authorization: Bearer hal0_secret\x00", LENGTH, body=BODY))
        answer = await asyncio.wait_for(client.rest(), LIMIT_S)
    assert answer.startswith(b"HTTP/1.0 400 ")
    assert b"hal0_secret" not in answer
    assert "hal0_secret" not in caplog.text


async def test_lines_that_end_in_lf_are_refused_at_once(w: World) -> None:
    """Nothing behind them says that the head is over."""
    assert await refused(w.port, AMBIGUOUS["lines that end in LF"])


@pytest.mark.parametrize(
    "line", [post(LENGTH, b"X-Long: " + b"a" * 9000), b"GET /v1/models/%b HTTP/1.1" % (b"a" * 9000)]
)
async def test_a_line_that_is_too_long_is_called_so(w: World, line: bytes) -> None:
    async with raw(w.port) as client:
        await client.send(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n" + line + b"\r\n\r\n")
        assert b"8190 bytes" in await asyncio.wait_for(client.rest(), LIMIT_S)


@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/slot/primary/v1/chat/completions"])
async def test_a_coding_that_hal0_does_not_undo_is_refused(w: World, path: bytes) -> None:
    async with raw(w.port) as client:
        await client.send(coded(b"gzip, chunked").replace(b"/v1/chat/completions", path))
        head, body = await answered(client)
    assert b" 415 " in head.splitlines()[0]
    error = jsonio.loads(body)["error"]
    assert error["code"] == "request.encoding"
    assert "Transfer-Encoding: chunked" in error["hint"]
    assert w.backend.seen == []


async def answered(client: RawClient) -> tuple[bytes, bytes]:
    """The status line and body of the next answer."""
    head = await asyncio.wait_for(client.head(), LIMIT_S)
    if head.startswith(b"HTTP/1.1 100 "):
        head = await client.head()
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)\r\n", head)
    assert length is not None, head
    return head.partition(b"\r\n")[0], await client.reader.readexactly(int(length[1]))


async def test_requests_in_one_write_are_answered_in_their_order(w: World) -> None:
    async def slow(talk: Talk) -> None:
        await asyncio.sleep(0.05)
        await talk.json({"said": "first"})

    async def quick(talk: Talk) -> None:
        await talk.json({"said": "second"})

    w.backend.behave("fake-chat", slow)
    w.backend.behave("primary", quick)
    second = b'{"model":"primary","messages":[]}'
    async with raw(w.port) as client:
        await client.send(
            post(LENGTH, body=BODY)
            + post(b"Content-Length: %d" % len(second), body=second)
            + b"GET /v1/models/none HTTP/1.1\r\nHost: localhost\r\n\r\n"
            + chunked(b"23\r\n" + BODY + b"\r\n0\r\n\r\n")
        )
        said = [await answered(client) for _ in range(4)]
    assert [line.split()[1] for line, _ in said] == [b"200", b"200", b"404", b"200"]
    assert [body for _, body in said[:2]] == [b'{"said":"first"}', b'{"said":"second"}']
    assert said[3][1] == b'{"said":"first"}'


UNREAD = {
    "compressed": post(b"Content-Encoding: gzip", b"Content-Length: %d" % len(HIDDEN), body=HIDDEN),
    "compressed in chunks": post(
        b"Content-Encoding: gzip", b"Transfer-Encoding: chunked", body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)
    ),
    "too large": post(b"Content-Length: 99999999999", body=HIDDEN),
    "an odd hold": post(b"X-Hal0-Hold: soon", b"Content-Length: %d" % len(HIDDEN), body=HIDDEN),
    "no such path": post(b"Content-Length: %d" % len(HIDDEN), body=HIDDEN, line=b"POST /v1/chat/completion HTTP/1.1"),
    "another method": post(b"Content-Length: %d" % len(HIDDEN), body=HIDDEN, line=b"GET /v1/chat/completions HTTP/1.1"),
    "a body for GET": post(b"Content-Length: %d" % len(HIDDEN), body=HIDDEN, line=b"GET /v1/models HTTP/1.1"),
    "not JSON": post(b"Content-Length: %d" % len(HIDDEN), body=HIDDEN),
    "continued": post(b"Expect: 100-continue", b"Content-Length: %d" % len(HIDDEN), body=HIDDEN),
    "upgraded": post(b"Connection: Upgrade", b"Upgrade: h2c", b"Content-Length: %d" % len(HIDDEN), body=HIDDEN),
}


@pytest.mark.parametrize("data", UNREAD.values(), ids=UNREAD.keys())
async def test_a_body_is_never_taken_for_the_next_request(w: World, data: bytes) -> None:
    async with raw(w.port) as client:
        await client.send(data)
        await answered(client)
        client.writer.write_eof()
        assert await asyncio.wait_for(client.rest(), LIMIT_S) == b""
    assert w.backend.seen == []


INJECTED = "x\r\nX-Injected: 1\r\n\r\nHTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize("member", ["model", "encoding_format", "x_vendor"])
async def test_a_member_becomes_no_header(w: World, member: str) -> None:
    body = jsonio.dumps({"model": "fake-chat", "messages": [], member: INJECTED})
    async with raw(w.port) as client:
        await client.send(post(b"Content-Length: %d" % len(body), b"Connection: close", body=body))
        answers = await asyncio.wait_for(client.rest(), LIMIT_S)
    assert b"\nX-Injected" not in answers
    assert all(seen.header("X-Injected") is None for seen in w.backend.seen)


async def test_an_escape_in_a_query_stays_one(w: World) -> None:
    target = b"/v1/chat/completions?a=%0d%0aX-Injected:%201"
    async with raw(w.port) as client:
        await client.send(post(LENGTH, body=BODY, line=b"POST " + target + b" HTTP/1.1"))
        await answered(client)
    assert w.backend.seen[0].line == f"POST {target.decode()} HTTP/1.1"


async def test_a_connection_header_cannot_take_away_what_hal0_sends(w: World) -> None:
    """Headers that it names go no further; those that hal0 writes itself do."""
    named = b"Connection: content-length, host, authorization, x-request-id"
    async with raw(w.port) as client:
        await client.send(post(named, LENGTH, body=BODY))
        assert (await answered(client))[0] == b"HTTP/1.1 200 OK"
    (seen,) = w.backend.seen
    assert seen.header("Content-Length") == str(len(BODY))
    assert seen.header("Authorization") == f"Bearer {SECRET}"


@pytest.mark.parametrize(
    "header", [b"X-Own: a\rX-Injected: 1", b"X-Own: a\nX-Injected: 1", b"X-Own: a\x00b", b"X Own: a", b"X-Own: a\r\n b"]
)
async def test_what_an_engine_writes_cannot_split_its_answer(w: World, header: bytes) -> None:
    async def inject(talk: Talk) -> None:
        await talk.raw(b"HTTP/1.1 200 OK\r\n%b\r\nContent-Length: 2\r\n\r\n{}" % header)

    w.backend.behave("fake-chat", inject)
    async with raw(w.port) as client:
        await client.send(post(LENGTH, b"Connection: close", body=BODY))
        answers = await asyncio.wait_for(client.rest(), LIMIT_S)
    assert answers.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 502 "))
    lines = answers.partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert all(not set(line) & set(b"\r\n\x00") for line in lines)
    assert not any(line.lower().startswith(b"x-injected") for line in lines)
