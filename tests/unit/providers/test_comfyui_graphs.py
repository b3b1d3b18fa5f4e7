"""Which graph a wish becomes, as tables: every kind of model, with and without a picture to begin from."""

from pathlib import Path
from typing import Any, Final

import pytest

from hal0.errors import Hal0Error
from hal0.providers.base import Launch
from hal0.providers.comfyui.asked import MAX_SEED, Upload, Wish
from hal0.providers.comfyui.provider import ComfyUI
from hal0.providers.comfyui.shots import shots_of
from hal0.providers.comfyui.weights import Kind, Weights, kind_of, listed, mounts_of
from hal0.providers.comfyui.workflows import RECIPES, Graph, Shot, Source, graph_of
from hal0.vocab import Capability, Device, SlotName

SHOT: Final = {"prompt": "a cat", "negative": "dogs", "width": 512, "height": 768, "seed": 9, "steps": 4, "cfg": 2.0}
INPAINT: Final = Source("a-image", 0.7, "a-mask")
SPLIT: Final = Weights(Kind.FLUX_SCHNELL, "flux-schnell/f.safetensors", split=True)


def launch(model: str, *files: str, architecture: str = "", device: Device = Device.ROCM) -> Launch:
    return Launch(
        slot=SlotName("img"),
        model=model,
        files=tuple(Path("/store") / file for file in files),
        mmproj=None,
        capabilities=frozenset({Capability.IMAGE}),
        device=device,
        gpu_index=1,
        context_size=4096,
        parallel=None,
        extra_args=("--lowvram",),
        env={"HSA_OVERRIDE_GFX_VERSION": "11.0.0"},
        port=8080,
        architecture=architecture,
    )


def graph(weights: Weights, source: Source | None = None) -> Graph:
    cfg = None if weights.kind is Kind.FLUX_SCHNELL else SHOT["cfg"]  # as `shots_of` has it
    return graph_of(weights, Shot(**{**SHOT, "cfg": cfg}, prefix="hal0/p", source=source))  # type: ignore[arg-type]


def classes(made: Graph) -> dict[str, str]:
    return {node: what["class_type"] for node, what in made.items()}


def inputs(made: Graph, node: str) -> dict[str, Any]:
    found: dict[str, Any] = made[node]["inputs"]
    return found


EVERY: Final = [*(Weights(kind, f"{kind}/m.safetensors") for kind in Kind), SPLIT]


@pytest.mark.parametrize("source", [None, Source("a-image", 0.7), INPAINT], ids=["new", "changed", "masked"])
@pytest.mark.parametrize("weights", EVERY, ids=lambda weights: f"{weights.kind}{'-split' * weights.split}")
def test_every_link_leads_to_a_node_and_every_node_to_the_picture(weights: Weights, source: Source | None) -> None:
    made = graph(weights, source)
    reached, left = set(), ["save"]
    while left:
        node = left.pop()
        reached.add(node)
        left += [value[0] for value in inputs(made, node).values() if isinstance(value, list)]
    assert reached == made.keys()
    assert inputs(made, "save")["filename_prefix"] == "hal0/p"
    assert inputs(made, "positive")["text"] == "a cat"
    assert ("image" in made) is (source is not None)
    if source is not None:
        scaled = inputs(made, "scaled")
        assert (scaled["width"], scaled["height"], scaled["crop"]) == (512, 768, "center")


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (
            Weights(Kind.SD15, "sd15/m.safetensors"),
            {
                "weights": "CheckpointLoaderSimple",
                "positive": "CLIPTextEncode",
                "latent": "EmptyLatentImage",
                "negative": "CLIPTextEncode",
                "sample": "KSampler",
                "decode": "VAEDecode",
                "save": "SaveImage",
            },
        ),
        (
            Weights(Kind.SDXL_TURBO, "sdxl-turbo/m.safetensors"),
            {
                "weights": "CheckpointLoaderSimple",
                "positive": "CLIPTextEncode",
                "latent": "EmptyLatentImage",
                "negative": "CLIPTextEncode",
                "schedule": "SDTurboScheduler",
                "sampler": "KSamplerSelect",
                "sample": "SamplerCustom",
                "decode": "VAEDecode",
                "save": "SaveImage",
            },
        ),
        (
            SPLIT,
            {
                "weights": "UNETLoader",
                "clip": "DualCLIPLoader",
                "vae": "VAELoader",
                "positive": "CLIPTextEncode",
                "latent": "EmptySD3LatentImage",
                "noise": "RandomNoise",
                "sampler": "KSamplerSelect",
                "schedule": "BasicScheduler",
                "guider": "BasicGuider",
                "sample": "SamplerCustomAdvanced",
                "decode": "VAEDecode",
                "save": "SaveImage",
            },
        ),
    ],
    ids=["sd15", "sdxl-turbo", "flux-split"],
)
def test_each_kind_has_its_graph(weights: Weights, expected: dict[str, str]) -> None:
    assert classes(graph(weights)) == expected


