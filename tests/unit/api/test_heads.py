"""The reader of ordinary heads: it takes what everybody sends, and never guesses."""

import pytest

from hal0.api.heads import read
from hal0.dispatch.headers import LENGTH

OPENAI = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nAccept-Encoding: gzip, deflate\r\n"
    b"Connection: keep-alive\r\nAccept: application/json\r\nContent-Type: application/json\r\n"
    b"User-Agent: OpenAI/Python 2.0\r\nX-Stainless-Async: false\r\nAuthorization: Bearer k\r\nContent-Length: 5\r\n\r\n"
)


def head(*lines: bytes, first: bytes = b"POST /v1/x HTTP/1.1") -> bytes:
    return b"\r\n".join((first, b"Host: h", b"Content-Length: 5", *lines, b"", b""))


def test_what_the_openai_package_sends() -> None:
    heading = read(OPENAI)
    assert heading is not None
    assert heading.target == "/v1/chat/completions"
    assert heading.headers["content-length"] == "5"
    assert heading.raw[0] == (b"Host", b"127.0.0.1:8080")
    assert len(heading.raw) == 9
    assert LENGTH.search(OPENAI, 0, len(OPENAI) - 2)[1] == b"5"  # type: ignore[index]


def test_values_are_kept_byte_for_byte() -> None:
    heading = read(head(b"X-Note: a:  b\tc \xc3\xa9", b"x-other: \xff"))
    assert heading is not None
    assert heading.raw[2:] == ((b"X-Note", b"a:  b\tc \xc3\xa9"), (b"x-other", b"\xff"))
    assert heading.headers["X-Note"] == "a:  b\tc é"
    assert heading.headers["X-Other"].encode("utf-8", "surrogateescape") == b"\xff"


@pytest.mark.parametrize(
    "unusual",
    [
        head(first=b"GET /v1/x HTTP/1.1"),
        head(first=b"post /v1/x HTTP/1.1"),
        head(first=b"POST /v1/x HTTP/1.0"),
        head(first=b"POST /v1/x HTTP/2.0"),
        head(first=b"POST  /v1/x HTTP/1.1"),
        head(first=b"POST http://h/v1/x HTTP/1.1"),
        head(first=b"POST /v1/\xc3\xa9 HTTP/1.1"),
        head(first=b"\r\nPOST /v1/x HTTP/1.1"),
        head(b"Content-Length: 5"),
        head(b"Content-Length: 6"),
        head(b"Host: other"),
        head(b"Transfer-Encoding: chunked"),
        head(b"transfer-encoding: identity"),
        head(b"Expect: 100-continue"),
        head(b"Connection: close"),
        head(b"Connection: keep-alive", b"Connection: Upgrade"),
        head(b"Connection: keep-alive, x-secret"),
        head(b"Upgrade: h2c"),
        head(b"Cookie: a=b"),
        head(b"Origin: http://h"),
        head(b"Content-Encoding: gzip"),
        head(b"Trailer: X"),
        head(b"x-hal0-hold: 5"),
        head(b" folded: yes"),
        head(b"X-A: b", b" c"),
        head(b"X-A: b", b"\tc"),
        head(b"X-A : b"),
        head(b"X-A:b"),
        head(b"X-A:  b"),
        head(b"X-A: b "),
        head(b"X-A: "),
        head(b": b"),
        head(b"X A: b"),
        head(b"X-A: b\x00c"),
        head(b"X-A: b\x7f"),
        head(b"X-A: b\rc"),
        head(b"X-A: b\nX-B: c"),
        head()[:-2],
        head() + b"x",
        b"POST /v1/x HTTP/1.1\r\n\r\n",
        b"POST /v1/x HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
        b"POST /v1/x HTTP/1.1\r\nHost: h\r\n\r\n",
        b"",
    ],
)
def test_everything_else_is_left_to_a_parser_that_knows_it(unusual: bytes) -> None:
    assert read(unusual) is None


@pytest.mark.parametrize("size", [b"5, 5", b"+5", b"-5", b"0x5", b"5_0", b"", b" 5", b"5 ", b"1234567890"])
def test_a_length_is_digits_and_nothing_else(size: bytes) -> None:
    found = LENGTH.search(b"POST / HTTP/1.1\r\nContent-Length: " + size + b"\r\n")
    assert found is None
