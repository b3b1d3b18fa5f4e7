"""Headers, frames and usage: small pure pieces of the way."""

import pytest

from hal0.dispatch.border import outbound
from hal0.dispatch.frames import at_boundary, error_body, error_event
from hal0.dispatch.headers import answer_head, lines, request_end, request_start
from hal0.dispatch.surface import Dialect
from hal0.dispatch.usage import Meter, Usage
from hal0.errors import Hal0Error
from hal0.lib import jsonio
from hal0.providers.base import Endpoint


def test_a_request_head_is_written_anew_but_in_the_clients_order() -> None:
    client = [
        (b"Host", b"hal0"), (b"X-One", b"1"), (b"CONNECTION", b"close, x-private"), (b"X-Private", b"no"),
        (b"Transfer-Encoding", b"chunked"), (b"accept-encoding", b"gzip"), (b"x-two", b"2"),
    ]  # fmt: skip
    head = request_start("POST", b"/p?q", client, Endpoint("::1", 81, "s"), identity=True) + request_end(5)
    assert head.split(b"\r\n") == [
        b"POST /p?q HTTP/1.1", b"Host: [::1]:81", b"X-One: 1", b"x-two: 2", b"Accept-Encoding: identity",
        b"Authorization: Bearer s", b"Content-Length: 5", b"", b"",
    ]  # fmt: skip


def test_an_answer_loses_what_was_for_one_connection_only() -> None:
    slot = [
        (b"Server", b"x"), (b"Keep-Alive", b"timeout=5"), (b"Connection", b"X-Hop"), (b"x-hop", b"1"),
        (b"Access-Control-Allow-Origin", b"*"), (b"content-length", b"9"), (b"Date", b"then"), (b"A", b"\xff"),
    ]  # fmt: skip
    assert answer_head(200, "OK", slot, lines({"Date": "now"}), 3) == (
        b"HTTP/1.1 200 OK\r\nServer: x\r\nA: \xff\r\nContent-Length: 3\r\nDate: now\r\n\r\n"
    )


def test_of_what_a_client_accepts_an_upstream_hears_what_hal0_reads_too_and_of_hal0s_own_nothing() -> None:
    client = [(b"X-One", b"1"), (b"X-Hal0-Hold", b"1"), (b"Accept-Encoding", b"br, gzip")]
    assert outbound(client, identity=False) == [("X-One", "1"), ("Accept-Encoding", "gzip")]


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_has_no_length(status: int) -> None:
    assert answer_head(status, "", [], b"", 0) == b"HTTP/1.1 %d \r\n\r\n" % status


@pytest.mark.parametrize(
    ("dialect", "start"),
    [
        (Dialect.OPENAI, b'data: {"error":'),
        (Dialect.RESPONSES, b'event: error\ndata: {"error":'),
        (Dialect.ANTHROPIC, b'event: error\ndata: {"type":"error","error":'),
    ],
)
def test_error_events_speak_the_clients_dialect(dialect: Dialect, start: bytes) -> None:
    event = error_event(Hal0Error("slot.loading", "cannot yet", retry_after_s=7), dialect, "id-1")
    assert event.startswith(start)
    assert event.endswith(b"\n\n")
    inner = jsonio.loads(event.split(b"data: ")[1])["error"]
    assert (inner["code"], inner["status"], inner["retry_after_s"]) == ("slot.loading", 503, 7)


def test_anthropic_clients_get_their_own_types() -> None:
    body = error_body(Hal0Error("slot.loading", "cannot yet"), Dialect.ANTHROPIC, "id-1")
    assert body["type"] == "error"
    assert body["error"]["type"] == "overloaded_error"
    assert body["request_id"] == "id-1"


@pytest.mark.parametrize(
    ("tail", "is_one"), [(b"", True), (b"a\n\n", True), (b"\r\n\r\n", True), (b"a\n", False), (b"a", False)]
)
def test_a_boundary_is_between_two_events(tail: bytes, is_one: bool) -> None:
    assert at_boundary(tail) is is_one


@pytest.mark.parametrize(
    ("chunks", "usage"),
    [
        (
            [b'{"usage":{"prompt_tokens":3,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":1}}}'],
            Usage(3, 4),
        ),
        ([b'data: {"usage":null}\n\n', b'data: {"usage":{"prompt', b'_tokens":9}}\n\n', b"data: [DONE]\n\n"], Usage(9)),
        ([b'{"usage":{"input_tokens":1,"output_tokens":2}}'], Usage(1, 2)),
        ([b'{"timings":{"prompt_n":5,"predicted_n":6,"predicted_per_second":7.5}}'], Usage(5, 6, 7.5)),
        ([b'{"timings":{"cache_n":19,"prompt_n":1,"predicted_n":8}}'], Usage(20, 8)),
        ([b'{"content":"\\"usage\\":{\\"prompt_tokens\\":3}"}'], Usage()),
        ([b'{"usage":{"prompt_tokens":8},"data":[' + b"0," * 9000 + b"0]}"], Usage(8)),
        ([b'{"usage":{oops}}'], Usage()),
        ([b'{"usage":{"prompt_tokens":18446744073709551615,"completion_tokens":-3}}'], Usage()),
        (
            [b'{"usage":{"prompt_tokens":true,"completion_tokens":4},"timings":{"predicted_per_second":1e300}}'],
            Usage(None, 4),
        ),
        ([], Usage()),
    ],
)
def test_usage_is_found_at_either_end(chunks: list[bytes], usage: Usage) -> None:
    meter = Meter(lambda: 1.0)
    for chunk in chunks:
        meter.saw(chunk)
    assert meter.usage() == usage
