"""What one sighting is: a model, nothing of hal0's, or a problem in words. Blocking."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hal0.errors import Hal0Error
from hal0.models import gguf
from hal0.models.content import Format, accept
from hal0.models.entry import Plain
from hal0.models.gguf import GgufError, GgufInfo
from hal0.models.kits import IGNORED, checkpoint
from hal0.models.places import Kind, Sighting
from hal0.models.split import Piece, family_of, role_of
from hal0.models.tensors import ContentError, read_tensors
from hal0.vocab import Capability, ModelId


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that looks like a model and cannot be used; `message` begins "cannot"."""

    id: ModelId | None
    path: Path
    code: str  # of hal0.errors.TABLE
    message: str


Outcome = GgufInfo | Plain | Piece | Problem | None


def parts(sighting: Sighting) -> tuple[Path, ...]:
    """The files that decide what comes out of `examine`, the first one first."""
    match sighting.kind:
        case Kind.GGUF:
            return gguf.shards(sighting.path)
        case Kind.KIT:
            assert sighting.kit is not None
            first = sighting.path / sighting.kit.first
            return (first, *(path for path in _files_below(sighting.path) if path != first))
        case _:
            return (sighting.path,)


def examine(sighting: Sighting, *, allow_pickle: bool) -> Outcome:
    """None: it is a part of something that no engine of hal0 loads by itself."""
    try:
        match sighting.kind:
            case Kind.GGUF:
                return _gguf(sighting.path)
            case Kind.KIT:
                return _kit(sighting, allow_pickle=allow_pickle)
            case Kind.TENSORS:
                return _tensors(sighting.path)
            case Kind.PICKLE:
                accept(sighting.path, allow_pickle=allow_pickle)
                return _image(sighting.path, Format.PICKLE, "checkpoint")
    except (GgufError, ContentError) as e:
        return Problem(None, sighting.path, "model.checksum", str(e))
    except Hal0Error as e:
        return Problem(None, sighting.path, e.code, e.message)
    except OSError as e:
        return Problem(None, sighting.path, "model.not_downloaded", f"cannot read {sighting.path}: {e.strerror}")


def _gguf(path: Path) -> GgufInfo | Problem:
    info = gguf.read(path)
    if info.missing:
        names = ", ".join(part.name for part in info.missing)
        return Problem(None, path, "model.not_downloaded", f"cannot use {path}: parts are missing: {names}")
    if info.truncated:
        message = f"cannot use {path}: the file is truncated, its tensors end beyond it; pull or copy it again"
        return Problem(None, path, "model.checksum", message)
    return info


def _kit(sighting: Sighting, *, allow_pickle: bool) -> Plain:
    """The folder is handed to the engine whole, so every file in it has to be safe."""
    assert sighting.kit is not None
    files = parts(sighting)
    for path in files:
        accept(path, allow_pickle=allow_pickle)
    return Plain(
        files=files,
        size_bytes=sum(path.stat().st_size for path in files),
        directory=sighting.path,
        format=sighting.kit.format,
        architecture=sighting.kit.architecture,
        capabilities=sighting.kit.capabilities,
    )


def _tensors(path: Path) -> Plain | Piece | None:
    read = read_tensors(path)
    if (family := checkpoint(read.shapes)) is not None:
        return _image(path, Format.SAFETENSORS, family)
    piece = role_of(read.shapes)
    return None if piece is None else Piece(path, read.size_bytes, *piece, family_of(read.shapes))


def _image(path: Path, form: Format, family: str) -> Plain:
    return drawing((path,), path.stat().st_size, form, family)


def drawing(files: tuple[Path, ...], size_bytes: int, form: Format, family: str) -> Plain:
    """An image model of these files, the one that draws first."""
    return Plain(
        files=files,
        size_bytes=size_bytes,
        directory=None,
        format=form,
        architecture=family,
        capabilities=frozenset({Capability.IMAGE}),
    )


def _files_below(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and not path.is_dir() and path.name.lower() not in IGNORED:
            yield path
