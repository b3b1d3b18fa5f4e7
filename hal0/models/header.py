"""Walk over the header of one GGUF file: its metadata and tensor table, bounded in memory and time.

Whatever a file claims: a length that would leave it ends the walk, a window of 1 MiB of it is held at a time, and of
the values only numbers, a few names and the per-block figures are kept. Vocabularies are stepped over.
"""

import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from hal0.models import ggml

Value = int | float | bool | str | tuple[int, ...]


class GgufError(ValueError):
    """The content is not a GGUF that can be used; the message names the file and what is wrong."""


_WINDOW_BYTES: Final = 1 << 20
# The largest vocabularies known (262 000 tokens with merges and scores) need some 14 MiB of header.
_MAX_HEADER_BYTES: Final = 64 << 20
_MAX_STRINGS: Final = 2_000_000  # tokens and merges stepped over, together: bounds the time of a hostile file
_MAX_KEYS: Final = 4_096  # real files have 20 to 60
_MAX_TENSORS: Final = 65_536  # real ones have some 2 000
_MAX_TEXT_BYTES: Final = 1_024  # of keys, tensor names and the few strings that are kept: real ones have 20 to 100
_MAX_PER_BLOCK: Final = 4_096  # items of a list with one figure per block; no model is that deep
_MAX_DIMS: Final = 4  # ggml's

_SCALARS: Final[Mapping[int, struct.Struct]] = {
    kind: struct.Struct("<" + letter) for kind, letter in enumerate("BbHhIif?")
} | {10: struct.Struct("<Q"), 11: struct.Struct("<q"), 12: struct.Struct("<d")}
_INTEGERS: Final = frozenset({0, 1, 2, 3, 4, 5, 10, 11})
_STRING, _ARRAY = 8, 9

_KEPT_STRINGS: Final = frozenset({"general.architecture", "general.name", "general.license"})
_PER_BLOCK: Final = (".head_count", ".head_count_kv")
TEMPLATE_KEY: Final = "tokenizer.chat_template"


@dataclass(frozen=True, slots=True)
class Header:
    """What one file holds; of an unsplit model that is everything."""

    size_bytes: int
    version: int
    metadata: dict[str, Value]
    tensor_count: int
    parameter_count: int
    truncated: bool


def read_header(path: Path) -> Header:
    """Raises GgufError for the content and OSError for the disk. Blocking."""
    # Checked before opening: a FIFO would block for ever.
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise GgufError(f"cannot read {path}: it is not a regular file")
    with path.open("rb") as file:
        return _Walk(path, file, status.st_size).read()


