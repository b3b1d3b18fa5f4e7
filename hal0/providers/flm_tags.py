"""FLM's own list of models, as `flm list -j` prints it: which tags there are, and what each is made of. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from hal0.lib import jsonio
from hal0.models.tags import Tag
from hal0.vocab import Capability

# One process holds a language model and these two besides; FLM lets nobody choose others.
EMBEDDER: Final = "embed-gemma:300m"
LISTENER: Final = "whisper-v3:turbo"
RIDERS: Final[Mapping[Capability, str]] = MappingProxyType({Capability.EMBED: EMBEDDER, Capability.STT: LISTENER})


@dataclass(frozen=True, slots=True)
class NotAList(ValueError):
    """What the program printed is no list of models."""

    said: str


def parse(output: str) -> tuple[Tag, ...]:
    """The tags. Notes before the JSON are passed over; an entry that cannot be used is left out. Raises NotAList."""
    start = output.find("{")
    try:
        models = jsonio.loads(output[start:] if start >= 0 else output)["models"]
        return tuple(tag for model in models if (tag := _tag(model)) is not None)
    except (jsonio.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise NotAList(" ".join(output.split())[:200]) from error


def _tag(model: Mapping[str, Any]) -> Tag | None:
    name, folder = model.get("model") or model.get("name"), _folder(model)
    files = model.get("files")
    if not isinstance(name, str) or folder is None or not isinstance(files, list) or not files:
        return None
    if not all(isinstance(file, str) and "/" not in file and file not in ("", ".", "..") for file in files):
        return None
    size, context = model.get("size"), model.get("default_context_length")
    return Tag(
        name=name,
        folder=folder,
        files=tuple(files),
        size_bytes=size if isinstance(size, int) else None,
        context_length=context if isinstance(context, int) else None,
        capabilities=_capabilities(name, vision=model.get("vlm") is True),
        family=str((model.get("details") or {}).get("family") or "flm"),
        riders={} if name in RIDERS.values() else RIDERS,
    )


def _folder(model: Mapping[str, Any]) -> str | None:
    """The weights' folder is called like their repository: `.../FastFlowLM/Qwen3-4B-NPU2[/resolve/REVISION]`."""
    url = model.get("url")
    if not isinstance(url, str):
        return None
    parts = url.partition("://")[2].split("/")
    name = parts[2] if len(parts) > 2 else ""
    return name if name and not name.startswith(".") else None


def _capabilities(name: str, *, vision: bool) -> frozenset[Capability]:
    for capability, rider in RIDERS.items():
        if name == rider:
            return frozenset({capability})
    chat = frozenset({Capability.CHAT, Capability.COMPLETION})
    return chat | {Capability.VISION} if vision else chat
