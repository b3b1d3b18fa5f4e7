"""Image models in several files, found together over real files wherever they lie, and taken away again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hal0.errors import Hal0Error
from hal0.models.registry import Registry
from hal0.models.split import Role, role_of
from hal0.vocab import Capability
from tests.unit.models.test_content import tensors

Shapes = Mapping[str, tuple[int, ...]]


def unet(text: int = 6, vector: int = 3, latent: int = 2, prefix: str = "") -> Shapes:
    shapes: dict[str, tuple[int, ...]] = {
        "double_blocks.0.img_attn.norm.key_norm.scale": (2,),
        "txt_in.weight": (2, text),
        "vector_in.in_layer.weight": (2, vector),
        "img_in.weight": (2, latent * 4),
    }
    return {prefix + name: shape for name, shape in shapes.items()}


def t5(width: int = 6, words: int = 2) -> Shapes:
    return {"shared.weight": (words, width), "encoder.final_layer_norm.weight": (width,)}


def clip(width: int = 3) -> Shapes:
    return {
        "text_model.embeddings.token_embedding.weight": (2, width),
        "text_model.final_layer_norm.weight": (width,),
    }


def vae(latent: int = 2, size: int = 2) -> Shapes:
    return {"decoder.conv_in.weight": (size, latent, 3, 3), "decoder.conv_out.weight": (3, 2, 3, 3)}


def put(folder: Path, **files: Shapes) -> None:
    """Each as NAME.safetensors; `__` in a name is the folder's end."""
    for name, shapes in files.items():
        path = folder / f"{name.replace('__', '/')}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tensors(dict(shapes)))


def registry(tmp_path: Path, *roots: Path) -> Registry:
    found = Registry(tmp_path / "store", roots, tmp_path / "registry.toml")
    found.scan()
    return found


def names(tmp_path: Path, found: Registry, model: str) -> list[str]:
    return [path.relative_to(tmp_path).as_posix() for path in found.require(model).files]


COMFYUI: Final[dict[str, Shapes]] = {
    "diffusion_models__flux1-schnell": unet(),
    "text_encoders__t5xxl_fp8": t5(),
    "text_encoders__clip_l": clip(),
    "vae__ae": vae(),
}


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        (unet(), (Role.UNET, (6, 3, 2))),
        (unet(4096, 768, 16, prefix="model.diffusion_model."), (Role.UNET, (4096, 768, 16))),
        (t5(), (Role.T5, (6,))),
        (clip(), (Role.CLIP, (3,))),
        (vae(), (Role.VAE, (2,))),
        ({"shared.weight": (2, 6)}, None),  # the first of two files
        ({"double_blocks.0.img_attn.norm.key_norm.scale": (2,), "txt_in.weight": (2, 6)}, None),  # not Flux
        ({"decoder.conv_in.weight": (2, 2, 1, 3, 3), "decoder.conv_out.weight": (1,)}, None),  # of films
        ({}, None),
    ],
)
def test_what_a_file_is_its_tensors_say(shapes: Shapes, said: object) -> None:
    assert role_of(shapes) == said


@given(
    st.dictionaries(
        st.sampled_from([*unet(), *unet(prefix="model.diffusion_model."), *t5(), *clip(), *vae()]),
        st.lists(st.integers(0, 1 << 47), max_size=16).map(tuple),
    )
)
@settings(deadline=None)
def test_shapes_that_no_network_has_are_no_mistake_of_hal0_s(shapes: Shapes) -> None:
    found = role_of(shapes)
    assert found is None or len(found[1]) == (3 if found[0] is Role.UNET else 1)


def test_comfyui_s_own_folders_are_one_model(tmp_path: Path) -> None:
    """In the order that the engine's provider places them by, whatever their names sort like."""
    root = tmp_path / "ComfyUI" / "models"
    put(root, **COMFYUI)

    found = registry(tmp_path, root)

    (entry,) = found.entries()
    assert (entry.id, entry.format, entry.architecture) == ("flux1-schnell", "safetensors", "flux")
    assert entry.capabilities == {Capability.IMAGE}
    assert entry.size_bytes == sum(path.stat().st_size for path in root.rglob("*.safetensors"))
    assert names(root, found, "flux1-schnell") == [
        "diffusion_models/flux1-schnell.safetensors",
        "text_encoders/t5xxl_fp8.safetensors",
        "text_encoders/clip_l.safetensors",
        "vae/ae.safetensors",
    ]
    assert found.problems() == ()


def test_files_called_anything_are_known_by_their_content(tmp_path: Path) -> None:
    put(tmp_path / "store" / "mine", d=clip(), c=t5(), b=vae(), a=unet())

    assert names(tmp_path / "store" / "mine", registry(tmp_path), "a") == [f"{it}.safetensors" for it in "acdb"]


