"""The GGUF reader: what it makes of whole, split, spoilt and hostile files."""

import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from gguf import GGML_QUANT_SIZES, GGUFWriter, LlamaFileType
from hypothesis import given, settings
from hypothesis import strategies as st

from hal0.models import demo, ggml, gguf
from hal0.models.gguf import GgufError, GgufInfo, Pooling
from tests.tiny import gguf_models

STRING, ARRAY, U32, U64 = 8, 9, 4, 10


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def pair(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def header(*pairs: bytes, tensors: tuple[bytes, ...] = (), version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(pairs)) + b"".join((*pairs, *tensors))


LLAMA = pair("general.architecture", STRING, text("llama"))


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    return path


def test_chat_model(tmp_path: Path) -> None:
    info = gguf.read(gguf_models.write_chat(tmp_path / "m.gguf", dim=128, layers=3, ctx=2048))

    assert (info.architecture, info.name, info.version) == ("llama", "tiny-chat", 3)
    assert (info.context_length, info.embedding_length, info.block_count) == (2048, 128, 3)
    assert (info.head_count, info.kv_heads, info.key_length, info.value_length) == (8, (4, 4, 4), 16, 16)
    assert info.quantisation == "F16"
    assert info.has_chat_template
    assert info.pooling is None
    assert (info.truncated, info.missing, info.demo, info.is_mmproj) == (False, (), False, False)
    assert info.tensor_count == 3 + 3 * 9
    assert info.size_bytes == (tmp_path / "m.gguf").stat().st_size


@pytest.mark.parametrize(
    ("write", "pooling"), [(gguf_models.write_embed, Pooling.MEAN), (gguf_models.write_rerank, Pooling.RANK)]
)
def test_encoders_tell_their_pooling(tmp_path: Path, write: Callable[[Path], Path], pooling: Pooling) -> None:
    info = gguf.read(write(tmp_path / "m.gguf"))

    assert info.pooling is pooling
    assert info.kv_heads == (4, 4)  # as many as query heads, where nothing else is said
    assert not info.has_chat_template


def test_projector(tmp_path: Path) -> None:
    info = gguf.read(gguf_models.write_mmproj(tmp_path / "m.gguf", dim=96))

    assert info.is_mmproj
    assert (info.vision, info.audio, info.projection_length) == (True, False, 96)


def test_figures_given_per_block(tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "m.gguf", "hybrid")
    writer.add_block_count(4)
    writer.add_embedding_length(64)
    writer.add_head_count([4, 4, 8, 4])
    writer.add_head_count_kv([2, 0, 2, 0])
    writer.add_key_length(32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()

    info = gguf.read(tmp_path / "m.gguf")

    assert (info.head_count, info.kv_heads) == (8, (2, 0, 2, 0))
    assert (info.key_length, info.value_length) == (32, 8)


def test_ggml_tables_agree_with_the_format_s_own_package() -> None:
    assert dict(ggml.BLOCKS) == {int(kind): size for kind, size in GGML_QUANT_SIZES.items()}
    names = {int(t): t.name.removeprefix("MOSTLY_").removeprefix("ALL_") for t in LlamaFileType}
    del names[int(LlamaFileType.GUESSED)]  # a flag, no format
    assert dict(ggml.FILE_TYPES) == names


@pytest.mark.parametrize("dtype", ["f32", "f16", "q8_0"])
def test_truncation_is_seen_to_the_byte(tmp_path: Path, dtype: gguf_models.DType) -> None:
    path = gguf_models.write_chat(tmp_path / "m.gguf", dtype=dtype)
    whole = path.read_bytes()

    assert not gguf.read(path).truncated
    # The writer pads the last tensor to the alignment; one byte less than its data is too little.
    path.write_bytes(whole[:-33])
    assert gguf.read(path).truncated


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it is empty"),
        (b"GG", "begins with b'GG'"),
        (b"<!DOCTYPE html>", "not a GGUF file: it begins with b'<!DO'"),
        (header(LLAMA, version=99), "of version 99"),
        (header(LLAMA, version=1), "of version 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (b"GGUF" + struct.pack("<I", 3), "ends within its header"),
        (header(LLAMA)[:-2], "ends within general.architecture"),
        (header(), "does not name its architecture"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**63, 1), "claims 9223372036854775808 tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**40), "metadata keys"),
        (header(LLAMA, text("k") + struct.pack("<I", 13)), "unknown type 13"),
        (header(LLAMA, pair("k", ARRAY, struct.pack("<IQ", ARRAY, 1))), "array of the unknown type 9"),
        (header(LLAMA, pair("k", ARRAY, struct.pack("<IQ", STRING, 2**60))), "claims 1152921504606846976 strings"),
        (header(LLAMA, pair("k", ARRAY, struct.pack("<IQ", U64, 2**62))), "ends within k"),
        (header(LLAMA, pair("k", STRING, struct.pack("<Q", 2**64 - 1))), "ends within k"),
        (header(text("x" * 2000)), "a metadata key is 2000 bytes long"),
        (header(LLAMA, pair("general.alignment", U32, struct.pack("<I", 0))), "its alignment is 0"),
        (header(LLAMA, tensors=(text("t") + struct.pack("<I", 9),)), "tensor 't' has 9 dimensions"),
    ],
)
def test_what_is_wrong_is_named_with_the_file(tmp_path: Path, data: bytes, words: str) -> None:
    path = written(tmp_path, data)

    with pytest.raises(GgufError) as caught:
        gguf.read(path)

    assert str(caught.value).startswith(f"cannot read {path}: ")
    assert words in str(caught.value)


def test_a_fifo_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.gguf")

    with pytest.raises(GgufError, match="not a regular file"):
        gguf.read(tmp_path / "m.gguf")


def test_a_missing_file_is_the_disk_s_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        gguf.read(tmp_path / "m.gguf")


def test_metadata_behind_a_vocabulary_larger_than_the_window_is_found(tmp_path: Path) -> None:
    tokens = b"".join(text(f"token-{n:06}") for n in range(120_000))
    tail = pair("llama.context_length", U32, struct.pack("<I", 77))
    path = written(
        tmp_path,
        header(LLAMA, pair("tokenizer.ggml.tokens", ARRAY, struct.pack("<IQ", STRING, 120_000) + tokens), tail),
    )

    tracemalloc.start()
    info = gguf.read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert info.context_length == 77
    assert path.stat().st_size > 2_000_000
    assert peak < 2_500_000  # two windows at the moment of a refill, not the vocabulary


def split(tmp_path: Path, count: int) -> list[Path]:
    """A model in parts as they come: everything in the first, the others bare."""
    parts = [tmp_path / f"big-{n:05}-of-{count:05}.gguf" for n in range(1, count + 1)]
    gguf_models.write_chat(parts[0])
    for n, part in enumerate(parts[1:], 2):
        part.write_bytes(header(pair("split.no", U32, struct.pack("<I", n - 1))))
    return parts


def test_parts_are_one_model(tmp_path: Path) -> None:
    parts = split(tmp_path, 3)

    info = gguf.read(parts[1])  # any part leads to the first

    assert info.path == parts[0]
    assert info.parts == tuple(parts)
    assert info.missing == ()
    assert info.architecture == "llama"
    assert info.size_bytes == sum(part.stat().st_size for part in parts)


def test_missing_parts_are_named(tmp_path: Path) -> None:
    parts = split(tmp_path, 3)
    parts[2].unlink()

    assert gguf.read(parts[0]).missing == (parts[2],)


@pytest.mark.parametrize("name", ["m-00000-of-00003.gguf", "m-00004-of-00003.gguf", "m-00001-of-99999.gguf", "m.gguf"])
def test_what_only_looks_like_a_part_stands_alone(name: str) -> None:
    assert gguf.shards(Path(name)) == (Path(name),)


WHOLE = demo.build()
HEAD = 12_000  # the demo's header; beyond it there are only weights


def read_or_refuse(path: Path) -> GgufInfo | None:
    """Anything but a GgufError goes through and fails the test."""
    try:
        return gguf.read(path)
    except GgufError:
        return None


@settings(max_examples=400, deadline=2_000)
@given(
    cuts=st.lists(st.tuples(st.integers(0, HEAD), st.binary(min_size=1, max_size=12)), min_size=1, max_size=8),
    end=st.integers(0, len(WHOLE)),
)
def test_any_damage_gives_a_value_or_a_gguf_error(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[tuple[int, bytes]], end: int
) -> None:
    data = bytearray(WHOLE)
    for at, patch in cuts:
        data[at : at + len(patch)] = patch
    path = tmp_path_factory.getbasetemp() / "fuzzed.gguf"
    path.write_bytes(data[:end])

    info = read_or_refuse(path)

    assert info is None or info.size_bytes == min(end, len(data))


numbers = st.one_of(st.integers(0, 64), st.integers(0, 2**64 - 1))


@settings(max_examples=300, deadline=2_000)
@given(
    keys=st.lists(
        st.tuples(
            st.sampled_from(
                ["general.architecture", "llama.block_count", "llama.attention.head_count", "llama.pooling_type",
                 "general.file_type", "general.alignment", "llama.attention.head_count_kv", "tokenizer.chat_template"]
            ),
            st.integers(0, 14),
            numbers,
            st.binary(max_size=40),
        ),
        max_size=12,
    ),
    tensors=st.lists(st.tuples(st.lists(numbers, max_size=5), st.integers(0, 50), numbers), max_size=4),
)  # fmt: skip
def test_well_formed_lies_give_a_value_or_a_gguf_error(
    tmp_path_factory: pytest.TempPathFactory,
    keys: list[tuple[str, int, int, bytes]],
    tensors: list[tuple[list[int], int, int]],
) -> None:
    pairs = [pair(key, kind, struct.pack("<Q", number) + tail) for key, kind, number, tail in keys]
    table = [
        text("t") + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset) for dims, kind, offset in tensors
    ]
    path = tmp_path_factory.getbasetemp() / "lies.gguf"
    path.write_bytes(header(LLAMA, *pairs, tensors=tuple(table)))

    info = read_or_refuse(path)

    assert info is None or len(info.kv_heads) <= 4096
