"""The tokenizer of Moonshine's newer library: pieces by number, put together as text."""

from pathlib import Path

import pytest

from serving.app import UnusableError
from tests.unit.models.test_content import PIECES
from transcribing.pieces import Pieces


def packed(*pieces: bytes) -> bytes:
    return b"".join(
        (bytes([len(piece)]) if len(piece) < 128 else bytes([len(piece) % 128 + 128, len(piece) // 128])) + piece
        for piece in pieces
    )


def written(folder: Path, content: bytes) -> Path:
    file = folder / "tokenizer.bin"
    file.write_bytes(content)
    return file


def test_pieces_make_words_and_what_is_no_sound_is_left_out(tmp_path: Path) -> None:
    pieces = (b"<unk>", b"<s>", b"</s>", "▁the".encode(), "▁riv".encode(), b"er", b"<<ST_7>>", b"", b"x" * 300)
    tokenizer = Pieces(written(tmp_path, packed(*pieces)))
    assert tokenizer.decode([1, 3, 4, 5, 6, 7, 2]) == "the river"
    assert tokenizer.decode([8]) == "x" * 300
    assert tokenizer.decode([999, -1]) == ""


def test_a_letter_may_come_in_bytes(tmp_path: Path) -> None:
    tokenizer = Pieces(written(tmp_path, packed(*(bytes([byte]) for byte in "é".encode()), b"!")))
    assert tokenizer.decode([0, 1, 2]) == "é!"
    assert tokenizer.decode([0, 2]) == "\ufffd!"


@pytest.mark.parametrize("content", [b"", PIECES[:-1], b"\x85"])
def test_a_file_that_is_cut_short_is_not_used(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UnusableError, match="cut short"):
        Pieces(written(tmp_path, content))
