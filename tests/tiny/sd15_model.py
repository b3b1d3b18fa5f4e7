"""Writes a tiny Stable Diffusion 1.5 that the real ComfyUI loads whole, samples and decodes.

Every part has the width that it is recognised by, and as few levels and blocks as it can have. The weights are seeded
noise, scaled so that no layer makes its input louder; the text encoder's are zeros, which a sparse file has for
nothing. The pictures are noise that the seed decides. The same arguments give the same bytes.
"""

import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

Shape = tuple[int, ...]
Shapes = Iterator[tuple[str, Shape]]

_CHANNELS: Final = 320
_TEXT: Final = 768
_TIME: Final = 1280
_WORDS: Final = 49408
_TEXT_LAYERS: Final = 12
_PICTURE: Final = 64  # channels of the picture's coder
_LATENT: Final = 4
# The places of layers in the picture's decoder: three blocks, an upsampling without weights, one convolution without
# bias, three times; then one block more, and the last layer makes red, green and blue.
_ENCODER_STRIDES: Final = (2, 6, 10)
_DECODER_LEVELS: Final = (3, 8, 13)


def write_sd15(path: Path, *, seed: int = 0) -> Path:
    """302 MB in name, a fifth of that on the disk."""
    parts = {
        "model.diffusion_model.": list(_unet()),
        "first_stage_model.": list(_coder()),
        "cond_stage_model.transformer.text_model.": list(_text_encoder()),
    }
    shapes = {prefix + name: shape for prefix, part in parts.items() for name, shape in part}
    header: dict[str, dict[str, Any]] = {}
    at = 0
    for name, shape in shapes.items():
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    described = json.dumps(header).encode()
    described += b" " * (-len(described) % 8)
    dice = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(described)) + described)
        begin = file.tell()
        file.truncate(begin + at)
        for name, shape in shapes.items():
            if (weights := _weights(name, shape, dice)) is not None:
                file.seek(begin + header[name]["data_offsets"][0])
                file.write(weights.astype(np.float16).tobytes())
    return path


def _weights(name: str, shape: Shape, dice: np.random.Generator) -> "np.ndarray | None":
    """None: zeros, which are there already."""
    if name.startswith("cond_stage_model.") or name.endswith(".bias"):
        return None
    if len(shape) == 1:  # a norm's
        return np.ones(shape)
    return dice.standard_normal(shape) / math.sqrt(math.prod(shape[1:]))


def _layer(name: str, *shape: int, bias: bool = True) -> Shapes:
    """A linear layer, a convolution, or, with one number, a norm."""
    yield f"{name}.weight", shape
    if bias:
        yield f"{name}.bias", shape[:1]


def _convolution(name: str, out: int, into: int, *, bias: bool = True) -> Shapes:
    yield from _layer(name, out, into, 3, 3, bias=bias)


# -- the denoiser: one level, with one block down and two up ---------------------------------------------------------


def _unet() -> Shapes:
    yield from _layer("time_embed.0", _TIME, _CHANNELS)
    yield from _layer("time_embed.2", _TIME, _TIME)
    yield from _convolution("input_blocks.0.0", _CHANNELS, _LATENT)
    yield from _residual("input_blocks.1.0", _CHANNELS)
    yield from _attention("input_blocks.1.1")
    yield from _residual("middle_block.0", _CHANNELS)
    yield from _attention("middle_block.1")
    yield from _residual("middle_block.2", _CHANNELS)
    for block in ("output_blocks.0", "output_blocks.1"):
        yield from _residual(f"{block}.0", 2 * _CHANNELS)  # what comes up, and what came down
        yield from _attention(f"{block}.1")
    yield from _layer("out.0", _CHANNELS)
    yield from _convolution("out.2", _LATENT, _CHANNELS)


def _residual(name: str, into: int) -> Shapes:
    yield from _layer(f"{name}.in_layers.0", into)
    yield from _convolution(f"{name}.in_layers.2", _CHANNELS, into)
    yield from _layer(f"{name}.emb_layers.1", _CHANNELS, _TIME)
    yield from _layer(f"{name}.out_layers.0", _CHANNELS)
    yield from _convolution(f"{name}.out_layers.3", _CHANNELS, _CHANNELS)
    if into != _CHANNELS:
        yield from _layer(f"{name}.skip_connection", _CHANNELS, into, 1, 1)


def _attention(name: str) -> Shapes:
    """One transformer block: to itself, to the text, and a gated layer."""
    yield from _layer(f"{name}.norm", _CHANNELS)
    yield from _layer(f"{name}.proj_in", _CHANNELS, _CHANNELS, 1, 1)
    block = f"{name}.transformer_blocks.0"
    for attention, source in (("attn1", _CHANNELS), ("attn2", _TEXT)):
        for what, into in (("to_q", _CHANNELS), ("to_k", source), ("to_v", source)):
            yield from _layer(f"{block}.{attention}.{what}", _CHANNELS, into, bias=False)
        yield from _layer(f"{block}.{attention}.to_out.0", _CHANNELS, _CHANNELS)
    yield from _layer(f"{block}.ff.net.0.proj", 8 * _CHANNELS, _CHANNELS)
    yield from _layer(f"{block}.ff.net.2", _CHANNELS, 4 * _CHANNELS)
    for norm in ("norm1", "norm2", "norm3"):
        yield from _layer(f"{block}.{norm}", _CHANNELS)
    yield from _layer(f"{name}.proj_out", _CHANNELS, _CHANNELS, 1, 1)


# -- the picture's coder: TAESD's layout, a fiftieth of the usual one's size -----------------------------------------


def _coder() -> Shapes:
    yield from _convolution("taesd_encoder.0", _PICTURE, 3)
    yield from _block("taesd_encoder.1")
    for at in _ENCODER_STRIDES:
        yield from _convolution(f"taesd_encoder.{at}", _PICTURE, _PICTURE, bias=False)
        for n in range(3):
            yield from _block(f"taesd_encoder.{at + 1 + n}")
    yield from _convolution("taesd_encoder.14", _LATENT, _PICTURE)
    yield from _convolution("taesd_decoder.1", _PICTURE, _LATENT)
    for at in _DECODER_LEVELS:
        for n in range(3):
            yield from _block(f"taesd_decoder.{at + n}")
        yield from _convolution(f"taesd_decoder.{at + 4}", _PICTURE, _PICTURE, bias=False)
    yield from _block("taesd_decoder.18")
    yield from _convolution("taesd_decoder.19", 3, _PICTURE)


def _block(name: str) -> Shapes:
    for n in (0, 2, 4):
        yield from _convolution(f"{name}.conv.{n}", _PICTURE, _PICTURE)


# -- the text encoder: CLIP-L, whole, because its shape is what tells the family -------------------------------------


def _text_encoder() -> Shapes:
    yield "embeddings.token_embedding.weight", (_WORDS, _TEXT)
    yield "embeddings.position_embedding.weight", (77, _TEXT)
    for layer in (f"encoder.layers.{n}" for n in range(_TEXT_LAYERS)):
        for what in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from _layer(f"{layer}.self_attn.{what}", _TEXT, _TEXT)
        yield from _layer(f"{layer}.mlp.fc1", 4 * _TEXT, _TEXT)
        yield from _layer(f"{layer}.mlp.fc2", _TEXT, 4 * _TEXT)
        for norm in ("layer_norm1", "layer_norm2"):
            yield from _layer(f"{layer}.{norm}", _TEXT)
    yield from _layer("final_layer_norm", _TEXT)
