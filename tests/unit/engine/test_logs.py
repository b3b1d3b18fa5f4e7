"""Frames to lines, however the bytes are cut."""

import itertools
import struct

from hypothesis import given
from hypothesis import strategies as st

from hal0.engine.base import LogLine
from hal0.engine.logs import LogDecoder

STAMP = "2026-01-02T03:04:05Z "


def frame(stream: int, text: str) -> bytes:
    data = text.encode()
    return struct.pack(">BxxxL", stream, len(data)) + data


WIRE = b"".join(
    [
        frame(2, STAMP + "0.00.173.432"),
        frame(1, STAMP + "out\n"),
        frame(2, STAMP + " E "),
        frame(2, STAMP + "srv failed: wörk\n"),
        frame(1, STAMP + "\n"),
        frame(1, "no stamp\r\n"),
        frame(2, STAMP + "never ended"),
    ]
)
LINES = [
    ("stdout", "out"),
    ("stderr", "0.00.173.432 E srv failed: wörk"),
    ("stdout", ""),
    ("stdout", "no stamp"),
    ("stderr", "never ended"),
]


def decode(*chunks: bytes) -> list[LogLine]:
    decoder = LogDecoder()
    lines = [line for chunk in chunks for line in decoder.feed(chunk)]
    return lines + list(decoder.finish())


@given(st.lists(st.integers(0, len(WIRE)), max_size=12))
def test_lines_are_whole_wherever_the_bytes_are_cut(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(WIRE)]
    lines = decode(*(WIRE[a:b] for a, b in itertools.pairwise(edges)))
    assert [(line.stream, line.text) for line in lines] == LINES


def test_time_is_that_of_the_first_piece() -> None:
    first, second = decode(frame(1, STAMP + "a"), frame(1, "2026-01-02T03:09:09Z b\n"), frame(1, "c\n"))
    assert (first.text, second.text) == ("ab", "c")
    assert first.at == 1767323045.0
    assert second.at is None


def test_a_line_that_never_ends_is_given_out_in_parts() -> None:
    lines = decode(*(frame(1, "x" * 10_000) for _ in range(20)))
    assert sum(len(line.text) for line in lines) == 200_000
    assert max(len(line.text) for line in lines) < 80_000


def test_what_is_no_text_is_replaced() -> None:
    assert decode(struct.pack(">BxxxL", 1, 3) + b"\xff\xfe\n")[0].text == "\ufffd\ufffd"
