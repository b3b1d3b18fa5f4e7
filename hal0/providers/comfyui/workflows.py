"""Workflow graphs in ComfyUI's API form: what to render, with which weights, as nodes and links. Pure.

Nodes have names instead of numbers, so that what the engine says of one of them can be understood (`faults`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, assert_never

from hal0.providers.comfyui.weights import CLIP, FLUX, T5, VAE, Kind, Weights

Graph = dict[str, dict[str, Any]]
Link = list[Any]  # [node, number of its output]

SAVE: Final = "save"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How one kind of model is used at its best. `native` is the edge in pixels of the square it was trained on.

    Edges are multiples of `multiple`. `steps` are those of low, middle and high quality. `cfg` is how closely the
    prompt is followed; None: the model has no place for it. `negative`: it has one for a negative prompt.
    """

    native: int
    multiple: int = 8
    steps: tuple[int, int, int]
    cfg: float | None
    negative: bool = True


RECIPES: Final[Mapping[Kind, Recipe]] = MappingProxyType(
    {
        Kind.SD15: Recipe(native=512, steps=(15, 25, 40), cfg=7.0),
        Kind.SDXL: Recipe(native=1024, steps=(15, 25, 40), cfg=7.0),
        Kind.SDXL_TURBO: Recipe(native=512, steps=(1, 2, 4), cfg=1.0),
        Kind.FLUX_SCHNELL: Recipe(native=1024, multiple=16, steps=(2, 4, 8), cfg=None, negative=False),
        Kind.FLUX_DEV: Recipe(native=1024, multiple=16, steps=(12, 20, 30), cfg=3.5, negative=False),
    }
)


@dataclass(frozen=True, slots=True)
class Source:
    """An uploaded picture to begin from, by the name the engine gave it. `strength` 0-1 is how much may change.

    Only the transparent area of `mask` changes; None: all of it.
    """

    image: str
    strength: float
    mask: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """One picture: width and height in pixels, legal for its recipe; `prefix` is that of the file it is saved as."""

    prompt: str
    negative: str
    width: int
    height: int
    seed: int
    steps: int
    cfg: float | None
    prefix: str
    source: Source | None = None


def graph_of(weights: Weights, shot: Shot) -> Graph:
    """The graph whose node SAVE gives the picture."""
    graph, model, clip, vae = _loaders(weights)
    graph["positive"] = _node("CLIPTextEncode", text=shot.prompt, clip=clip)
    latent = _latent(graph, weights.kind, shot, vae)
    denoise = 1.0 if shot.source is None else shot.source.strength
    match weights.kind:
        case Kind.FLUX_SCHNELL | Kind.FLUX_DEV:
            samples = _guided(graph, shot, model, latent, denoise)
        case Kind.SDXL_TURBO:
            samples = _turbo(graph, shot, model, clip, latent, denoise)
        case Kind.SD15 | Kind.SDXL:
            samples = _classic(graph, shot, model, clip, latent, denoise)
        case _:
            assert_never(weights.kind)
    graph["decode"] = _node("VAEDecode", samples=samples, vae=vae)
    graph[SAVE] = _node("SaveImage", images=["decode", 0], filename_prefix=shot.prefix)
    return graph


def _node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def _loaders(weights: Weights) -> tuple[Graph, Link, Link, Link]:
    """The graph so far, and where model, text encoder and VAE come out of it."""
    if not weights.split:
        loader = _node("CheckpointLoaderSimple", ckpt_name=weights.name)
        return {"weights": loader}, ["weights", 0], ["weights", 1], ["weights", 2]
    graph = {
        "weights": _node("UNETLoader", unet_name=weights.name, weight_dtype="default"),
        "clip": _node("DualCLIPLoader", clip_name1=T5, clip_name2=CLIP, type="flux"),
        "vae": _node("VAELoader", vae_name=VAE),
    }
    return graph, ["weights", 0], ["clip", 0], ["vae", 0]


