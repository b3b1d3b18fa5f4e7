"""Whether a zip archive is nothing but numpy arrays of plain numbers: voices, as speech models bring them. Blocking.

An array of objects is a pickle inside; so are archives of torch. Neither passes.
"""

import errno
import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from hal0.models.tensors import ContentError

if TYPE_CHECKING:
    from zipfile import ZipFile, ZipInfo

_MAX_DIRECTORY_BYTES: Final = 4 << 20
_MAX_HEADER_BYTES: Final = 4_096
_END: Final = b"PK\x05\x06"
_END_BYTES: Final = 22
_LARGE: Final = b"PK\x06\x07"  # before the end: another place says how large the directory is
_LARGE_BYTES: Final = 20
_MAX_COMMENT_BYTES: Final = 65_535
_STORED, _DEFLATED = 0, 8  # what numpy writes; other methods fail in other ways, some of them in hours
_ENCRYPTED: Final = 0x1  # a flag of a member
_DTYPE: Final = re.compile(rb"'descr':\s*'[<>|=]?[biufcSU]\d{0,9}'")


class Pickled(Exception):
    """The archive holds what runs code when it is loaded; the text says what."""


def check_arrays(path: Path) -> tuple[str, ...]:
    """The names of the arrays. Raises ContentError, Pickled, or OSError."""
    import zipfile  # for the few models that have voices

    with path.open("rb") as file:
        _bound_directory(path, file)
        try:
            with zipfile.ZipFile(file) as archive:
                return tuple(_array(path, archive, member) for member in archive.infolist())
        except ContentError:
            raise
        except OSError as e:
            if e.errno != errno.EINVAL:
                raise
            raise ContentError(f"cannot read {path}: its archive leads out of the file") from e
        # The last two: a version or flag that zipfile does not know; a name that is no UTF-8, an offset of 2^63.
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as e:
            raise ContentError(f"cannot read {path}: its archive is damaged") from e


def _bound_directory(path: Path, file: BinaryIO) -> None:
    """The archive's directory is read as a whole: its size is looked at first."""
    size = file.seek(0, 2)
    file.seek(max(size - _LARGE_BYTES - _END_BYTES - _MAX_COMMENT_BYTES, 0))
    tail = file.read()
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < _END_BYTES:
        raise ContentError(f"cannot read {path}: the archive has no end; it is truncated")
    large = tail[max(at - _LARGE_BYTES, 0) : at].startswith(_LARGE)
    if large or int.from_bytes(tail[at + 12 : at + 16], "little") > _MAX_DIRECTORY_BYTES:
        raise ContentError(f"cannot read {path}: the archive's directory is larger than hal0 reads")
    file.seek(0)


def _array(path: Path, archive: "ZipFile", member: "ZipInfo") -> str:
    """The name of one array, after a look at what it is made of."""
    name = member.filename[:100]
    if not member.filename.endswith(".npy"):
        raise Pickled(f"it is an archive with {name!r} in it, not one of arrays")
    if member.compress_type not in (_STORED, _DEFLATED) or member.flag_bits & _ENCRYPTED:
        raise ContentError(f"cannot read {path}: {name!r} in it is packed as numpy never does")
    with archive.open(member) as content:
        head = content.read(_MAX_HEADER_BYTES)
    if not head.startswith(b"\x93NUMPY"):
        raise ContentError(f"cannot read {path}: {name!r} in it is no array")
    if not _DTYPE.search(head):
        raise Pickled(f"{name!r} in it is an array of objects")
    return member.filename.removesuffix(".npy")
