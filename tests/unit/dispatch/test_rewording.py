"""Errors that come in other shapes than Anthropic's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal0.dispatch.frames import error_event
from hal0.dispatch.rewording import for_anthropic, parsed, words_of
from hal0.dispatch.surface import Dialect
from hal0.errors import Hal0Error
from hal0.lib import jsonio

LLAMA = {"error": {"code": 400, "message": "'messages' is required", "type": "invalid_request_error"}}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (jsonio.dumps(LLAMA), "'messages' is required"),
        (b'{"error":"model not found"}', "model not found"),
        (b'{"detail":[{"loc":["body"],"msg":"field required"}]}', "field required"),
        (b'{"message":"no such route"}', "no such route"),
        (b'{"error":{"message":""},"message":"beside"}', "beside"),
        (b"  File Not Found\n", "File Not Found"),
        (b"<html><body>502 Bad Gateway</body></html>", ""),
        (b"\x1f\x8b\x08\xff\xfe", ""),
        (b"", ""),
        (b"[]", ""),
        (b"7", ""),
        (b"[" * 2000, "[" * 2000),
        (b'{"error":' * 6 + b'"deep"' + b"}" * 6, ""),
        (b"[" * 300 + b"]" * 300, "[" * 300 + "]" * 300),
        (b"x" * 5000, "x" * 2000),
        (b"x" * 300_000, ""),
        (b'{"message":"%b"}' % (b"x" * 300_000), ""),
    ],
)
def test_the_sentence_in_an_error(answer: bytes, words: str) -> None:
    assert words_of(answer) == words


_NAMES = st.sampled_from(("type", "error", "message", "detail", "x"))
NESTED = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(_NAMES, inner),
)


@given(st.binary() | NESTED.map(jsonio.dumps), st.integers(400, 999))
def test_whatever_a_server_says_is_an_error_that_can_be_read(answer: bytes, status: int) -> None:
    made = jsonio.loads(for_anthropic(status, answer, "x") or answer)
    assert made["type"] == "error"
    assert made["error"]["type"]
    assert made["error"]["message"] is not None


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (404, "not_found_error"),
        (418, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (529, "overloaded_error"),
        (799, "api_error"),
    ],
)
def test_anthropics_word_for_it_follows_from_the_status(status: int, kind: str) -> None:
    made = for_anthropic(status, jsonio.dumps(LLAMA), "req-1")
    assert made is not None
    error = {"type": kind, "message": "'messages' is required", "details": {"answer": LLAMA}}
    assert jsonio.loads(made) == {"type": "error", "error": error, "request_id": "req-1"}


@pytest.mark.parametrize(
    ("status", "message"), [(502, "the server answered 502 Bad Gateway"), (799, "the server answered 799")]
)
def test_without_words_the_status_says_it(status: int, message: str) -> None:
    made = for_anthropic(status, b"<html>", "req-1")
    assert made is not None
    assert jsonio.loads(made)["error"]["message"] == message


@pytest.mark.parametrize("depth", range(248, 258))
def test_what_is_almost_too_deep_is_an_error_like_any_other(depth: int) -> None:
    answer = b"[" * depth + b"]" * depth
    made = for_anthropic(500, answer, "req-1")
    assert made is not None
    assert jsonio.loads(made)["error"]["type"] == "api_error"
    assert error_event(
        Hal0Error("upstream.broken", "x", details={"answer": parsed(answer)}), Dialect.ANTHROPIC, "req-1"
    )


def test_anthropics_own_are_left_as_they_are() -> None:
    assert (
        for_anthropic(529, b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}', "x") is None
    )
    assert for_anthropic(400, b'{"type":"error","error":{"message":"no type"}}', "x") is not None
    assert for_anthropic(400, b'{"type":"error","error":"text"}', "x") is not None