class _Walk:
    """One walk over one file; every step checks that it stays inside."""

    def __init__(self, path: Path, file: BinaryIO, size: int) -> None:
        self._path = path
        self._file = file
        self._size = size
        self._limit = min(size, _MAX_HEADER_BYTES)
        self._window = b""
        self._window_start = 0
        self._pos = 0
        self._strings = 0

    def read(self) -> Header:
        version, tensors, keys = self._opening()
        metadata: dict[str, Value] = {}
        for _ in range(keys):
            self._pair(metadata)
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 0 < alignment <= 1 << 20:
            raise self._wrong(f"its alignment is {alignment!r}")
        parameters, data_end, known = 0, 0, True
        for _ in range(tensors):
            elements, offset, size = self._tensor()
            parameters += elements
            known = known and size is not None
            data_end = max(data_end, offset + (size or 0))
        data_start = -(-self._pos // alignment) * alignment
        return Header(
            size_bytes=self._size,
            version=version,
            metadata=metadata,
            tensor_count=tensors,
            parameter_count=parameters,
            truncated=data_end > 0 and data_start + data_end > self._size,
        )

    # ---- the pieces of a header ----

    def _opening(self) -> tuple[int, int, int]:
        if self._size == 0:
            raise self._wrong("it is empty")
        magic = self._bytes(min(4, self._size))
        if magic != b"GGUF":
            raise self._wrong(f"it is not a GGUF file: it begins with {magic!r}")
        version = self._unpack(_SCALARS[4])
        if version not in (2, 3):
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
            what = "big-endian" if swapped in (2, 3) else f"of version {version}, and only 2 and 3 are supported"
            raise self._wrong(f"it is {what}")
        tensors, keys = self._unpack(_SCALARS[10]), self._unpack(_SCALARS[10])
        if tensors > _MAX_TENSORS or keys > _MAX_KEYS:
            raise self._wrong(f"it claims {tensors} tensors and {keys} metadata keys")
        return version, tensors, keys

    def _pair(self, metadata: dict[str, Value]) -> None:
        key = self._text("a metadata key")
        kind = self._unpack(_SCALARS[4])
        if (scalar := _SCALARS.get(kind)) is not None:
            metadata[key] = self._unpack(scalar)
        elif kind == _ARRAY:
            self._array(key, metadata)
        elif kind != _STRING:
            raise self._wrong(f"{key!r} has the unknown type {kind}")
        elif key in _KEPT_STRINGS:
            metadata[key] = self._text(key)
        else:
            length = self._length(key)
            self._skip(length, key)
            if key == TEMPLATE_KEY:
                metadata[key] = length > 0

    def _array(self, key: str, metadata: dict[str, Value]) -> None:
        kind, count = self._unpack(_SCALARS[4]), self._unpack(_SCALARS[10])
        if (scalar := _SCALARS.get(kind)) is not None:
            if kind in _INTEGERS and key.endswith(_PER_BLOCK) and count <= _MAX_PER_BLOCK:
                metadata[key] = tuple(self._unpack(scalar) for _ in range(count))
            else:
                self._skip(count * scalar.size, key)
        elif kind == _STRING:
            self._skip_strings(count, key)
        else:  # arrays of arrays exist in the format, in no known model, and no loader takes them
            raise self._wrong(f"{key!r} is an array of the unknown type {kind}")

    def _skip_strings(self, count: int, key: str) -> None:
        self._strings += count
        if self._strings > _MAX_STRINGS or count * 8 > self._limit - self._pos:
            raise self._wrong(f"{key!r} claims {count} strings")
        # By far the longest loop of a header, so it runs on the window itself.
        window, at = self._window, self._pos - self._window_start
        for _ in range(count):
            if at + 8 > len(window):
                self._pos = self._window_start + at
                self._fill(8)
                window, at = self._window, 0
            at += 8 + int.from_bytes(window[at : at + 8], "little")
        self._pos = self._window_start + at
        self._skip(0, key)

    def _tensor(self) -> tuple[int, int, int | None]:
        """(elements, offset of the data, bytes of the data or None when the type is unknown)"""
        name = self._text("a tensor's name")
        dims = self._unpack(_SCALARS[4])
        if dims > _MAX_DIMS:
            raise self._wrong(f"tensor {name!r} has {dims} dimensions")
        elements = 1
        for _ in range(dims):
            elements *= self._unpack(_SCALARS[10])
        kind, offset = self._unpack(_SCALARS[4]), self._unpack(_SCALARS[10])
        return elements, offset, ggml.tensor_bytes(kind, elements)

    # ---- bytes ----

    def _text(self, what: str) -> str:
        length = self._length(what)
        if length > _MAX_TEXT_BYTES:
            raise self._wrong(f"{what} is {length} bytes long")
        return self._bytes(length).decode("utf-8", "replace")

    def _length(self, what: str) -> int:
        length: int = self._unpack(_SCALARS[10])
        if length > self._limit - self._pos:
            raise self._ends_in(what)
        return length

    def _unpack(self, form: struct.Struct) -> int:
        """One number (or bool, or float: the caller knows the form)."""
        value: int = form.unpack(self._bytes(form.size))[0]
        return value

    def _bytes(self, count: int) -> bytes:
        start = self._pos - self._window_start
        if start + count > len(self._window):
            self._fill(count)
            start = 0
        self._pos += count
        return self._window[start : start + count]

    def _fill(self, count: int) -> None:
        if count > self._limit - self._pos:
            raise self._ends_in("its header")
        self._file.seek(self._pos)
        self._window_start = self._pos
        self._window = self._file.read(min(_WINDOW_BYTES, self._limit - self._pos))
        if len(self._window) < count:  # it shrank while we read
            raise self._ends_in("its header")

    def _skip(self, count: int, what: str) -> None:
        if count > self._limit - self._pos:
            raise self._ends_in(what)
        self._pos += count

    def _ends_in(self, what: str) -> GgufError:
        if self._limit < self._size:
            return self._wrong(f"its header is larger than {_MAX_HEADER_BYTES >> 20} MiB, or damaged in {what}")
        return self._wrong(f"it ends within {what}")

    def _wrong(self, why: str) -> GgufError:
        return GgufError(f"cannot read {self._path}: {why}")
