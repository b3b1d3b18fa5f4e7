"""What the small HTTP reader takes for an answer, and what it does not take for a whole one."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hal0.lib.http1 import Answer, BrokenOff, NotHttp, request


@contextmanager
def said(raw: bytes) -> Iterator[socket.socket]:
    """A socket at whose other end somebody said this and left."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(raw)
        theirs.shutdown(socket.SHUT_WR)
        ours.settimeout(5)
        yield ours


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd", b"abc"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.1 204 None\r\nContent-Length: 5\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\nT: 1\r\n\r\n", b"abc"),
    ],
)
def test_bodies_end_where_they_say(raw: bytes, body: bytes) -> None:
    with said(raw) as sock:
        assert Answer(sock).read(100) == body


def test_a_long_body_is_read_no_further_than_asked() -> None:
    with said(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000) as sock:
        assert len(Answer(sock).read(70_000)) == 70_000


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
    ],
)
def test_what_broke_off_is_not_whole(raw: bytes) -> None:
    with said(raw) as sock, pytest.raises(BrokenOff):
        Answer(sock).read(100)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 20x OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        b"x" * 70_000,
    ],
)
def test_what_is_no_http_is_refused(raw: bytes) -> None:
    with said(raw) as sock, pytest.raises(NotHttp):
        Answer(sock).read(100)


def test_a_request_asks_for_one_answer_and_no_more() -> None:
    assert request("POST", "h", "/x", [("A", "b")], b"{}") == (
        b"POST /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\nA: b\r\nContent-Length: 2\r\n\r\n{}"
    )


@pytest.mark.parametrize("path", ["/x\r\nEvil: 1", "/x\nEvil: 1"])
def test_nothing_is_smuggled_into_the_head(path: str) -> None:
    with pytest.raises(NotHttp, match="line break"):
        request("GET", "h", path, [])
