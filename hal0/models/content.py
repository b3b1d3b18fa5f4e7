"""What a file is, by its content: a name is only believed where the content leaves it open.

    accept(path) -> Format      Hal0Error model.unsafe_format or model.checksum; OSError is the disk's

Formats that are only numbers pass. Pickles run code when they are loaded; torch's `.pt`, `.pth`, `.ckpt` and `.bin`
are pickles. Blocking, bounded in memory whatever the file claims.
"""

import codecs
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Final

from hal0.errors import Hal0Error
from hal0.models.arrays import Pickled, check_arrays
from hal0.models.graphs import ORT_MARK, check_onnx, check_ort
from hal0.models.header import GgufError, read_header
from hal0.models.pieces import PIECES_MARK, check_pieces
from hal0.models.tensors import ContentError, read_tensors


class Format(StrEnum):
    GGUF = "gguf"
    SAFETENSORS = "safetensors"
    ONNX = "onnx"
    ORT = "ort"
    Q4NX = "q4nx"
    NPZ = "npz"
    TEXT = "text"
    SOUND = "sound"  # a voice to be cloned
    PIECES = "pieces"  # a tokenizer's, one after the other
    PICKLE = "pickle"  # only where `models.allow_pickle` says so


_HEAD_BYTES: Final = 16
_PIECE_BYTES: Final = 1 << 20
_MAX_TEXT_BYTES: Final = 128 << 20  # the largest tokenizers have 35 MB
# Text is harmless as data; as a program it is not, so its name counts.
TEXTS: Final = frozenset({".json", ".txt", ".jinja", ".md"})
SOUNDS: Final = frozenset({".wav", ".flac", ".ogg", ".mp3", ".m4a"})
_PICKLES: Final = frozenset({".ckpt", ".pt", ".pth", ".pkl", ".pickle", ".bin"})


def accept(path: Path, *, allow_pickle: bool = False) -> Format:
    """The format of a file that may be used, whole and safe."""
    try:
        return _look(path)
    except Pickled as e:
        if allow_pickle:
            return Format.PICKLE
        raise Hal0Error(
            "model.unsafe_format",
            f"cannot use {path}: {e}; loading it could run any code. Look for the model as GGUF, safetensors or ONNX",
            details={"file": str(path)},
        ) from e
    except (ContentError, GgufError) as e:
        raise Hal0Error("model.checksum", str(e), details={"file": str(path)}) from e


def _look(path: Path) -> Format:
    if not path.is_file():  # a FIFO would block for ever
        raise ContentError(f"cannot read {path}: it is not a regular file")
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    ending = path.suffix.lower()
    for matches, check, kind in (*_BY_CONTENT, *(() if _is_pickle(head) else _BY_NAME)):
        if matches(head, ending):
            check(path)
            return kind
    if _is_pickle(head) or ending in _PICKLES:
        raise Pickled("it is a pickle")
    raise Pickled("it is in none of the formats that are only numbers")


def _is_pickle(head: bytes) -> bool:
    return len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5


def _is_tensors(head: bytes) -> bool:
    """A header's length in the first eight bytes, then its JSON."""
    return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32


def _is_sound(head: bytes) -> bool:
    """WAV, FLAC, Ogg, MP3 or M4A: decoded where the engine runs, and never more than sound."""
    wav = head.startswith(b"RIFF") and head[8:12] == b"WAVE"
    frame = head[:1] == b"\xff" and head[1:2] in (b"\xfa", b"\xfb", b"\xf2", b"\xf3")
    return wav or frame or head.startswith((b"fLaC", b"OggS", b"ID3")) or head[4:8] == b"ftyp"


def _check_text(path: Path) -> None:
    if path.stat().st_size > _MAX_TEXT_BYTES:
        raise ContentError(f"cannot read {path}: a text of more than {_MAX_TEXT_BYTES >> 20} MiB")
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        try:
            while piece := file.read(_PIECE_BYTES):
                if "\0" in decoder.decode(piece):
                    raise ContentError(f"cannot read {path}: it is no text")
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as e:
            raise ContentError(f"cannot read {path}: it is no text") from e


_Kind = tuple[Callable[[bytes, str], bool], Callable[[Path], object], Format]

# The first that matches: (the first bytes, the name's ending) -> whether, how it is checked, what it is.
_BY_CONTENT: Final[tuple[_Kind, ...]] = (
    (lambda head, _: head.startswith(b"GGUF"), read_header, Format.GGUF),
    (lambda head, _: head.startswith(b"PK\x03\x04"), check_arrays, Format.NPZ),
    (lambda head, _: head[4:8] == ORT_MARK, check_ort, Format.ORT),
    (lambda head, _: head.startswith(PIECES_MARK), check_pieces, Format.PIECES),
    (lambda head, ending: _is_sound(head) and ending in SOUNDS, lambda _: None, Format.SOUND),
    (lambda head, ending: _is_tensors(head) and ending == ".q4nx", read_tensors, Format.Q4NX),
    (lambda head, _: _is_tensors(head), read_tensors, Format.SAFETENSORS),
)
# For what has no mark of its own, and to say what is wrong with a file that has not what its name promises.
_BY_NAME: Final[tuple[_Kind, ...]] = (
    (lambda _, ending: ending in TEXTS, _check_text, Format.TEXT),
    (lambda _, ending: ending == ".onnx", check_onnx, Format.ONNX),
    (lambda _, ending: ending == ".gguf", read_header, Format.GGUF),
    (lambda _, ending: ending in (".safetensors", ".q4nx"), read_tensors, Format.SAFETENSORS),
)
