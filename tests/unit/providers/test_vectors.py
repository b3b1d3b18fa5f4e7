"""Embeddings in the form that was asked for, against numpy's reading of the same bytes."""

import base64
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal0.lib import jsonio
from hal0.providers.vectors import decode, encode, in_asked_format

FLOATS = [0.5, -1.25, 3.0]
TEXT = base64.b64encode(np.asarray(FLOATS, dtype="<f4").tobytes()).decode()


def answer(*vectors: object) -> bytes:
    data = [{"object": "embedding", "index": n, "embedding": vector} for n, vector in enumerate(vectors)]
    return jsonio.dumps({"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 3}})


@given(st.lists(st.floats(width=32, allow_nan=False)))
def test_the_wire_form_is_little_endian_float32(vector: list[float]) -> None:
    assert encode(vector) == base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()
    assert decode(encode(vector)) == vector


@pytest.mark.parametrize("text", ["AAA=", "no base64!", "AAAAAAA="])
def test_text_that_holds_no_floats_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(text)


@pytest.mark.parametrize(
    ("request_body", "came", "goes"),
    [
        ({"encoding_format": "base64"}, (FLOATS, FLOATS), (TEXT, TEXT)),
        ({"encoding_format": "base64"}, (TEXT, FLOATS), (TEXT, TEXT)),
        ({"encoding_format": "float"}, (TEXT,), (FLOATS,)),
        ({}, (TEXT,), (FLOATS,)),
    ],
)
def test_an_answer_is_converted_both_ways(request_body: dict[str, Any], came: Any, goes: Any) -> None:
    converted = in_asked_format(request_body, answer(*came))
    assert jsonio.loads(converted) == jsonio.loads(answer(*goes))


@pytest.mark.parametrize(
    ("request_body", "body"),
    [
        ({"encoding_format": "base64"}, answer(TEXT)),
        ({}, answer(FLOATS)),
        ({}, b"not json"),
        ({}, b'{"error": {"code": 501}}'),
        ({}, b'{"data": 3}'),
        ({}, b"[1]"),
        ({}, answer("no base64!")),
        ({"encoding_format": "base64"}, answer([[0.5], [0.5]])),
        ({"encoding_format": "base64"}, answer([1e300])),  # more than its 32 bits hold
    ],
)
def test_what_is_right_or_no_vector_keeps_its_bytes(request_body: dict[str, Any], body: bytes) -> None:
    assert in_asked_format(request_body, body) is body
