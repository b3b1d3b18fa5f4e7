"""Read the header of a safetensors file (q4nx is one, too) without trusting it and without loading it.

    read_tensors(path) -> TensorFile      ContentError names what is wrong with the content; OSError is the disk's

A file is eight bytes of length, so many bytes of JSON, then the tensors without a gap. Blocking.
"""

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final

from hal0.lib import jsonio

# Bits per element, of every type that the format knows.
_BITS: Final = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
# Real headers have 100 KB to 2 MB. As Python objects a hostile one takes some twenty times its bytes.
_MAX_HEADER_BYTES: Final = 8 << 20
_MAX_RANK: Final = 16


class ContentError(ValueError):
    """The content is not what its format asks for; the message begins "cannot" and names the file."""


@dataclass(frozen=True, slots=True)
class TensorFile:
    """`shapes` by tensor name; `metadata` are the file's own words. Sizes in bytes."""

    size_bytes: int
    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str]
    parameter_count: int


def read_tensors(path: Path) -> TensorFile:
    """What the file holds; its tensors fill it to the last byte."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # before opening: a FIFO would block for ever
        raise ContentError(f"cannot read {path}: it is not a regular file")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= status.st_size - 8:
            raise ContentError(f"cannot read {path}: its header of {length} bytes does not fit into the file")
        if length > _MAX_HEADER_BYTES:
            raise ContentError(f"cannot read {path}: its header is larger than {_MAX_HEADER_BYTES >> 20} MiB")
        raw = file.read(length)
    try:
        header = jsonio.loads(raw)
    except ValueError as e:
        raise ContentError(f"cannot read {path}: its header is not JSON") from e
    if not isinstance(header, dict):
        raise ContentError(f"cannot read {path}: its header is not a table")
    return _checked(path, header, data_bytes=status.st_size - 8 - length, size_bytes=status.st_size)


def _checked(path: Path, header: dict[str, Any], *, data_bytes: int, size_bytes: int) -> TensorFile:
    said = header.pop("__metadata__", {})
    shapes: dict[str, tuple[int, ...]] = {}
    parameters = 0
    spans = []
    for name, tensor in header.items():
        shape, begin, end = _tensor(path, name, tensor)
        shapes[name] = shape
        parameters += prod(shape)
        spans.append((begin, end))
    at = 0
    for begin, end in sorted(spans):
        if begin != at:
            raise ContentError(f"cannot read {path}: its tensors overlap, or leave a gap at {at}")
        at = end
    if at > data_bytes:
        raise ContentError(
            f"cannot use {path}: the file is truncated, its tensors end beyond it; pull or copy it again"
        )
    if at < data_bytes:
        raise ContentError(f"cannot read {path}: {data_bytes - at} bytes after its tensors belong to none")
    words = {k: v for k, v in said.items() if isinstance(v, str)} if isinstance(said, dict) else {}
    return TensorFile(size_bytes, shapes, words, parameters)


def _tensor(path: Path, name: str, tensor: object) -> tuple[tuple[int, ...], int, int]:
    """(shape, first byte, byte after the last)"""
    match tensor:
        case {"dtype": str(kind), "shape": list(shape), "data_offsets": [int(begin), int(end)]}:
            pass
        case _:
            raise ContentError(f"cannot read {path}: tensor {name[:100]!r} is not described")
    whole = len(shape) <= _MAX_RANK and all(isinstance(n, int) and 0 <= n < 1 << 48 for n in shape)
    if not whole or (bits := _BITS.get(kind)) is None or prod(shape) * bits != (end - begin) * 8:
        raise ContentError(f"cannot read {path}: tensor {name[:100]!r} is not of the size that it claims")
    return tuple(shape), begin, end
