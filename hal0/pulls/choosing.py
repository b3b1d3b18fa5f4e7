"""Which files of a repository are the model that was meant. Pure."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from hal0.errors import Hal0Error
from hal0.models.entry import legal_id
from hal0.models.gguf import SHARD
from hal0.models.kits import IGNORED, recognise
from hal0.pulls.sources import is_plain
from hal0.vocab import ModelId


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """`sha256` where the repository publishes it."""

    path: str
    size_bytes: int | None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """`folder` is cut off the files' paths when they are put into the model's own."""

    model: ModelId
    files: tuple[RemoteFile, ...]
    folder: str = ""


@dataclass(frozen=True, slots=True)
class Variant:
    """One model of a repository; `quantisation` as its name says, empty where it does not."""

    model: ModelId
    quantisation: str
    files: tuple[RemoteFile, ...]

    @property
    def size_bytes(self) -> int | None:
        sizes = [file.size_bytes for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)


_QUANTISATION: Final = re.compile(r"(?:^|[-._])((?:ud-)?(?:i?q\d\w*|tq\d\w*|mxfp4\w*|bf16|f16|f32))\Z")
# The usual trade of size against quality, best first.
_QUANTISATIONS: Final = (
    "q4_k_m",
    "q4_k_xl",
    "q5_k_m",
    "q4_0",
    "iq4_xs",
    "mxfp4",
    "q8_0",
    "q6_k",
    "q4_k_s",
    "f16",
    "bf16",
    "",
)
_PROJECTORS: Final = ("f16", "bf16", "q8_0", "f32", "")
_DULL: Final = frozenset({"onnx", "merged", "gguf"})
_KIT_FILES: Final = frozenset({".onnx", ".ort", ".q4nx", ".bin", ".npz", ".json", ".txt", ".safetensors"})


def choose(repo: str, files: Sequence[RemoteFile], path: str | None, quantisation: str | None) -> Choice:
    """Raises model.not_found, with what there is instead; model.unsafe_format when there are only pickles."""
    sound = [file for file in files if is_plain(file.path)]
    below = [file for file in sound if path is None or file.path == path or file.path.startswith(f"{path}/")]
    title = repo.rpartition("/")[2]
    for pick in (_weights, _kit, _tensors):
        if (choice := pick(title, below, quantisation)) is not None:
            return choice if path is None or choice.folder else _beside(choice, sound, path)
    pickles = [file.path for file in below if re.search(r"\.(ckpt|pt|pth|bin|pkl)\Z", file.path)]
    if pickles and quantisation is None:
        raise Hal0Error(
            "model.unsafe_format",
            f"cannot pull {repo}: it has {pickles[0]}, a pickle, and no file that is only numbers",
            details={"repo": repo, "files": pickles[:20]},
        )
    there = sorted(file.path for file in sound if file.path.endswith((".gguf", ".onnx", ".ort", ".safetensors")))
    what = f"{repo}:{quantisation}" if quantisation else f"{repo}/{path}" if path else repo
    raise Hal0Error(
        "model.not_found",
        f"cannot pull {what}: no such model in it" + (f"; there are: {', '.join(there[:12])}" if there else ""),
        details={"repo": repo, "files": there[:100]},
    )


def variants(repo: str, files: Iterable[RemoteFile]) -> list[Variant]:
    """Every quantisation that a repository has of its models, the smallest first."""
    title = repo.rpartition("/")[2]
    models, projectors = _by_stem(file for file in files if is_plain(file.path))
    found = [
        Variant(
            model, match[1].upper() if (match := _QUANTISATION.search(stem)) else "", tuple(_whole(parts, projectors))
        )
        for stem, parts in models.items()
        if (model := legal_id(stem if stem != "model" else title)) is not None
    ]
    return sorted(found, key=lambda it: (it.size_bytes or 0, it.model))


def _beside(choice: Choice, sound: Iterable[RemoteFile], path: str) -> Choice:
    """A file that was named by itself, and the other parts when it is one of several."""
    if (match := SHARD.fullmatch(PurePosixPath(path).name)) is None:
        return choice
    parts = [file for file in sound if _stem(file.path) == match["stem"].lower()]
    return Choice(choice.model, tuple(sorted(parts, key=lambda file: file.path)))


def _weights(title: str, files: Sequence[RemoteFile], quantisation: str | None) -> Choice | None:
    """One GGUF model: all parts of it, and the projector that belongs to it."""
    models, projectors = _by_stem(files)
    wanted = (quantisation.lower(),) if quantisation else _QUANTISATIONS
    for word in wanted:
        fitting = [stem for stem in sorted(models, key=len) if _says(stem, word)]
        if (fitting or not word) and models:
            stem = (fitting or sorted(models))[0]
            return _named(stem if stem != "model" else title, _whole(models[stem], projectors))
    if projectors and not models and len(files) == 1:  # it was named by itself
        return _named(_stem(projectors[0].path), projectors)
    return None


def _by_stem(files: Iterable[RemoteFile]) -> tuple[dict[str, list[RemoteFile]], list[RemoteFile]]:
    """(the parts of each model, the projectors), of those that are GGUF."""
    models: dict[str, list[RemoteFile]] = defaultdict(list)
    projectors = []
    for file in files:
        if file.path.lower().endswith(".gguf"):
            if "mmproj" in file.path.lower():
                projectors.append(file)
            else:
                models[_stem(file.path)].append(file)
    return models, projectors


def _whole(parts: Iterable[RemoteFile], projectors: Iterable[RemoteFile]) -> list[RemoteFile]:
    """With the projector that is taken of several."""
    eye = min(projectors, key=lambda file: (_rank(file.path, _PROJECTORS), file.path), default=None)
    return [*sorted(parts, key=lambda file: file.path), *([eye] if eye is not None else [])]


def _kit(title: str, files: Sequence[RemoteFile], _quantisation: str | None) -> Choice | None:
    """The one folder that is a model of several files."""
    folders: dict[str, list[RemoteFile]] = defaultdict(list)
    for file in files:
        folders[str(PurePosixPath(file.path).parent)].append(file)
    kits = [folder for folder in sorted(folders) if recognise(PurePosixPath(f.path).name for f in folders[folder])]
    if not kits:
        return None
    if len(kits) > 1 and all(len(folders[kit]) < len(files) for kit in kits):
        raise Hal0Error(
            "model.not_found",
            f"cannot choose a model of {title}: it has several; name one of the folders {', '.join(kits[:12])}",
            details={"folders": kits[:100]},
        )
    folder = kits[0]
    own = [f for f in folders[folder] if PurePosixPath(f.path).suffix.lower() in _KIT_FILES]
    own = [f for f in own if PurePosixPath(f.path).name.lower() not in IGNORED]
    parts = [part for part in PurePosixPath(folder).parts if part not in _DULL]
    return Choice(_id("-".join((title, *parts))), tuple(sorted(own, key=lambda f: f.path)), folder)


def _tensors(title: str, files: Sequence[RemoteFile], _quantisation: str | None) -> Choice | None:
    """The one file of tensors: whether it is a whole image model is seen when it is here."""
    tensors = [file for file in files if file.path.endswith(".safetensors") and "/" not in file.path]
    named = [file for file in files if file.path.endswith(".safetensors")]
    only = tensors if len(tensors) == 1 else named
    return _named(_stem(only[0].path), only) if len(only) == 1 else None


def _named(name: str, files: Sequence[RemoteFile]) -> Choice:
    return Choice(_id(name), tuple(files))


def _id(name: str) -> ModelId:
    if (model := legal_id(name)) is None:
        raise Hal0Error("request.invalid", f"cannot make a model id of {name[:200]!r}; give one with `id`", param="id")
    return model


def _stem(path: str) -> str:
    name = PurePosixPath(path).name
    shard = SHARD.fullmatch(name)
    return (shard["stem"] if shard else PurePosixPath(name).stem).lower()


def _says(name: str, word: str) -> bool:
    """A whole word of the name: BF16 does not say F16. No word is in every name."""
    return re.search(rf"(?:^|[-._]){re.escape(word)}(?:[-._]|$)", name.lower()) is not None if word else True


def _rank(path: str, words: Sequence[str]) -> int:
    return next(place for place, word in enumerate(words) if _says(PurePosixPath(path).name, word))
