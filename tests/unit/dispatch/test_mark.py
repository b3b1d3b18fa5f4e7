"""A mark in an answer: the same bytes however the answer was cut."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal0.dispatch.mark import Mark

NEEDLE = b'"system_fingerprint":"'
FRAME = b'data: {"id":"x","system_fingerprint":"b11669","choices":[]}\n\n'
MARKED = b'data: {"id":"x","system_fingerprint":"hal0-demo b11669","choices":[]}\n\n'


def _through(chunks: list[bytes]) -> bytes:
    mark = Mark(NEEDLE, NEEDLE + b"hal0-demo ")
    return b"".join([*(mark.feed(chunk) for chunk in chunks), mark.end()])


@given(st.lists(st.integers(0, 2 * len(FRAME)), max_size=12))
def test_cuts_change_nothing(cuts: list[int]) -> None:
    text = FRAME + FRAME
    edges = [0, *sorted(cuts), len(text)]
    assert _through([text[a:b] for a, b in itertools.pairwise(edges)]) == MARKED + MARKED


@pytest.mark.parametrize(
    "text",
    [
        b'data: {"content":"\\"system_fingerprint\\":\\"x\\""}\n\n',  # inside a text it is escaped
        b'{"system_fingerprint":null}',
        b'{"system_fingerprint',  # an answer that ends in the middle loses nothing
        b"",
    ],
)
def test_everything_else_passes_as_it_is(text: bytes) -> None:
    assert _through([text]) == text


def test_a_whole_frame_does_not_wait() -> None:
    assert Mark(NEEDLE, NEEDLE + b"hal0-demo ").feed(FRAME) == MARKED
