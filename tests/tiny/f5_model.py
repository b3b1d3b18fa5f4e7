"""Writes a tiny F5-TTS folder that the real library's networks are filled from: random weights, a voice to clone."""

import json
import struct
import wave
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np

Shape = tuple[int, ...]

_DIM: Final = 64  # one head
_TEXT: Final = 32
_BLOCKS: Final = 2
_MEL: Final = 100
_WIDE: Final = 64  # of the vocoder
# What the text is written in; a space has to be the first.
LETTERS: Final = " !',-.?abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
WORDS: Final = "One tone and nothing else."
RATE: Final = 24_000


def write_f5(folder: Path, *, voice_s: float = 2.0) -> Path:
    """The folder as a user would fill it; its one voice, `anna`, is a tone of `voice_s` seconds."""
    dice = np.random.default_rng(5)
    for part in ("vocos", "voices"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    network = {f"ema_model.transformer.{name}": shape for name, shape in _network()}
    _write(folder / "model_1250000.safetensors", network | {"initted": (), "step": ()}, dice)
    _write(folder / "vocos" / "model.safetensors", dict(_vocoder()), dice)
    (folder / "vocab.txt").write_text("".join(f"{letter}\n" for letter in LETTERS))
    tone(folder / "voices" / "anna.wav", voice_s)
    (folder / "voices" / "anna.txt").write_text(WORDS)
    return folder


def tone(path: Path, seconds: float) -> bytes:
    """A WAV of 220 Hz, written to `path`."""
    samples = (np.sin(np.arange(round(seconds * RATE)) * 2 * np.pi * 220 / RATE) * 12_000).astype("<i2")
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(samples.tobytes())
    return path.read_bytes()


def _linear(name: str, rows: int, columns: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (rows, columns)
    yield f"{name}.bias", (rows,)


def _conv(name: str, out: int, each: int, width: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (out, each, width)
    yield f"{name}.bias", (out,)


def _norm(name: str, dim: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (dim,)
    yield f"{name}.bias", (dim,)


def _network() -> Iterator[tuple[str, Shape]]:
    yield from _linear("time_embed.time_mlp.0", _DIM, 256)
    yield from _linear("time_embed.time_mlp.2", _DIM, _DIM)
    yield "text_embed.text_embed.weight", (len(LETTERS) + 1, _TEXT)
    block = "text_embed.text_blocks.0"
    yield from _conv(f"{block}.dwconv", _TEXT, 1, 7)
    yield from _norm(f"{block}.norm", _TEXT)
    yield from _linear(f"{block}.pwconv1", 2 * _TEXT, _TEXT)
    yield f"{block}.grn.gamma", (1, 1, 2 * _TEXT)
    yield f"{block}.grn.beta", (1, 1, 2 * _TEXT)
    yield from _linear(f"{block}.pwconv2", _TEXT, 2 * _TEXT)
    yield from _linear("input_embed.proj", _DIM, 2 * _MEL + _TEXT)
    for layer in (0, 2):
        yield from _conv(f"input_embed.conv_pos_embed.conv1d.{layer}", _DIM, _DIM // 16, 31)
    yield "rotary_embed.inv_freq", (32,)
    for n in range(_BLOCKS):
        block = f"transformer_blocks.{n}"
        yield from _linear(f"{block}.attn_norm.linear", 6 * _DIM, _DIM)
        for part in ("to_q", "to_k", "to_v", "to_out.0"):
            yield from _linear(f"{block}.attn.{part}", _DIM, _DIM)
        yield from _linear(f"{block}.ff.ff.0.0", 2 * _DIM, _DIM)
        yield from _linear(f"{block}.ff.ff.2", _DIM, 2 * _DIM)
    yield from _linear("norm_out.linear", 2 * _DIM, _DIM)
    yield from _linear("proj_out", _MEL, _DIM)


def _vocoder() -> Iterator[tuple[str, Shape]]:
    yield from _conv("backbone.embed", _WIDE, _MEL, 7)
    yield from _norm("backbone.norm", _WIDE)
    block = "backbone.convnext.0"
    yield f"{block}.gamma", (_WIDE,)
    yield from _conv(f"{block}.dwconv", _WIDE, 1, 7)
    yield from _norm(f"{block}.norm", _WIDE)
    yield from _linear(f"{block}.pwconv1", 2 * _WIDE, _WIDE)
    yield from _linear(f"{block}.pwconv2", _WIDE, 2 * _WIDE)
    yield from _norm("backbone.final_layer_norm", _WIDE)
    yield from _linear("head.out", 1026, _WIDE)
    yield "head.istft.window", (1024,)
    yield "feature_extractor.mel_spec.mel_scale.fb", (513, _MEL)  # published beside the rest, and not used


def _write(path: Path, shapes: Mapping[str, Shape], dice: np.random.Generator) -> None:
    """As safetensors, in 32 bits."""
    header: dict[str, object] = {}
    parts: list[bytes] = []
    at = 0
    for name, shape in shapes.items():
        value = _window() if name.endswith("window") else dice.normal(0, 0.2, shape)
        parts.append(np.asarray(value, dtype="<f4").tobytes())
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, at + len(parts[-1])]}
        at += len(parts[-1])
    described = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(described)) + described + b"".join(parts))


def _window() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)