def test_two_networks_share_the_rest(tmp_path: Path) -> None:
    put(tmp_path / "store", **COMFYUI, unet__other=unet())

    found = registry(tmp_path)

    assert {entry.id for entry in found.entries()} == {"flux1-schnell", "other"}
    assert found.require("other").files[1:] == found.require("flux1-schnell").files[1:]


def test_of_several_that_fit_the_nearest_is_used_then_the_one_that_is_called_so_then_the_smallest(
    tmp_path: Path,
) -> None:
    store = tmp_path / "store"
    put(store, **COMFYUI, text_encoders__t5xxl_fp16=t5(words=9), vae__sd3=vae(size=1), own__ae=vae())

    found = registry(tmp_path)
    assert names(store, found, "flux1-schnell")[1::2] == ["text_encoders/t5xxl_fp8.safetensors", "own/ae.safetensors"]

    put(store, diffusion_models__ae=vae())
    found.scan()
    assert names(store, found, "flux1-schnell")[3] == "diffusion_models/ae.safetensors"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"vae__ae": vae(latent=4)}, "ae"),  # of Stable Diffusion
        ({"text_encoders__clip_l": clip(width=5)}, "clip_l"),
        ({"text_encoders__t5xxl_fp8": {"shared.weight": (2, 6)}}, "t5xxl"),
    ],
)
def test_what_is_missing_is_said_with_where_to_put_it(tmp_path: Path, changed: dict[str, Shapes], said: str) -> None:
    put(tmp_path / "root", **{**COMFYUI, **changed})

    found = registry(tmp_path, tmp_path / "root")

    assert found.entries() == ()
    with pytest.raises(Hal0Error, match=rf"\({said}\) that fits it is not here; put it into the models folder") as e:
        found.require("flux1-schnell")
    assert e.value.code == "model.not_downloaded"


def test_a_piece_that_no_network_uses_is_no_model(tmp_path: Path) -> None:
    put(tmp_path / "store", clip_l=clip())

    [problem] = registry(tmp_path).problems()

    assert (problem.path.name, problem.code) == ("clip_l.safetensors", "model.not_found")


def test_a_network_that_takes_guidance_is_another_architecture(tmp_path: Path) -> None:
    guided = {**unet(prefix="model.diffusion_model."), "model.diffusion_model.guidance_in.in_layer.weight": (2, 2)}
    put(tmp_path / "store", **COMFYUI, unet__mine=guided)

    found = registry(tmp_path)

    assert (found.require("mine").architecture, len(found.require("mine").files)) == ("flux-dev", 4)
    assert found.require("flux1-schnell").architecture == "flux"


def test_an_encoder_that_is_cut_into_files_is_said_to_be_that(tmp_path: Path) -> None:
    parts = {f"t5-0000{n}-of-00002": {"shared.weight": (2, 6)} for n in (1, 2)}
    put(tmp_path / "store", **{name: it for name, it in COMFYUI.items() if "t5" not in name}, **parts)

    *cut, network = sorted(registry(tmp_path).problems(), key=lambda it: it.path.name.startswith("flux"))

    assert "a T5 text encoder in one file (t5xxl) that fits it is not here" in network.message
    assert ["cut into several files" in it.message for it in cut if "t5" in it.path.name] == [True, True]


def test_what_models_share_goes_with_the_last_of_them(tmp_path: Path) -> None:
    store, root = tmp_path / "store", tmp_path / "root"
    put(store, **{name: shapes for name, shapes in COMFYUI.items() if name != "vae__ae"}, unet__other=unet())
    put(root, vae__ae=vae())
    found = registry(tmp_path, root)
    size = found.require("other").files[0].stat().st_size

    assert found.delete("other") == size
    assert len(found.require("flux1-schnell").files) == 4

    found.delete("flux1-schnell")
    assert found.entries() == ()
    assert list(store.rglob("*")) == []
    assert (root / "vae" / "ae.safetensors").exists()  # not hal0's


def test_a_folder_that_leads_to_another_program_s_keeps_its_files(tmp_path: Path) -> None:
    store, root = tmp_path / "store", tmp_path / "root"
    put(store, flux=unet(), clip_l=clip(), ae=vae())
    put(root, t5xxl=t5())
    (store / "text_encoders").symlink_to(root)
    (store / "t5.safetensors").symlink_to(root / "t5xxl.safetensors")
    found = registry(tmp_path)

    found.delete("flux")

    assert (root / "t5xxl.safetensors").exists()
