"""The parts of tiny Stable Diffusions, as tensors with shapes, and the file that they are written to.

The weights are seeded noise, scaled so that no layer makes its input louder; the text encoders' are zeros, and those
of every transformer block behind an attention's first, which then only passes its input on. A sparse file has zeros for
nothing. The same arguments give the same bytes.
"""

import json
import math
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

Shape = tuple[int, ...]
Shapes = Iterator[tuple[str, Shape]]

CHANNELS: Final = 320  # of the denoiser's first level, the only one here
TIME: Final = 4 * CHANNELS
LATENT: Final = 4
_WORDS: Final = 49408
_POSITIONS: Final = 77
_PICTURE: Final = 64  # channels of the picture's coder
# The places of layers in the picture's decoder: three blocks, an upsampling without weights, one convolution without
# bias, three times; then one block more, and the last layer makes red, green and blue.
_ENCODER_STRIDES: Final = (2, 6, 10)
_DECODER_LEVELS: Final = (3, 8, 13)
_ZEROS: Final = re.compile(r"cond_stage_model\.|conditioner\.|.*\.transformer_blocks\.[1-9]|.*\.bias$")


def write_checkpoint(path: Path, parts: Mapping[str, Shapes], *, seed: int) -> Path:
    """One safetensors file of 16-bit numbers; `parts` are tensors by what their names begin with."""
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
            if not _ZEROS.match(name):
                file.seek(begin + header[name]["data_offsets"][0])
                file.write(_weights(shape, dice).astype(np.float16).tobytes())
    return path


def _weights(shape: Shape, dice: np.random.Generator) -> "np.ndarray":
    if len(shape) == 1:  # a norm's
        return np.ones(shape)
    return dice.standard_normal(shape) / math.sqrt(math.prod(shape[1:]))


def layer(name: str, *shape: int, bias: bool = True) -> Shapes:
    """A linear layer, a convolution, or, with one number, a norm."""
    yield f"{name}.weight", shape
    if bias:
        yield f"{name}.bias", shape[:1]


def convolution(name: str, out: int, into: int, *, bias: bool = True) -> Shapes:
    yield from layer(name, out, into, 3, 3, bias=bias)


# -- the denoiser's blocks -------------------------------------------------------------------------------------------


def residual(name: str, into: int = CHANNELS) -> Shapes:
    yield from layer(f"{name}.in_layers.0", into)
    yield from convolution(f"{name}.in_layers.2", CHANNELS, into)
    yield from layer(f"{name}.emb_layers.1", CHANNELS, TIME)
    yield from layer(f"{name}.out_layers.0", CHANNELS)
    yield from convolution(f"{name}.out_layers.3", CHANNELS, CHANNELS)
    if into != CHANNELS:
        yield from layer(f"{name}.skip_connection", CHANNELS, into, 1, 1)


def attention(name: str, *, text: int, depth: int = 1, linear: bool = False) -> Shapes:
    """`depth` transformer blocks; `text` is the width of what they attend to, `linear` how they are led in and out."""
    around = (CHANNELS, CHANNELS) if linear else (CHANNELS, CHANNELS, 1, 1)
    yield from layer(f"{name}.norm", CHANNELS)
    yield from layer(f"{name}.proj_in", *around)
    for n in range(depth):
        yield from _transformer(f"{name}.transformer_blocks.{n}", text)
    yield from layer(f"{name}.proj_out", *around)


def _transformer(name: str, text: int) -> Shapes:
    """Attention to itself, to the text, and a gated layer."""
    for attended, source in (("attn1", CHANNELS), ("attn2", text)):
        for what, into in (("to_q", CHANNELS), ("to_k", source), ("to_v", source)):
            yield from layer(f"{name}.{attended}.{what}", CHANNELS, into, bias=False)
        yield from layer(f"{name}.{attended}.to_out.0", CHANNELS, CHANNELS)
    yield from layer(f"{name}.ff.net.0.proj", 8 * CHANNELS, CHANNELS)
    yield from layer(f"{name}.ff.net.2", CHANNELS, 4 * CHANNELS)
    for norm in ("norm1", "norm2", "norm3"):
        yield from layer(f"{name}.{norm}", CHANNELS)


def beginning() -> Shapes:
    """Where the time and the picture come in."""
    yield from layer("time_embed.0", TIME, CHANNELS)
    yield from layer("time_embed.2", TIME, TIME)
    yield from convolution("input_blocks.0.0", CHANNELS, LATENT)


def end() -> Shapes:
    yield from layer("out.0", CHANNELS)
    yield from convolution("out.2", LATENT, CHANNELS)


# -- the picture's coder: TAESD's layout, a fiftieth of the usual one's size -----------------------------------------


def coder() -> Shapes:
    yield from convolution("taesd_encoder.0", _PICTURE, 3)
    yield from _block("taesd_encoder.1")
    for at in _ENCODER_STRIDES:
        yield from convolution(f"taesd_encoder.{at}", _PICTURE, _PICTURE, bias=False)
        for n in range(3):
            yield from _block(f"taesd_encoder.{at + 1 + n}")
    yield from convolution("taesd_encoder.14", LATENT, _PICTURE)
    yield from convolution("taesd_decoder.1", _PICTURE, LATENT)
    for at in _DECODER_LEVELS:
        for n in range(3):
            yield from _block(f"taesd_decoder.{at + n}")
        yield from convolution(f"taesd_decoder.{at + 4}", _PICTURE, _PICTURE, bias=False)
    yield from _block("taesd_decoder.18")
    yield from convolution("taesd_decoder.19", 3, _PICTURE)


def _block(name: str) -> Shapes:
    for n in (0, 2, 4):
        yield from convolution(f"{name}.conv.{n}", _PICTURE, _PICTURE)


# -- text encoders: whole, because ComfyUI makes them in their family's size -----------------------------------------


def text_encoder(width: int, layers: int) -> Shapes:
    """CLIP-L is 768 wide and has 12 layers, CLIP-G 1280 and 32."""
    yield "embeddings.token_embedding.weight", (_WORDS, width)
    yield "embeddings.position_embedding.weight", (_POSITIONS, width)
    for name in (f"encoder.layers.{n}" for n in range(layers)):
        for what in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from layer(f"{name}.self_attn.{what}", width, width)
        yield from layer(f"{name}.mlp.fc1", 4 * width, width)
        yield from layer(f"{name}.mlp.fc2", width, 4 * width)
        for norm in ("layer_norm1", "layer_norm2"):
            yield from layer(f"{name}.{norm}", width)
    yield from layer("final_layer_norm", width)
