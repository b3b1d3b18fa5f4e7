"""Image models in several files: what a file of tensors is to such a model, and which of them belong together. Pure.

ComfyUI keeps Flux so: the network that draws, its two text encoders and the decoder of its pictures are files of their
own, in folders of their own, and networks share the others. Names are anybody's choice: what a file is, its tensors
say, and whether two fit, how wide they are.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final


class Role(Enum):
    """In the order that a model's files have; each with its name for people."""

    UNET = "the network that draws"
    T5 = "a T5 text encoder in one file (t5xxl)"
    CLIP = "a CLIP text encoder (clip_l)"
    VAE = "the decoder of pictures (ae)"


@dataclass(frozen=True, slots=True)
class Piece:
    """One file. `widths` of a network: what it takes of T5, CLIP and VAE; of the others: the one that they give.

    `family` is the architecture of a model that has this network.
    """

    path: Path
    size_bytes: int
    role: Role
    widths: tuple[int, ...]
    family: str = ""


# Two architectures: Flux dev is told how closely to follow the prompt, schnell learnt to do without, in fewer steps.
FLUX: Final = "flux"
FLUX_DEV: Final = "flux-dev"
_GUIDANCE: Final = "guidance_in.in_layer.weight"
_BESIDE: Final = (Role.T5, Role.CLIP, Role.VAE)
_PREFIX: Final = "model.diffusion_model."
_PATCH: Final = 2 * 2  # a network looks at so many of a picture's latent pixels at once
# The first tensor of each with its dimensions, and the last one: one that is cut into several files has not both.
_ENDS: Final = {
    Role.T5: ("shared.weight", 2, "encoder.final_layer_norm.weight"),
    Role.CLIP: ("text_model.embeddings.token_embedding.weight", 2, "text_model.final_layer_norm.weight"),
    Role.VAE: ("decoder.conv_in.weight", 4, "decoder.conv_out.weight"),
}
# What people call them; it decides where several fit that lie equally near.
_CALLED: Final = {
    Role.T5: re.compile(r"t5", re.IGNORECASE),
    Role.CLIP: re.compile(r"clip_?l", re.IGNORECASE),
    Role.VAE: re.compile(r"\Aae\Z|flux", re.IGNORECASE),
}


def role_of(shapes: Mapping[str, tuple[int, ...]]) -> tuple[Role, tuple[int, ...]] | None:
    """What a file with these tensors is, and its widths (`Piece`); None: nothing to such a model."""
    for prefix in ("", _PREFIX):
        ends = [shapes.get(f"{prefix}{name}.weight", ()) for name in ("txt_in", "vector_in.in_layer", "img_in")]
        if f"{prefix}double_blocks.0.img_attn.norm.key_norm.scale" in shapes and all(len(it) == 2 for it in ends):
            text, vector, picture = (it[1] for it in ends)
            return Role.UNET, (text, vector, picture // _PATCH)
    for role, (first, rank, last) in _ENDS.items():
        if len(shape := shapes.get(first, ())) == rank and last in shapes:
            return role, shape[1:2]
    return None


def family_of(names: Iterable[str]) -> str:
    """Of a network with tensors of these names, all of a Flux."""
    return FLUX_DEV if any(name.removeprefix(_PREFIX) == _GUIDANCE for name in names) else FLUX


def belonging(unet: Piece, pieces: Iterable[Piece]) -> dict[Role, Piece]:
    """Of each other role the piece that the network is used with, as far as one fits.

    The nearest one; of several the one that is called so, then the smallest: they differ in precision.
    """
    pieces = tuple(pieces)
    found = {}
    for role, width in zip(_BESIDE, unet.widths, strict=True):
        fitting = [it for it in pieces if it.role is role and it.widths == (width,)]
        if fitting:
            found[role] = min(fitting, key=lambda it: (_apart(unet.path, it.path), *_choice(it)))
    return found


def missing(found: Iterable[Role]) -> list[Role]:
    """The roles that a whole model has besides its network and these."""
    there = set(found)
    return [role for role in _BESIDE if role not in there]


def _apart(one: Path, other: Path) -> int:
    """Fewer for files that lie nearer to each other."""
    return -len(Path(os.path.commonpath((one.parent, other.parent))).parts)


def _choice(piece: Piece) -> tuple[bool, int, Path]:
    return _CALLED[piece.role].search(piece.path.stem) is None, piece.size_bytes, piece.path
