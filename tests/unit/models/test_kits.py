"""Models that are folders, image models, and other programs' folders, found by the registry over real files."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from hal0.errors import Hal0Error
from hal0.models.entry import ModelEntry
from hal0.models.kits import checkpoint, recognise
from hal0.models.records import ModelRecord
from hal0.models.registry import Registry
from hal0.vocab import Capability, ModelId
from tests.tiny import gguf_models
from tests.unit.models.test_content import ORT, PICKLE, PIECES, onnx, tensors, voices


def registry(tmp_path: Path, *roots: Path, allow_pickle: bool = False) -> Registry:
    found = Registry(tmp_path / "store", roots, tmp_path / "registry.toml", allow_pickle=allow_pickle)
    found.scan()
    return found


def moonshine(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in ("encoder_model.onnx", "decoder_model_merged.onnx"):
        (folder / name).write_bytes(onnx())
    (folder / "tokenizer.json").write_text("{}")
    (folder / "README.md").write_text("words")
    return folder


def kokoro(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "kokoro-v1.0.onnx").write_bytes(onnx())
    voices(folder / "voices-v1.0.bin", af_heart=np.zeros((510, 1, 256), "f4"))
    return folder


def only(found: Registry) -> ModelEntry:
    (entry,) = found.entries()
    return entry


def test_a_folder_for_speech_recognition_is_one_model(tmp_path: Path) -> None:
    folder = moonshine(tmp_path / "store" / "Moonshine Tiny")

    entry = only(registry(tmp_path))

    assert entry.id == "moonshine-tiny"
    assert entry.directory == folder
    assert [path.name for path in entry.files] == ["encoder_model.onnx", "decoder_model_merged.onnx", "tokenizer.json"]
    assert entry.size_bytes == sum(path.stat().st_size for path in entry.files)
    assert (entry.format, entry.architecture) == ("onnx", "moonshine")
    assert entry.capabilities == {Capability.STT}


def test_a_folder_for_speech_is_one_model(tmp_path: Path) -> None:
    kokoro(tmp_path / "store" / "kokoro-v1.0")

    entry = only(registry(tmp_path))

    assert entry.id == "kokoro-v1.0"
    assert entry.files[0].name == "kokoro-v1.0.onnx"
    assert entry.architecture == "kokoro"
    assert entry.capabilities == {Capability.TTS}


def test_a_folder_of_moonshines_newer_library_is_one_model(tmp_path: Path) -> None:
    folder = tmp_path / "store" / "tiny-ja"
    folder.mkdir(parents=True)
    for name in ("encoder_model.ort", "decoder_model_merged.ort"):
        (folder / name).write_bytes(ORT)
    (folder / "tokenizer.bin").write_bytes(PIECES)

    entry = only(registry(tmp_path))

    assert (entry.id, entry.format, entry.architecture) == ("tiny-ja", "ort", "moonshine")
    assert [path.name for path in entry.files] == ["encoder_model.ort", "decoder_model_merged.ort", "tokenizer.bin"]


def test_a_folder_for_cloned_voices_is_one_model_with_its_clips(tmp_path: Path) -> None:
    folder = tmp_path / "store" / "f5"
    for name, content in {
        "model_1250000.safetensors": tensors({"x": (2, 3)}),
        "vocab.txt": b" \na\n",
        "vocos/model.safetensors": tensors({"x": (2, 3)}),
        "vocos/config.yaml": b"head:\n  class_path: os.system\n",  # which nobody reads
        "voices/anna.wav": b"RIFF\x24\0\0\0WAVEfmt ",
        "voices/anna.txt": b"Here I am.",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    entry = only(registry(tmp_path))

    assert (entry.id, entry.architecture) == ("f5", "f5-tts")
    assert entry.files[0].name == "model_1250000.safetensors"
    assert folder / "voices" / "anna.wav" in entry.files
    assert folder / "vocos" / "config.yaml" not in entry.files


def test_what_has_no_recipe_is_no_kit() -> None:
    assert recognise(["model.onnx", "config.json"]) is None
    assert recognise(["encoder_model.onnx"]) is None


def test_a_folder_with_a_pickle_in_it_is_refused_whole(tmp_path: Path) -> None:
    (kokoro(tmp_path / "store" / "k") / "extra.pth").write_bytes(PICKLE)

    with pytest.raises(Hal0Error) as caught:
        registry(tmp_path).require("k")

    assert caught.value.code == "model.unsafe_format"
    assert "extra.pth" in caught.value.message
    assert only(registry(tmp_path, allow_pickle=True)).id == "k"


def test_a_damaged_part_is_named_and_seen_again_when_it_is_mended(tmp_path: Path) -> None:
    folder = moonshine(tmp_path / "store" / "m")
    decoder = folder / "decoder_model_merged.onnx"
    decoder.write_bytes(onnx()[:-1])
    found = registry(tmp_path)

    with pytest.raises(Hal0Error, match=r"decoder_model_merged\.onnx.*truncated") as caught:
        found.require("m")
    decoder.write_bytes(onnx(version=9))
    found.scan()

    assert caught.value.code == "model.checksum"
    assert found.require("m").directory == folder


def test_a_record_names_the_folder_that_it_was_pulled_into(tmp_path: Path) -> None:
    moonshine(tmp_path / "store" / "x" / "float")
    found = registry(tmp_path)

    found.remember(ModelRecord(id=ModelId("moonshine-tiny"), files=("x/float/encoder_model.onnx",), license="mit"))

    assert (only(found).id, only(found).license) == ("moonshine-tiny", "mit")


FLUX = ("model.diffusion_model.double_blocks.0.x", "text_encoders.t5xxl.x", "vae.x")


@pytest.mark.parametrize(
    ("names", "family"),
    [
        (("model.diffusion_model.input_blocks.0.0.weight", "cond_stage_model.transformer.x"), "sd15"),
        (("model.diffusion_model.input_blocks.0.0.weight", "cond_stage_model.model.x"), "sd2"),
        (("model.diffusion_model.input_blocks.0.0.weight", "conditioner.embedders.1.model.x"), "sdxl"),
        (FLUX, "flux"),
        ((*FLUX, "model.diffusion_model.guidance_in.in_layer.weight"), "flux-dev"),
        (("model.diffusion_model.double_blocks.0.x", "vae.x"), None),
        (("double_blocks.0.img_attn.proj.bias",), None),
        (("model.diffusion_model.joint_blocks.0.x",), "sd3"),
        (("model.layers.0.self_attn.q_proj.weight",), None),
        (("first_stage_model.decoder.conv_in.bias",), None),
    ],
)
def test_families_of_image_models_by_their_tensors(names: tuple[str, ...], family: str | None) -> None:
    assert checkpoint(dict.fromkeys(names, (1,))) == family


def test_an_image_model_is_found_and_other_tensors_are_not_models(tmp_path: Path) -> None:
    store, root = tmp_path / "store", tmp_path / "root"
    for folder in (store, root):
        folder.mkdir()
        (folder / "part.safetensors").write_bytes(tensors({"model.layers.0.weight": (2, 2)}))
    drawing = tensors({"model.diffusion_model.input_blocks.0.0.weight": (2,), "cond_stage_model.transformer.x": (2,)})
    (store / "v1-5.safetensors").write_bytes(drawing)

    found = registry(tmp_path, root)

    entry = only(found)
    assert (entry.id, entry.format, entry.architecture) == ("v1-5", "safetensors", "sd15")
    assert entry.capabilities == {Capability.IMAGE}
    assert entry.directory is None
    assert [(problem.path, problem.code) for problem in found.problems()] == [
        (store / "part.safetensors", "model.not_found")  # of other programs' folders nothing is said
    ]


def test_pickles_in_the_store_are_problems_and_elsewhere_nobody_s_business(tmp_path: Path) -> None:
    store, root = tmp_path / "store", tmp_path / "root"
    for folder in (store, root):
        folder.mkdir()
        (folder / "v1.ckpt").write_bytes(PICKLE)

    found = registry(tmp_path, root)

    assert [(problem.path.parent, problem.code) for problem in found.problems()] == [(store, "model.unsafe_format")]
    assert only(registry(tmp_path, root, allow_pickle=True)).files == (store / "v1.ckpt",)


# ---- other programs' folders ----


def test_the_hub_s_cache_shows_the_revision_that_main_is(tmp_path: Path) -> None:
    cache = tmp_path / "hub"
    repository = cache / "models--Acme--Speech"
    for revision in ("aaaaaaa", "bbbbbbb"):
        snapshot = repository / "snapshots" / revision
        moonshine(snapshot / "onnx" / "merged" / "tiny" / "float")
        blob = repository / "blobs" / revision
        blob.parent.mkdir(exist_ok=True)
        shutil.move(gguf_models.write_chat(tmp_path / "m.gguf", seed=int(revision[0] == "a")), blob)
        (snapshot / "Chat-Q4_K_M.gguf").symlink_to(os.path.relpath(blob, snapshot))
        (snapshot / "pytorch_model.bin.pt").write_bytes(PICKLE)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("aaaaaaa")

    found = registry(tmp_path, cache)

    assert [entry.id for entry in found.entries()] == ["chat-q4_k_m", "speech-tiny-float"]
    assert all("aaaaaaa" in str(entry.files[0]) for entry in found.entries())
    assert found.problems() == ()


def test_a_hub_s_cache_without_a_main_shows_the_last_revision(tmp_path: Path) -> None:
    snapshots = tmp_path / "hub" / "models--a--b" / "snapshots"
    for age, revision in enumerate(("newer00", "older00")):
        (snapshots / revision).mkdir(parents=True)
        gguf_models.write_chat(snapshots / revision / "m.gguf")
        os.utime(snapshots / revision, (1_000_000 - age, 1_000_000 - age))

    assert "newer00" in str(only(registry(tmp_path, tmp_path / "hub")).files[0])


def ollama(root: Path, name: str, **layers: Path) -> None:
    items: list[dict[str, str]] = []
    for kind, path in layers.items():
        digest = f"{len(items):064x}"
        (root / "blobs").mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / "blobs" / f"sha256-{digest}")
        items.append({"mediaType": f"application/vnd.ollama.image.{kind}", "digest": f"sha256:{digest}"})
    manifest = root / "manifests" / "registry.example" / "library" / name
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text(json.dumps({"layers": items}))


def test_ollama_s_blobs_have_the_names_of_its_manifests(tmp_path: Path) -> None:
    root = tmp_path / "ollama"
    ollama(root, "tiny/1b", model=gguf_models.write_chat(tmp_path / "m.gguf"))

    entry = only(registry(tmp_path, root))

    assert entry.id == "tiny-1b"
    assert entry.files == (root / "blobs" / f"sha256-{0:064x}",)


def test_ollama_s_projector_comes_with_its_model(tmp_path: Path) -> None:
    root = tmp_path / "ollama"
    chat, eye = gguf_models.write_chat(tmp_path / "m.gguf"), gguf_models.write_mmproj(tmp_path / "e.gguf")
    ollama(root, "seeing/latest", model=chat, projector=eye)

    entry = only(registry(tmp_path, root))

    assert entry.id == "seeing"
    assert entry.mmproj == root / "blobs" / f"sha256-{1:064x}"
    assert Capability.VISION in entry.capabilities


@pytest.mark.parametrize("text", ["", "[]", '{"layers": [{"digest": 1}]}', '{"layers": 7}', "[" * 100_000])
def test_manifests_that_are_none_name_nothing(tmp_path: Path, text: str) -> None:
    root = tmp_path / "ollama"
    (root / "blobs").mkdir(parents=True)
    (root / "manifests").mkdir()
    (root / "manifests" / "m").write_text(text)

    assert registry(tmp_path, root).entries() == ()


def test_a_digest_that_leads_elsewhere_is_not_followed(tmp_path: Path) -> None:
    root = tmp_path / "ollama"
    ollama(root, "m/latest", model=gguf_models.write_chat(tmp_path / "m.gguf"))
    manifest = root / "manifests" / "registry.example" / "library" / "m" / "latest"
    manifest.write_text(manifest.read_text().replace(f"{0:064x}", "../../../etc/passwd"))

    assert registry(tmp_path, root).entries() == ()
