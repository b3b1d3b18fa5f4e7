"""What a file is by its content, and every way in which it can lie about that."""

import json
import os
import pickle
import resource
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hal0.errors import Hal0Error
from hal0.models import demo
from hal0.models.arrays import check_arrays
from hal0.models.content import Format, accept
from hal0.models.tensors import ContentError


def tensors(shapes: dict[str, tuple[int, ...]], **changes: object) -> bytes:
    """A safetensors file of half-precision zeros; `changes` to its header."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in shapes.items():
        end = at + 2 * int(np.prod(shape))
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [at, end]}
        at = end
    raw = json.dumps({**header, **changes}).encode()
    return struct.pack("<Q", len(raw)) + raw + bytes(at)


def varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def onnx(graph: bytes = b"\x0a\x00", version: int = 8) -> bytes:
    return b"\x08" + varint(version) + b"\x12\x04hal0" + b"\x3a" + varint(len(graph)) + graph + b"\x42\x02\x10\x11"


def voices(path: Path, **arrays: object) -> bytes:
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    return path.read_bytes()


def torch_archive(path: Path) -> bytes:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"a": 1}))
        archive.writestr("archive/data/0", b"\0" * 64)
    return path.read_bytes()


ORT = b"\x10\x00\x00\x00ORTM" + bytes(64)
PIECES = b"\x05<unk>\x03<s>\x04</s>\x00\x82\x01" + b"x" * 130
PICKLE = pickle.dumps({"weights": [1.0]}, protocol=2)


@pytest.mark.parametrize(
    ("name", "made", "form"),
    [
        ("a.gguf", lambda _: demo.build(), Format.GGUF),
        ("a.bin", lambda _: demo.build(), Format.GGUF),
        ("a.safetensors", lambda _: tensors({"x": (2, 3), "y": (4,)}), Format.SAFETENSORS),
        ("no-tensors.safetensors", lambda _: tensors({}), Format.SAFETENSORS),
        ("model.q4nx", lambda _: tensors({"x": (2, 3)}), Format.Q4NX),
        ("a.onnx", lambda _: onnx(), Format.ONNX),
        ("a.ort", lambda _: ORT, Format.ORT),
        ("voices-v1.0.bin", lambda path: voices(path, af=np.zeros((4, 1, 8), "f4")), Format.NPZ),
        ("tokenizer.json", lambda _: b'{"model": "\xc3\xa9"}', Format.TEXT),
        ("vocab.txt", lambda _: b"a\nb\n", Format.TEXT),
        ("tokenizer.bin", lambda _: PIECES, Format.PIECES),
        ("anna.wav", lambda _: b"RIFF\x24\0\0\0WAVEfmt ", Format.SOUND),
        ("anna.m4a", lambda _: b"\0\0\0\x20ftypM4A ", Format.SOUND),
    ],
)
def test_what_is_only_numbers_or_text_is_accepted(
    tmp_path: Path, name: str, made: Callable[[Path], bytes], form: Format
) -> None:
    path = tmp_path / name
    path.write_bytes(made(path))

    assert accept(path) is form


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("a.pt", lambda _: PICKLE),
        ("a.gguf", lambda _: PICKLE),  # renaming does not help
        ("a.onnx", lambda _: PICKLE),
        ("a.safetensors.ckpt", lambda _: b"anything"),
        ("pytorch_model.bin", torch_archive),
        ("model.safetensors", torch_archive),
        ("voices.npz", lambda path: voices(path, a=np.array([{"x": 1}], dtype=object))),
        ("modeling_custom.py", lambda _: b"import os\n"),
        ("anna.py", lambda _: b"RIFF\x24\0\0\0WAVEfmt "),
        ("anna.wav", lambda _: b"RIFF\x24\0\0\0AVI LIST"),
        ("a.h5", lambda _: b"\x89HDF\r\n\x1a\n" + bytes(100)),
    ],
)
def test_what_could_run_code_is_refused(tmp_path: Path, name: str, made: Callable[[Path], bytes]) -> None:
    path = tmp_path / name
    path.write_bytes(made(path))

    with pytest.raises(Hal0Error) as caught:
        accept(path)

    assert caught.value.code == "model.unsafe_format"
    assert str(path) in caught.value.message
    assert accept(path, allow_pickle=True) is Format.PICKLE


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.safetensors", tensors({"x": (2, 3)})[:-1], "truncated"),
        ("a.safetensors", tensors({"x": (2, 3)}) + b"\0", "belong to none"),
        ("a.safetensors", b"\xff" * 7 + b"\x00{", "header"),
        ("a.safetensors", struct.pack("<Q", 2**31) + b"{}", "header"),
        ("a.safetensors", struct.pack("<Q", 4) + b"{nop", "JSON"),
        ("a.safetensors", tensors({}, x={"dtype": "F16", "shape": [2], "data_offsets": [0, 2]}), "size"),
        ("a.safetensors", tensors({}, x={"dtype": "F99", "shape": [0], "data_offsets": [0, 0]}), "size"),
        ("a.safetensors", tensors({"a": (2,)}, x={"dtype": "F16", "shape": [1], "data_offsets": [2, 4]}), "overlap"),
        ("a.safetensors", tensors({}, x={"dtype": "F16", "shape": [-2], "data_offsets": [4, 0]}), "size"),
        ("a.safetensors", tensors({}, x=[1]), "described"),
        ("a.onnx", onnx()[:-1], "truncated"),
        ("a.onnx", b"\x08\x08", "no graph"),
        ("a.onnx", b"<html>not found</html>", "not an ONNX"),
        ("a.onnx", b"", "no graph"),
        ("a.ort", b"\xff\xff\xff\x7fORTM", "not a graph"),
        ("a.json", b"{\0}", "no text"),
        ("a.json", b"\xff\xfe", "no text"),
        ("a.bin", b"PK\x03\x04" + bytes(30), "no end"),
        ("a.bin", b"PK\x03\x04" + bytes(30) + b"PK\x05\x06" + b"\xff" * 18, "larger"),
        ("a.gguf", b"<html>", "not a GGUF"),
    ],
)
def test_what_is_damaged_is_named_with_the_file(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)

    with pytest.raises(Hal0Error, match=words) as caught:
        accept(path)

    assert caught.value.code == "model.checksum"
    assert caught.value.message.startswith("cannot ")
    assert str(path) in caught.value.message


def test_a_fifo_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.safetensors")

    with pytest.raises(Hal0Error, match="regular"):
        accept(tmp_path / "a.safetensors")


SEEDS = {
    "a.safetensors": tensors({"x": (2, 3), "y": (4,), "z": (1, 1, 1)}),
    "a.onnx": onnx(b"\x0a\x05hello" * 20),
    "a.ort": ORT,
    "a.json": b'{"a": [1, 2, 3]}',
}


def judged(path: Path, data: bytes) -> Format | None:
    """Anything but a typed refusal goes through and fails the test."""
    path.write_bytes(data)
    try:
        return accept(path)
    except Hal0Error as e:
        code = e.code
    assert code in ("model.checksum", "model.unsafe_format")
    return None


@settings(max_examples=400, deadline=2_000)
@given(
    name=st.sampled_from(sorted(SEEDS)),
    cuts=st.lists(st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=12)), max_size=6),
    end=st.integers(0, 500),
)
def test_any_damage_gives_a_format_or_a_typed_refusal(
    tmp_path_factory: pytest.TempPathFactory, name: str, cuts: list[tuple[int, bytes]], end: int
) -> None:
    data = bytearray(SEEDS[name])
    for at, patch in cuts:
        data[at : at + len(patch)] = patch

    judged(tmp_path_factory.getbasetemp() / name, bytes(data[:end]))


@settings(max_examples=200, deadline=2_000)
@given(data=st.binary(max_size=200), at=st.integers(0, 400), patch=st.binary(max_size=20))
def test_any_archive_gives_a_format_or_a_typed_refusal(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, at: int, patch: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "voices.npz"
    whole = bytearray(voices(path, a=np.zeros((2, 2), "f4")))
    whole[at : at + len(patch)] = patch

    judged(path, bytes(whole))
    judged(path, b"PK\x03\x04" + data)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_that_numpy_did_not_pack_is_refused_by_a_typed_error(tmp_path: Path, method: int) -> None:
    path = tmp_path / "voices.npz"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a.npy", b"\x93NUMPY" + bytes(200))
    whole = bytearray(path.read_bytes())
    whole[44:69] = b"\xff" * 25  # its data

    assert judged(path, bytes(whole)) is None


def test_a_directory_that_is_large_by_another_place_than_the_end_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "voices.npz"
    raw = voices(path, a=np.zeros((2, 2), "f4"))
    at, end = raw.rfind(b"PK\x01\x02"), raw.rfind(b"PK\x05\x06")
    entry = bytearray(raw[at:end])
    struct.pack_into("<H", entry, 32, 60_000)  # its comment
    directory = (bytes(entry) + bytes(60_000)) * 90
    size = struct.pack("<4sQHHLLQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, 90, 90, len(directory), at)
    place = struct.pack("<4sLQL", b"PK\x06\x07", 0, at + len(directory), 1)
    path.write_bytes(raw[:at] + directory + size + place + raw[end:])

    with pytest.raises(ContentError, match="larger than hal0 reads"):
        check_arrays(path)


def test_an_archive_whose_array_is_beyond_all_files_is_refused_by_a_typed_error(tmp_path: Path) -> None:
    path = tmp_path / "voices.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY" + bytes(200))
    raw = path.read_bytes()
    at, end = raw.rfind(b"PK\x01\x02"), bytearray(raw[raw.rfind(b"PK\x05\x06") :])
    entry = bytearray(raw[at : -len(end)]) + struct.pack("<HHQ", 1, 8, (1 << 63) + 5)
    struct.pack_into("<H", entry, 30, 12)
    struct.pack_into("<L", entry, 42, 0xFFFFFFFF)
    struct.pack_into("<L", end, 12, len(entry))

    assert judged(path, raw[:at] + entry + end) is None


def test_a_header_that_is_all_hostile_takes_bounded_memory(tmp_path: Path) -> None:
    """The largest header that is read, made of the values that take the most as objects."""
    length = (8 << 20) - 16
    raw = b'{"a":[' + b"[]," * ((length - 10) // 3) + b"[]]}"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    assert judged(tmp_path / "a.safetensors", struct.pack("<Q", len(raw)) + raw) is None

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 350 * 1024  # KiB


@pytest.mark.parametrize("cut", range(6, len(PIECES)))
def test_a_list_of_pieces_that_is_cut_short_says_so(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "tokenizer.bin"
    path.write_bytes(PIECES[:cut])
    if cut in (6, 10, 15, 16):  # between two pieces
        assert accept(path) is Format.PIECES
        return
    with pytest.raises(Hal0Error, match="truncated"):
        accept(path)
