"""Which kind of image model a slot has, and where its files stand inside the container. Pure.

ComfyUI names models by their place below its folders. hal0 puts each model into a folder called like its kind, so that
what the engine lists says both which file to name and which graph to send; nothing has to be remembered.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any, Final

from hal0.engine.base import Mount
from hal0.errors import Hal0Error
from hal0.providers.base import Launch

BASE_DIR: Final = "/var/lib/comfyui"
CHECKPOINTS: Final = "checkpoints"
UNETS: Final = "diffusion_models"
FOLDERS: Final = (CHECKPOINTS, UNETS)  # where a slot's model may be listed


class Kind(StrEnum):
    SD15 = "sd15"
    SDXL = "sdxl"
    SDXL_TURBO = "sdxl-turbo"
    FLUX_SCHNELL = "flux-schnell"
    FLUX_DEV = "flux-dev"


FLUX: Final = frozenset({Kind.FLUX_SCHNELL, Kind.FLUX_DEV})


@dataclass(frozen=True, slots=True)
class Weights:
    """What the loaders of a graph name. `split`: unet, text encoders and VAE are files of their own (Flux)."""

    kind: Kind
    name: str
    split: bool = False


# By the name where the record does not say what it is; the first that matches.
_NAMES: Final = (
    (re.compile(r"flux.*(dev|krea|kontext)"), "flux-dev"),
    (re.compile(r"flux"), "flux"),
    (re.compile(r"xl"), "sdxl"),
    (re.compile(r"sd-?1|sd-?v?1[-.]5|v1-5|1\.5|stable-diffusion-v1"), "sd15"),
)
_KINDS: Final[Mapping[str, Kind]] = {
    "sd15": Kind.SD15,
    "sdxl": Kind.SDXL,
    "flux": Kind.FLUX_SCHNELL,
    "flux-dev": Kind.FLUX_DEV,
}
_UNSEEN: Final = "checkpoint"  # a pickle, which hal0 does not look into: its name has to say what it is
GRAPHS: Final = frozenset({*_KINDS, _UNSEEN})  # architectures that hal0 has graphs for
T5: Final = "hal0/t5xxl.safetensors"
CLIP: Final = "hal0/clip_l.safetensors"
VAE: Final = "hal0/ae.safetensors"
# Where the files beside a Flux unet stand, in the order that a registry entry has them.
_BESIDE: Final = (f"text_encoders/{T5}", f"text_encoders/{CLIP}", f"vae/{VAE}")


def kind_of(model: str, architecture: str) -> Kind:
    """Raises config.invalid where hal0 has no graph. Only its name tells a distilled SDXL from another one."""
    said = "" if architecture == _UNSEEN else architecture
    name = said or next((name for pattern, name in _NAMES if pattern.search(model.lower())), "")
    if name not in _KINDS:
        message = f"cannot make images with {model}: hal0 has graphs for SD 1.5, SDXL, SDXL Turbo and Flux"
        if not said:
            message += "; its name has to say which of them it is: put sd15, sdxl or flux into it"
        raise Hal0Error("config.invalid", message, param="model")
    if name == "sdxl" and "turbo" in model.lower():
        return Kind.SDXL_TURBO
    return _KINDS[name]


def mounts_of(launch: Launch) -> tuple[Mount, ...]:
    """The model's own files, each where ComfyUI looks for its kind. Raises config.invalid."""
    kind = kind_of(launch.model, launch.architecture)
    folder = UNETS if len(launch.files) > 1 else CHECKPOINTS
    # By its ending the engine knows how a file is read.
    places = (f"{folder}/{kind}/{launch.model}{launch.files[0].suffix}", *_BESIDE)
    return tuple(Mount(file, f"{BASE_DIR}/models/{place}") for file, place in zip(launch.files, places, strict=False))


def listed(names: Iterable[Any], model: str, folder: str) -> Weights | None:
    """The slot's model among what ComfyUI lists in a folder; None when it is not there."""
    for name in (name for name in names if isinstance(name, str)):
        path = PurePosixPath(name)
        if path.stem == model and path.parent.name in set(Kind):
            return Weights(Kind(path.parent.name), name, split=folder == UNETS)
    return None
