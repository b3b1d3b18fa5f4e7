"""Writes a tiny Stable Diffusion XL that the real ComfyUI loads whole, samples and decodes.

ComfyUI knows one by the depths of its transformers on the way down and by the widths of text and picture facts, and
asks neither how many levels it has nor for transformers on the way up. The pictures are noise that the seed decides.
"""

from pathlib import Path
from typing import Final

from tests.tiny.diffusion_parts import (
    CHANNELS,
    TIME,
    Shapes,
    attention,
    beginning,
    coder,
    end,
    layer,
    residual,
    text_encoder,
    write_checkpoint,
)

_CLIP_L: Final = 768
_CLIP_G: Final = 1280
_TEXT: Final = _CLIP_L + _CLIP_G
_FACTS: Final = _CLIP_G + 6 * 256  # the prompt as one vector, and six numbers: the picture's sizes and where it is cut
_DEPTHS: Final = (0, 0, 2, 2, 10, 10)


def write_sdxl(path: Path, *, seed: int = 0) -> Path:
    """1.9 GB in name, nearly all of it the second text encoder's zeros; 126 MB on the disk."""
    second = "conditioner.embedders.1.model.transformer."
    parts = {
        "model.diffusion_model.": _unet(),
        "first_stage_model.": coder(),
        "conditioner.embedders.0.transformer.text_model.": text_encoder(_CLIP_L, 12),
        f"{second}text_model.": text_encoder(_CLIP_G, 32),
        second: layer("text_projection", _CLIP_G, _CLIP_G, bias=False),
    }
    return write_checkpoint(path, parts, seed=seed)


def _unet() -> Shapes:
    """One level, which has all of the depths."""
    yield from beginning()
    yield from layer("label_emb.0.0", TIME, _FACTS)
    yield from layer("label_emb.0.2", TIME, TIME)
    for n, depth in enumerate(_DEPTHS, start=1):
        yield from residual(f"input_blocks.{n}.0")
        if depth:
            yield from attention(f"input_blocks.{n}.1", text=_TEXT, depth=depth, linear=True)
    yield from residual("middle_block.0")
    for n in range(len(_DEPTHS) + 1):
        yield from residual(f"output_blocks.{n}.0", 2 * CHANNELS)  # what comes up, and what came down
    yield from end()
