"""Whether a file is a whole ONNX graph, or ONNX Runtime's own form of one, by its outermost frame. Blocking."""

from pathlib import Path
from typing import BinaryIO, Final

from hal0.models.tensors import ContentError

_VARINT, _BYTES = 0, 2  # of protobuf's wire types
_FIXED: Final = {1: 8, 5: 4}  # bytes of the types of fixed size
_IR_VERSION, _GRAPH = 1, 7  # fields of ModelProto
_MAX_IR_VERSION: Final = 64  # today's is in the teens
_MAX_FIELDS: Final = 65_536  # one per opset, function and note
_MAX_VARINT_BYTES: Final = 10
ORT_MARK: Final = b"ORTM"


def check_onnx(path: Path) -> None:
    """Raises ContentError for what is not one ModelProto from its first byte to its last, and OSError."""
    size = path.stat().st_size
    with path.open("rb") as file:
        version, graph, fields = 0, False, 0
        while (at := file.tell()) < size:
            fields += 1
            key = _varint(path, file)
            number, kind = key >> 3, key & 7
            if number == 0 or fields > _MAX_FIELDS:
                raise ContentError(f"cannot read {path}: it is not an ONNX graph")
            if kind == _VARINT:
                value = _varint(path, file)
                version = value if number == _IR_VERSION else version
            else:
                file.seek(_length(path, file, kind), 1)
                graph = graph or (number == _GRAPH and kind == _BYTES)
            if at == 0 and not 0 < version <= _MAX_IR_VERSION:  # every writer puts it first
                raise ContentError(f"cannot read {path}: it is not an ONNX graph")
            if file.tell() > size:
                raise ContentError(f"cannot use {path}: the graph is truncated; pull or copy it again")
    if not graph:
        raise ContentError(f"cannot read {path}: it has no graph")


def check_ort(path: Path) -> None:
    """Raises ContentError for what is not a flatbuffer of ONNX Runtime, and OSError."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
    if len(head) < 8 or head[4:] != ORT_MARK or not 8 <= int.from_bytes(head[:4], "little") <= size - 4:
        raise ContentError(f"cannot read {path}: it is not a graph of ONNX Runtime")


def _length(path: Path, file: BinaryIO, kind: int) -> int:
    if kind == _BYTES:
        return _varint(path, file)
    if kind not in _FIXED:
        raise ContentError(f"cannot read {path}: it is not an ONNX graph")
    return _FIXED[kind]


def _varint(path: Path, file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 7 * _MAX_VARINT_BYTES, 7):
        byte = file.read(1)
        if not byte:
            break
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ContentError(f"cannot read {path}: it is not an ONNX graph, or it is truncated")
