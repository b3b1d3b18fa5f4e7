"""Knowing an answer's head again: never another answer than the parser would have read, and no parser for the usual."""

import asyncio
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hal0.dispatch.answers import Familiar, Head
from hal0.dispatch.upstream_http import Connection
from hal0.lib.outbox import Outbox

PLAIN = b"HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nContent-Type: application/json\r\n"


def plain(body: bytes) -> bytes:
    return PLAIN + b"Content-Length: %d\r\nKeep-Alive: timeout=5\r\n\r\n" % len(body) + body


class Forgetful(Familiar):
    """Knows nothing again."""

    def look(self, data: bytes) -> None:
        super().look(data)


class Pipe(asyncio.Transport):
    """As much of a transport as a connection asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True


def told(connection: Connection, answer: list[bytes]) -> tuple[Any, ...]:
    """What comes out of an exchange whose answer arrives in these pieces."""
    connection.send_whole(b"POST / HTTP/1.1\r\n\r\n", 60.0)
    for piece in answer:
        connection.data_received(piece)
    head, complete, failed = connection.begun, connection.complete, connection.failed
    return head, connection.arrived(), complete, failed, connection.finish()


ANSWERS = (
    plain(b"{}"),
    plain(b'{"a": 1}'),
    plain(b""),
    plain(b"{}").replace(b"200 OK", b"404 Not Found"),
    plain(b"{}").replace(b"Keep-Alive: timeout=5", b"Connection: close"),
    plain(b"{}").replace(b"Content-Length: 2", b"Content-Length: 3"),
    plain(b"{}").replace(b"Content-Length: 2", b"Content-Length: 2\r\nContent-Length: 2"),
    plain(b"{}}").replace(b"Content-Length: 3", b"Content-Length: 3\r\nContent-Length: 2"),
    plain(b"{}").replace(b"Content-Length: 2", b"Content-Length: 2\r\nTransfer-Encoding: chunked"),
    plain(b"{}").replace(b"Content-Length", b"CONTENT-LENGTH"),
    plain(b"{}") + b"HTTP/1.1",
    b"HTTP/1.1 100 Continue\r\n\r\n" + plain(b"{}"),
    b"HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    PLAIN + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    PLAIN + b"Content-Length: 2\r\nX-Note: \r\n folded\r\n\r\n{}",
    b"Content-Length: 2\r\n\r\n{}",
    b"nonsense",
)


@example([(plain(b"{}"), False), (plain(b"{}") + b"HTTP/1.1", False), (plain(b"{}"), False)])
@given(st.lists(st.tuples(st.sampled_from(ANSWERS), st.booleans()), min_size=1, max_size=6))
def test_what_is_known_again_is_what_the_parser_reads(answers: list[tuple[bytes, bool]]) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        clever, plodding = Connection(loop, Outbox(loop)), Connection(loop, Outbox(loop))
        plodding._familiar = Forgetful()
        for connection in (clever, plodding):
            connection.connection_made(Pipe())
        for answer, halved in answers:
            pieces = [answer[: len(answer) // 2], answer[len(answer) // 2 :]] if halved else [answer]
            outcome = told(clever, pieces)
            assert outcome == told(plodding, pieces)
            if not outcome[-1]:
                return

    asyncio.run(run())


async def test_an_answer_that_never_has_a_body_is_not_known_to_have_one() -> None:
    """What was passed on behind it would be the next answer for the client."""
    loop = asyncio.get_running_loop()
    connection = Connection(loop, Outbox(loop))
    connection.connection_made(Pipe())
    assert told(connection, [b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"])[1] == b""
    _, body, _, failed, kept = told(connection, [b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n{}"])
    assert (body, failed, kept) == (b"", True, False)


async def test_an_engines_second_answer_needs_no_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    connection = Connection(loop, Outbox(loop))
    connection.connection_made(Pipe())
    first = told(connection, [plain(b"{}")])
    monkeypatch.setattr(connection, "_parser", None)
    second = told(connection, [plain(b'{"b": 22}')])
    assert second[0] == first[0]._replace(length=9)
    assert second[1:] == (b'{"b": 22}', True, False, True)
    connection.close()


def test_a_head_is_known_by_every_byte_but_its_length() -> None:
    familiar, head = Familiar(), Head(200, "OK", (), 2)
    assert familiar.look(plain(b"{}")) is None
    familiar.learn(head, keep=True)
    again = familiar.look(plain(b"12345"))
    assert again is not None
    assert (again.head, again.body, again.keep) == (head._replace(length=5), b"12345", True)
    for other in (plain(b"{}")[:-1], plain(b"{}") + b"x", plain(b"{}").replace(b"llama", b"LLama"), b"", b"\r\n\r\n"):
        assert familiar.look(other) is None
