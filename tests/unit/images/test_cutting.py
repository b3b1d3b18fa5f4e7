"""Sound is cut where it is quietest, loses nothing, and is never held whole."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transcribing.cutting import LONGEST_S, RATE, Samples, pieces, quietest


def noise(seconds: float, *pauses: tuple[float, float]) -> Samples:
    made = np.random.default_rng(1).uniform(-1, 1, round(seconds * RATE)).astype(np.float32)
    for start, end in pauses:
        made[round(start * RATE) : round(end * RATE)] = 0
    return made


def test_a_short_clip_stays_whole() -> None:
    (piece,) = pieces([noise(3), noise(2)])
    assert (piece.start_s, piece.end_s, len(piece.samples)) == (0, 5, 5 * RATE)


def test_no_sound_gives_no_piece() -> None:
    assert list(pieces([])) == []
    assert list(pieces([np.empty(0, np.float32)])) == []


@pytest.mark.parametrize("pause", [(21.0, 21.4), (25.0, 25.3), (29.5, 29.9)])
def test_it_is_cut_in_the_pause(pause: tuple[float, float]) -> None:
    first, second = pieces([noise(40, pause)])
    assert pause[0] < first.end_s < pause[1]
    assert second.start_s == first.end_s
    assert second.end_s == 40


def test_a_pause_too_early_is_not_taken() -> None:
    first, _ = pieces([noise(40, (5.0, 6.0), (24.0, 24.3))])
    assert 24.0 < first.end_s < 24.3


def test_the_last_of_several_pauses_is_taken() -> None:
    first, _ = pieces([noise(40, (21.0, 21.4), (27.0, 27.4))])
    assert 27.0 < first.end_s < 27.4


def test_sound_without_a_pause_is_cut_all_the_same() -> None:
    found = list(pieces(noise(1) for _ in range(95)))
    assert all(20 <= piece.end_s - piece.start_s <= LONGEST_S for piece in found[:-1])


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(0, 12 * RATE), max_size=12))
def test_the_pieces_together_are_the_sound(lengths: list[int]) -> None:
    count = sum(lengths)
    whole = np.linspace(-1, 1, count, dtype=np.float32) if count else np.empty(0, np.float32)
    chunks = np.split(whole, np.cumsum(lengths)[:-1]) if lengths else []
    found = list(pieces(chunks))
    assert np.array_equal(np.concatenate([piece.samples for piece in found] or [whole[:0]]), whole)
    assert [piece.start for piece in found] == [0, *np.cumsum([len(piece.samples) for piece in found])][: len(found)]
    assert all(0 < len(piece.samples) <= LONGEST_S * RATE for piece in found)


def test_no_more_is_read_than_the_piece_needs() -> None:
    read = 0

    def endless() -> Iterator[Samples]:
        nonlocal read
        while True:
            read += 1
            yield noise(1)

    found = pieces(endless())
    next(found)
    assert read == LONGEST_S + 1


def test_the_quietest_place_is_in_the_middle_of_the_quiet() -> None:
    assert quietest(noise(30, (25.0, 25.2)), 20 * RATE) == pytest.approx(25.1 * RATE, abs=RATE // 50)