def test_the_figures_stand_where_each_sampler_reads_them() -> None:
    classic = inputs(graph(Weights(Kind.SDXL, "m")), "sample")
    assert (classic["seed"], classic["steps"], classic["cfg"], classic["denoise"]) == (9, 4, 2.0, 1.0)
    turbo = graph(Weights(Kind.SDXL_TURBO, "m"), INPAINT)
    assert inputs(turbo, "schedule")["steps"] == 4
    assert inputs(turbo, "schedule")["denoise"] == 0.7
    assert (inputs(turbo, "sample")["noise_seed"], inputs(turbo, "sample")["cfg"]) == (9, 2.0)
    assert inputs(turbo, "sample")["latent_image"] == ["masked", 0]
    flux = graph(Weights(Kind.FLUX_SCHNELL, "m"))
    assert inputs(flux, "noise")["noise_seed"] == 9
    assert inputs(flux, "schedule")["steps"] == 4
    assert inputs(flux, "decode")["vae"] == ["weights", 2]
    assert inputs(flux, "guider")["conditioning"] == ["positive", 0]
    dev = graph(Weights(Kind.FLUX_DEV, "m"))
    assert dev["guidance"] == {"class_type": "FluxGuidance", "inputs": {"conditioning": ["positive", 0], "guidance": 2}}
    assert inputs(dev, "guider")["conditioning"] == ["guidance", 0]


@pytest.mark.parametrize(
    ("model", "architecture", "kind"),
    [
        ("sd_xl_turbo_1.0_fp16", "sdxl", Kind.SDXL_TURBO),
        ("sdxl-turbo", "", Kind.SDXL_TURBO),
        ("dreamshaper-xl", "sdxl", Kind.SDXL),
        ("v1-5-pruned-emaonly-fp16", "", Kind.SD15),
        ("dreamshaper-8", "sd15", Kind.SD15),
        ("flux1-schnell-fp8", "", Kind.FLUX_SCHNELL),
        ("my-own", "flux", Kind.FLUX_SCHNELL),
        ("my-own-schnell", "flux-dev", Kind.FLUX_DEV),
        ("flux1-krea-dev-fp8", "", Kind.FLUX_DEV),
        ("v1-5-pruned", "checkpoint", Kind.SD15),
    ],
)
def test_the_kind_follows_from_the_record_and_the_name(model: str, architecture: str, kind: Kind) -> None:
    assert kind_of(model, architecture) is kind


@pytest.mark.parametrize(("model", "architecture"), [("pixart", ""), ("my-sdxl-merge", "sd3")])
def test_a_model_without_a_graph_is_refused(model: str, architecture: str) -> None:
    with pytest.raises(Hal0Error, match="hal0 has graphs for") as caught:
        kind_of(model, architecture)
    assert caught.value.code == "config.invalid"


def test_a_model_that_is_not_looked_into_is_asked_for_a_name_that_says_what_it_is() -> None:
    with pytest.raises(Hal0Error, match="put sd15, sdxl or flux into it") as caught:
        kind_of("dreamshaper-8", "checkpoint")
    assert caught.value.code == "config.invalid"
    assert kind_of("dreamshaper-8-sd15", "checkpoint") is Kind.SD15


@pytest.mark.parametrize(
    ("files", "targets"),
    [
        (["m.safetensors"], ["checkpoints/flux-schnell/flux.safetensors"]),
        (["m.ckpt"], ["checkpoints/flux-schnell/flux.ckpt"]),
        (
            ["flux1.safetensors", "text_encoder_2.safetensors", "model.safetensors", "ae.safetensors"],
            [
                "diffusion_models/flux-schnell/flux.safetensors",
                "text_encoders/hal0/t5xxl.safetensors",
                "text_encoders/hal0/clip_l.safetensors",
                "vae/hal0/ae.safetensors",
            ],
        ),
    ],
)
def test_files_stand_where_the_engine_lists_them(files: list[str], targets: list[str]) -> None:
    mounts = mounts_of(launch("flux", *files))
    assert [mount.target.removeprefix("/var/lib/comfyui/models/") for mount in mounts] == targets
    assert all(mount.read_only for mount in mounts)
    folder, _, name = targets[0].partition("/")
    found = listed(["other/x.safetensors", name], "flux", folder)
    assert found == Weights(Kind.FLUX_SCHNELL, name, split=len(files) > 1)
    assert listed([name], "another", folder) is None