def _latent(graph: Graph, kind: Kind, shot: Shot, vae: Link) -> Link:
    """What is denoised: nothing yet, or a picture that is there."""
    source = shot.source
    if source is None:
        empty = "EmptySD3LatentImage" if kind in FLUX else "EmptyLatentImage"
        graph["latent"] = _node(empty, width=shot.width, height=shot.height, batch_size=1)
        return ["latent", 0]
    graph["image"] = _node("LoadImage", image=source.image)
    graph["scaled"] = _scaled(["image", 0], shot, "lanczos")
    graph["latent"] = _node("VAEEncode", pixels=["scaled", 0], vae=vae)
    if source.mask is None:
        return ["latent", 0]
    # A mask is scaled and cut like its picture, which only pictures can be.
    graph["mask"] = _node("LoadImageMask", image=source.mask, channel="alpha")
    graph["mask-picture"] = _node("MaskToImage", mask=["mask", 0])
    graph["mask-scaled"] = _scaled(["mask-picture", 0], shot, "bilinear")
    graph["mask-again"] = _node("ImageToMask", image=["mask-scaled", 0], channel="red")
    graph["masked"] = _node("SetLatentNoiseMask", samples=["latent", 0], mask=["mask-again", 0])
    return ["masked", 0]


def _scaled(image: Link, shot: Shot, method: str) -> dict[str, Any]:
    return _node("ImageScale", image=image, upscale_method=method, width=shot.width, height=shot.height, crop="center")


def _classic(graph: Graph, shot: Shot, model: Link, clip: Link, latent: Link, denoise: float) -> Link:
    graph["negative"] = _node("CLIPTextEncode", text=shot.negative, clip=clip)
    graph["sample"] = _node(
        "KSampler",
        model=model,
        seed=shot.seed,
        steps=shot.steps,
        cfg=shot.cfg,
        sampler_name="dpmpp_2m",
        scheduler="karras",
        positive=["positive", 0],
        negative=["negative", 0],
        latent_image=latent,
        denoise=denoise,
    )
    return ["sample", 0]


def _turbo(graph: Graph, shot: Shot, model: Link, clip: Link, latent: Link, denoise: float) -> Link:
    graph["negative"] = _node("CLIPTextEncode", text=shot.negative, clip=clip)
    graph["schedule"] = _node("SDTurboScheduler", model=model, steps=shot.steps, denoise=denoise)
    graph["sampler"] = _node("KSamplerSelect", sampler_name="euler_ancestral")
    graph["sample"] = _node(
        "SamplerCustom",
        model=model,
        add_noise=True,
        noise_seed=shot.seed,
        cfg=shot.cfg,
        positive=["positive", 0],
        negative=["negative", 0],
        sampler=["sampler", 0],
        sigmas=["schedule", 0],
        latent_image=latent,
    )
    return ["sample", 0]


def _guided(graph: Graph, shot: Shot, model: Link, latent: Link, denoise: float) -> Link:
    """Flux is distilled: it takes one prompt, and dev a figure for how closely to follow it, schnell not even that."""
    conditioning: Link = ["positive", 0]
    if shot.cfg is not None:
        graph["guidance"] = _node("FluxGuidance", conditioning=conditioning, guidance=shot.cfg)
        conditioning = ["guidance", 0]
    graph["noise"] = _node("RandomNoise", noise_seed=shot.seed)
    graph["sampler"] = _node("KSamplerSelect", sampler_name="euler")
    graph["schedule"] = _node("BasicScheduler", model=model, scheduler="simple", steps=shot.steps, denoise=denoise)
    graph["guider"] = _node("BasicGuider", model=model, conditioning=conditioning)
    graph["sample"] = _node(
        "SamplerCustomAdvanced",
        noise=["noise", 0],
        guider=["guider", 0],
        sampler=["sampler", 0],
        sigmas=["schedule", 0],
        latent_image=latent,
    )
    return ["sample", 0]
