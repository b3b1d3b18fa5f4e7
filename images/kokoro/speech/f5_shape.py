"""What F5-TTS's network and its vocoder look like, read off the shapes of their tensors: no file says more."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from serving.app import UnusableError

Shapes = Mapping[str, tuple[int, ...]]

MEL: Final = 100  # bands of a spectrogram
WINDOW: Final = 1024  # samples
_HEAD: Final = 64  # numbers of one attention head, in every network of the kind
_LONGEST_DEPTH: Final = 64  # blocks; published networks have 22
# By its file's name: networks from before version 1 leave the padding in, and turn one head only.
_BEFORE_V1: Final = re.compile(r"model_1200000\b")


def network(shapes: Shapes, file: str) -> dict[str, Any]:
    """The arguments of the library's DiT; names are without the prefix `transformer.`.

    Raises UnusableError for the tensors of something else.
    """
    try:
        text_dim = shapes["text_embed.text_embed.weight"][1]
        dim, inputs = shapes["input_embed.proj.weight"]
        depth = _count(shapes, r"transformer_blocks\.(\d+)\.")
        heads, rest = divmod(shapes["transformer_blocks.0.attn.to_q.weight"][0], _HEAD)
        wide = shapes["transformer_blocks.0.ff.ff.0.0.weight"][0]
    except (KeyError, IndexError, ValueError) as fault:
        raise UnusableError(f"cannot load the model: {file} holds no F5-TTS network") from fault
    if inputs != 2 * MEL + text_dim or rest or dim % 16 or wide % dim or not 0 < depth <= _LONGEST_DEPTH:
        raise UnusableError(f"cannot load the model: {file} holds a network of a shape that F5-TTS does not have")
    old = _BEFORE_V1.match(file) is not None
    return {
        "dim": dim,
        "depth": depth,
        "heads": heads,
        "ff_mult": wide // dim,
        "text_dim": text_dim,
        "conv_layers": _count(shapes, r"text_embed\.text_blocks\.(\d+)\."),
        "qk_norm": "rms_norm" if "transformer_blocks.0.attn.q_norm.weight" in shapes else None,
        "text_mask_padding": not old,
        "pe_attn_head": 1 if old else None,
        "mel_dim": MEL,
    }


def vocoder(shapes: Shapes, file: str) -> dict[str, int]:
    """The arguments of the library's VocosBackbone. Raises UnusableError for the tensors of something else."""
    try:
        dim, inputs, _ = shapes["backbone.embed.weight"]
        wide = shapes["backbone.convnext.0.pwconv1.weight"][0]
        out = shapes["head.out.weight"]
    except (KeyError, IndexError, ValueError) as fault:
        raise UnusableError(f"cannot load the model: {file} holds no Vocos vocoder") from fault
    if inputs != MEL or out != (WINDOW + 2, dim):
        raise UnusableError(f"cannot load the model: {file} is no vocoder for {MEL} bands at 24 kHz")
    layers = _count(shapes, r"backbone\.convnext\.(\d+)\.")
    return {"input_channels": inputs, "dim": dim, "intermediate_dim": wide, "num_layers": layers}


def _count(names: Iterable[str], pattern: str) -> int:
    found = (re.match(pattern, name) for name in names)
    return 1 + max((int(match[1]) for match in found if match), default=-1)