@pytest.mark.parametrize(
    ("device", "key", "visible", "flag"),
    [
        (Device.ROCM, "comfyui", "HIP_VISIBLE_DEVICES", False),
        (Device.CUDA, "comfyui", "CUDA_VISIBLE_DEVICES", False),
        (Device.CPU, "comfyui-cpu", None, True),
    ],
)
def test_a_start_follows_from_the_device(device: Device, key: str, visible: str | None, flag: bool) -> None:
    provider, start = ComfyUI(), launch("sd15", "m.safetensors", device=device)
    assert provider.image_key(device) == key
    env = provider.build_env(start)
    assert env["HSA_OVERRIDE_GFX_VERSION"] == "11.0.0"
    assert {name for name in env if name.endswith("VISIBLE_DEVICES")} == ({visible} if visible else set())
    argv = provider.start_cmd(start)
    assert ("--cpu" in argv) is flag
    assert argv[-1] == "--lowvram"
    assert argv[:4] == ["--listen", "0.0.0.0", "--port", "8080"]
    assert "--disable-metadata" in argv


def test_there_is_no_comfyui_for_vulkan() -> None:
    with pytest.raises(Hal0Error, match="set device to rocm, cuda or cpu"):
        ComfyUI().image_key(Device.VULKAN)


def roll() -> int:
    return 1000


def test_each_picture_is_a_shot_of_its_own() -> None:
    shots = shots_of(Wish(prompt="x", n=3, seed=MAX_SEED), RECIPES[Kind.SD15], "hal0/a", roll, None)
    assert [shot.seed for shot in shots] == [MAX_SEED, 0, 1]
    assert [shot.prefix for shot in shots] == ["hal0/a-0", "hal0/a-1", "hal0/a-2"]
    assert shots_of(Wish(prompt="x"), RECIPES[Kind.SD15], "p", roll, None)[0].seed == 1000


@pytest.mark.parametrize(
    ("kind", "quality", "steps"),
    [(Kind.SD15, 0, 15), (Kind.SD15, 2, 40), (Kind.SDXL_TURBO, 1, 2), (Kind.FLUX_DEV, 1, 20)],
)
def test_quality_is_steps(kind: Kind, quality: int, steps: int) -> None:
    (shot,) = shots_of(Wish(prompt="x", quality=quality), RECIPES[kind], "p", roll, None)
    assert shot.steps == steps


@pytest.mark.parametrize(
    ("kind", "size", "upload", "made"),
    [
        (Kind.SD15, None, None, (512, 512)),
        (Kind.FLUX_SCHNELL, None, None, (1024, 1024)),
        (Kind.SD15, (500, 260), None, (496, 256)),
        (Kind.FLUX_SCHNELL, (1000, 2048), None, (992, 2048)),
        (Kind.SD15, None, (4000, 1000), (1024, 256)),
        (Kind.SD15, None, (4096, 64), (2048, 64)),
        (Kind.SD15, (512, 512), (4000, 1000), (512, 512)),
    ],
)
def test_sizes_are_what_the_model_can_make(
    kind: Kind, size: tuple[int, int] | None, upload: tuple[int, int] | None, made: tuple[int, int]
) -> None:
    source = upload and Upload(image=b"", mask=None, width=upload[0], height=upload[1], strength=0.5)
    (shot,) = shots_of(Wish(prompt="x", size=size, upload=source or None), RECIPES[kind], "p", roll, None)
    assert (shot.width, shot.height) == made


@pytest.mark.parametrize(
    ("kind", "wish", "param"),
    [
        (Kind.FLUX_SCHNELL, Wish(prompt="x", negative="y"), "negative_prompt"),
        (Kind.FLUX_DEV, Wish(prompt="x", negative="y", cfg=4.0), "negative_prompt"),
        (Kind.SDXL_TURBO, Wish(prompt="x", negative="y"), "negative_prompt"),
        (Kind.SD15, Wish(prompt="x", negative="y", cfg=1.0), "negative_prompt"),
        (Kind.FLUX_SCHNELL, Wish(prompt="x", cfg=4.0), "cfg"),
    ],
)
def test_what_a_model_would_pass_over_is_refused(kind: Kind, wish: Wish, param: str) -> None:
    with pytest.raises(Hal0Error) as caught:
        shots_of(wish, RECIPES[kind], "p", roll, None)
    assert (caught.value.code, caught.value.param) == ("request.invalid", param)


@pytest.mark.parametrize(
    ("kind", "wish", "cfg"),
    [
        (Kind.SDXL_TURBO, Wish(prompt="x", negative="y", cfg=2.0), 2.0),
        (Kind.SDXL_TURBO, Wish(prompt="x"), 1.0),
        (Kind.FLUX_DEV, Wish(prompt="x"), 3.5),
        (Kind.FLUX_SCHNELL, Wish(prompt="x"), None),
    ],
)
def test_how_closely_the_prompt_is_followed(kind: Kind, wish: Wish, cfg: float | None) -> None:
    (shot,) = shots_of(wish, RECIPES[kind], "p", roll, None)
    assert shot.cfg == cfg
