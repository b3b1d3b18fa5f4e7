"""Models of several files: which sets of files in one folder are a model, of what kind, and which file comes first.

Only names are looked at here; `scan` looks at what is in the files. Pure.
"""

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from hal0.models.split import family_of
from hal0.vocab import Capability


@dataclass(frozen=True, slots=True)
class Kit:
    """A set of files that an engine loads as a folder; `first` is the graph that it begins with."""

    architecture: str
    format: str
    capabilities: frozenset[Capability]
    first: str


@dataclass(frozen=True, slots=True)
class _Recipe:
    """Every pattern has to meet a name; the first that meets the first pattern is the kit's first file."""

    architecture: str
    format: str
    capability: Capability
    patterns: tuple[str, ...]


_RECIPES: Final = (
    *(
        _Recipe("moonshine", form, Capability.STT, (f"encoder_model.{form}", f"decoder_model_merged.{form}"))
        for form in ("onnx", "ort")
    ),
    _Recipe("moonshine-streaming", "ort", Capability.STT, ("frontend.ort", "decoder_kv.ort", "streaming_config.json")),
    _Recipe("kokoro", "onnx", Capability.TTS, ("kokoro*.onnx", "voices*.bin")),
    _Recipe("kokoro", "onnx", Capability.TTS, ("kokoro*.onnx", "voices*.npz")),
    _Recipe("f5-tts", "safetensors", Capability.TTS, ("model_*.safetensors", "vocab.txt")),
)
# What may lie in a kit's folder without being read: it is not the model's.
IGNORED: Final = frozenset({"readme.md", "license", "license.txt", "license.md", "notice", "config.yaml"})


def recognise(names: Iterable[str]) -> Kit | None:
    """The kit that a folder with files of these names is; None when it is none."""
    ordered = sorted(names)
    for recipe in _RECIPES:
        found = [fnmatch.filter(ordered, pattern) for pattern in recipe.patterns]
        if all(found):
            return Kit(recipe.architecture, recipe.format, frozenset({recipe.capability}), found[0][0])
    return None


def checkpoint(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """Which family of image models a single file of tensors holds whole; None when it is none that draws.

    Flux comes in several files as well (`split`).
    """
    names = {
        name.removeprefix("model.diffusion_model.") for name in shapes if name.startswith("model.diffusion_model.")
    }
    if any(name.startswith("double_blocks.") for name in names):
        whole = all(any(name.startswith(part) for name in shapes) for part in ("text_encoders.", "vae."))
        return family_of(names) if whole else None
    if any(name.startswith("joint_blocks.") for name in names):
        return "sd3"
    if not any(name.startswith("input_blocks.") for name in names):
        return None
    if any(name.startswith("conditioner.embedders.1.") for name in shapes):
        return "sdxl"
    return "sd15" if any(name.startswith("cond_stage_model.transformer.") for name in shapes) else "sd2"
