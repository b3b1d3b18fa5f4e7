"""A model as the rest of hal0 sees it: what it is called, which files it is made of, what it can do."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Final

from hal0.config.defaults import ModelDefaults
from hal0.models.gguf import SHARD, GgufInfo, Pooling
from hal0.vocab import MODEL_ID, Capability, ModelId

# Encoders: whatever they are asked, a vector comes out. (A chat model can be made to embed, too; that is not
# advertised, because it takes an engine started for nothing else.)
_ENCODERS: Final = re.compile(r".*bert(-.*)?|t5encoder|.*-?embed(ding)?\Z")
# Models that draw come as GGUF, too.
PICTURES: Final = frozenset(
    {"aura", "cosmos", "flux", "hidream", "hyvid", "ltxv", "lumina2", "qwen_image", "sd1", "sd3", "sdxl", "wan"}
)
_TALKS: Final = frozenset({Capability.CHAT, Capability.COMPLETION})
_OF_TEXT: Final = _TALKS | {Capability.EMBED, Capability.RERANK}
_MAX_ID: Final = 128  # the pattern's
_NAMELESS: Final = frozenset({"model"})  # file names that leave it to the directory to say what is in them
_CACHE_ITEM_BYTES: Final = 2  # the engine's default cache type is f16


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """What was found out of a model that is no GGUF: a kit in a folder, or one file of tensors."""

    files: tuple[Path, ...]
    size_bytes: int
    directory: Path | None
    format: str
    architecture: str
    capabilities: frozenset[Capability]


@dataclass(frozen=True, slots=True)
class KvShape:
    """What the key-value cache has of one token: `heads` in each block, each with a key and a value so long."""

    heads: tuple[int, ...]
    key_length: int
    value_length: int

    @property
    def bytes_per_token(self) -> int:
        """Over all blocks, at f16."""
        return sum(self.heads) * (self.key_length + self.value_length) * _CACHE_ITEM_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """One model that is on disk, whole. `files[0]` is what an engine is given; the others are found beside it. Of an
    image model in several files they are in the order of `split.Role`, wherever they lie.

    `directory` is the folder that an engine is given instead, where the model is one: all `files` are in it or below.
    """

    id: ModelId
    files: tuple[Path, ...]
    size_bytes: int  # of `files`
    created: int  # when the first file was last changed, seconds since the epoch
    directory: Path | None = None
    format: str = "gguf"
    architecture: str
    context_length: int | None  # tokens
    capabilities: frozenset[Capability]
    quantisation: str | None
    kv: KvShape | None = None
    mmproj: Path | None = None
    mmproj_bytes: int = 0
    license: str | None = None
    chat_template: bool | None = None  # whether its file brings one; None: its format has none
    demo: bool = False
    source: Mapping[str, str] | None = None  # where it was pulled from
    sha256: str | None = None  # of the first file, as it came
    defaults: ModelDefaults | None = None  # as an operator gave them
    riders: Mapping[Capability, ModelId] = field(
        default_factory=dict
    )  # whose files are among `files`: what answers for a capability

    @property
    def cache_bytes_per_token(self) -> int | None:
        return None if self.kv is None else self.kv.bytes_per_token

    def with_mmproj(self, path: Path, size_bytes: int) -> "ModelEntry":
        capabilities = self.capabilities | {Capability.VISION}
        return replace(self, mmproj=path, mmproj_bytes=size_bytes, capabilities=capabilities)


def entry_of(info: GgufInfo, model: ModelId, *, created: int) -> ModelEntry:
    """The entry of a whole model; projectors (`info.is_mmproj`) are none."""
    return ModelEntry(
        id=model,
        files=info.parts,
        size_bytes=info.size_bytes,
        created=created,
        architecture=info.architecture,
        context_length=info.context_length,
        capabilities=capabilities_of(info),
        quantisation=info.quantisation,
        kv=_kv(info),
        license=info.license,
        chat_template=info.has_chat_template,
        demo=info.demo,
    )


def plain_entry(plain: Plain, model: ModelId, *, created: int) -> ModelEntry:
    """The entry of a model that is no GGUF."""
    return ModelEntry(
        id=model,
        files=plain.files,
        size_bytes=plain.size_bytes,
        created=created,
        directory=plain.directory,
        format=plain.format,
        architecture=plain.architecture,
        context_length=None,
        capabilities=plain.capabilities,
        quantisation=None,
    )


def capabilities_of(info: GgufInfo) -> frozenset[Capability]:
    """What the metadata promises: a picture, a pooled vector, a score, or text."""
    if info.is_mmproj:
        return frozenset()
    if info.architecture in PICTURES:
        return frozenset({Capability.IMAGE})
    if info.pooling is Pooling.RANK:
        return frozenset({Capability.RERANK})
    if info.pooling in (Pooling.MEAN, Pooling.CLS, Pooling.LAST) or _ENCODERS.fullmatch(info.architecture):
        return frozenset({Capability.EMBED})
    return _TALKS


def able_to(entry: ModelEntry, task: Capability) -> frozenset[Capability] | None:
    """What a model can when it is for `task`; None: its content says that it cannot be.

    What a GGUF of text answers with is a matter of how its engine is started, and not every file says it.
    """
    if task in entry.capabilities:
        return entry.capabilities
    if entry.format != "gguf" or task not in _OF_TEXT or not entry.capabilities <= _OF_TEXT:
        return None
    return _TALKS if task in _TALKS else frozenset({task})


def id_of(path: PurePath) -> ModelId | None:
    """The id that a file's name stands for; None when nothing of the name is legal in an id."""
    shard = SHARD.fullmatch(path.name)
    stem = shard["stem"] if shard else path.stem
    return legal_id(path.parent.name if stem.lower() in _NAMELESS else stem)


def legal_id(name: str) -> ModelId | None:
    """`name` in lower case with every run of illegal characters as one dash; None when nothing is left."""
    text = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).lstrip("._-")[:_MAX_ID].rstrip("-")
    return ModelId(text) if MODEL_ID.match(text) else None


def _kv(info: GgufInfo) -> KvShape | None:
    if not info.kv_heads or info.key_length is None or info.value_length is None:
        return None
    return KvShape(info.kv_heads, info.key_length, info.value_length)
