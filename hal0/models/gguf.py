"""Read what a GGUF file says about itself, without trusting it and without loading it.

    read(path) -> GgufInfo      GgufError (a ValueError) names what is wrong with the content; OSError is the disk's

Models split into `-00001-of-00003.gguf` parts are read as one. Blocking; call it in a thread.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final

from hal0.models import ggml
from hal0.models.demo import DEMO_KEY
from hal0.models.header import TEMPLATE_KEY, GgufError, Value, read_header

__all__ = ["GgufError", "GgufInfo", "Pooling", "read", "shards"]


class Pooling(IntEnum):
    """How a model turns its tokens into one vector (`<arch>.pooling_type`)."""

    NONE = 0
    MEAN = 1
    CLS = 2
    LAST = 3
    RANK = 4


@dataclass(frozen=True, slots=True)
class GgufInfo:
    """What the metadata says; None where it says nothing. Sizes in bytes, lengths in tokens or elements."""

    path: Path  # of the first part
    parts: tuple[Path, ...]  # all of them, in order; one for an unsplit model
    missing: tuple[Path, ...]  # parts that are not there
    size_bytes: int  # of the parts that are there
    truncated: bool  # a tensor's data ends beyond its file
    version: int
    architecture: str
    name: str | None
    license: str | None
    quantisation: str | None  # Q4_K_M, F16, ...
    context_length: int | None
    embedding_length: int | None
    block_count: int | None
    head_count: int | None  # the largest of all blocks
    kv_heads: tuple[int, ...]  # per block; empty when unknown
    key_length: int | None  # of one head
    value_length: int | None
    pooling: Pooling | None
    has_chat_template: bool
    vision: bool  # a clip file with an image encoder
    audio: bool
    projection_length: int | None  # of a clip file: the embedding length of the model that it belongs to
    demo: bool
    tensor_count: int
    parameter_count: int

    @property
    def is_mmproj(self) -> bool:
        """A projector that belongs beside a chat model, no model by itself."""
        return self.architecture == "clip"


SHARD: Final = re.compile(r"(?P<stem>.+)-(?P<no>\d{5})-of-(?P<count>\d{5})\.gguf\Z", re.IGNORECASE)

_MAX_PARTS: Final = 1_024
_MAX_BLOCKS: Final = 4_096  # no model is deeper; bounds what a scalar head count is repeated to


def read(path: Path) -> GgufInfo:
    """What the model says of itself whose first, only or any other part is `path`."""
    parts = shards(path)
    headers = [read_header(part) for part in parts if part == parts[0] or part.is_file()]
    meta = headers[0].metadata
    architecture = _text(meta, "general.architecture")
    if architecture is None:
        raise GgufError(f"cannot read {parts[0]}: it does not name its architecture")
    file_type = _number(meta, "general.file_type")
    pooling = _number(meta, f"{architecture}.pooling_type")
    embedding = _number(meta, f"{architecture}.embedding_length")
    heads = max(_numbers(meta, f"{architecture}.attention.head_count"), default=None)
    # A head's size, where it is not given, is what the loader takes it for: its share of the embedding.
    share = embedding // heads if embedding and heads else None
    key_length = _number(meta, f"{architecture}.attention.key_length")
    value_length = _number(meta, f"{architecture}.attention.value_length")
    return GgufInfo(
        path=parts[0],
        parts=parts,
        missing=tuple(part for part in parts[1:] if not part.is_file()),
        size_bytes=sum(header.size_bytes for header in headers),
        truncated=any(header.truncated for header in headers),
        version=headers[0].version,
        architecture=architecture,
        name=_text(meta, "general.name"),
        license=_text(meta, "general.license"),
        quantisation=None if file_type is None else ggml.FILE_TYPES.get(file_type),
        context_length=_number(meta, f"{architecture}.context_length"),
        embedding_length=embedding,
        block_count=_number(meta, f"{architecture}.block_count"),
        head_count=heads,
        kv_heads=_kv_heads(meta, architecture, heads),
        key_length=share if key_length is None else key_length,
        value_length=share if value_length is None else value_length,
        pooling=Pooling(pooling) if pooling in tuple(Pooling) else None,
        has_chat_template=meta.get(TEMPLATE_KEY) is True,
        vision=meta.get("clip.has_vision_encoder") is True,
        audio=meta.get("clip.has_audio_encoder") is True,
        projection_length=_number(meta, "clip.vision.projection_dim") or _number(meta, "clip.audio.projection_dim"),
        demo=meta.get(DEMO_KEY) is True,
        tensor_count=sum(header.tensor_count for header in headers),
        parameter_count=sum(header.parameter_count for header in headers),
    )


def shards(path: Path) -> tuple[Path, ...]:
    """All parts of the model that `path` is a part of, first one first; just `path` when it is whole."""
    match = SHARD.fullmatch(path.name)
    if match is None:
        return (path,)
    suffix = path.name[match.end("count") :]
    count = int(match["count"])
    if not 1 <= int(match["no"]) <= count <= _MAX_PARTS:
        return (path,)
    return tuple(path.with_name(f"{match['stem']}-{n:05d}-of-{match['count']}{suffix}") for n in range(1, count + 1))


def _kv_heads(meta: Mapping[str, Value], architecture: str, heads: int | None) -> tuple[int, ...]:
    """Key-value heads of every block: given per block, or once for all, or the same as the query heads."""
    blocks = _number(meta, f"{architecture}.block_count")
    if blocks is None or blocks > _MAX_BLOCKS:
        return ()
    given = _numbers(meta, f"{architecture}.attention.head_count_kv") or (() if heads is None else (heads,))
    return given * blocks if len(given) == 1 else given[:blocks]


def _text(meta: Mapping[str, Value], key: str) -> str | None:
    value = meta.get(key)
    return "".join(filter(str.isprintable, value)) or None if isinstance(value, str) else None


def _number(meta: Mapping[str, Value], key: str) -> int | None:
    value = meta.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _numbers(meta: Mapping[str, Value], key: str) -> tuple[int, ...]:
    """A figure that is given once for all blocks or once per block."""
    value = meta.get(key)
    if isinstance(value, tuple):
        return tuple(n for n in value if n >= 0)
    number = _number(meta, key)
    return () if number is None else (number,)
