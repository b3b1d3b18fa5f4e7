"""Writes a tiny Stable Diffusion 1.5 that the real ComfyUI loads whole, samples and decodes.

Every part has the width that it is recognised by, and as few levels and blocks as it can have. The pictures are noise
that the seed decides.
"""

from pathlib import Path
from typing import Final

from tests.tiny.diffusion_parts import (
    CHANNELS,
    Shapes,
    attention,
    beginning,
    coder,
    end,
    residual,
    text_encoder,
    write_checkpoint,
)

_TEXT: Final = 768


def write_sd15(path: Path, *, seed: int = 0) -> Path:
    """302 MB in name, a fifth of that on the disk."""
    parts = {
        "model.diffusion_model.": _unet(),
        "first_stage_model.": coder(),
        "cond_stage_model.transformer.text_model.": text_encoder(_TEXT, 12),
    }
    return write_checkpoint(path, parts, seed=seed)


def _unet() -> Shapes:
    """One level, with one block down and two up."""
    yield from beginning()
    yield from residual("input_blocks.1.0")
    yield from attention("input_blocks.1.1", text=_TEXT)
    yield from residual("middle_block.0")
    yield from attention("middle_block.1", text=_TEXT)
    yield from residual("middle_block.2")
    for block in ("output_blocks.0", "output_blocks.1"):
        yield from residual(f"{block}.0", 2 * CHANNELS)  # what comes up, and what came down
        yield from attention(f"{block}.1", text=_TEXT)
    yield from end()
