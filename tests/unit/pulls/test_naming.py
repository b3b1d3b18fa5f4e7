"""What somebody means who names a model to pull, and which files of a repository that is."""

from pathlib import Path

import pytest

from hal0.errors import Hal0Error
from hal0.pulls.choosing import Choice, RemoteFile, choose, variants
from hal0.pulls.sources import HubSource, PathSource, Source, UrlSource, is_plain, source_of
from hal0.pulls.spans import Span, covers, cut, sound

HUB = "https://hub.example"


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("qwen3-4b", None),
        ("Qwen/Qwen3-4B-GGUF", HubSource("Qwen/Qwen3-4B-GGUF")),
        ("Qwen/Qwen3-4B-GGUF:Q4_K_M", HubSource("Qwen/Qwen3-4B-GGUF", quantisation="Q4_K_M")),
        ("a/b@v1.0/sub/m.gguf", HubSource("a/b", "v1.0", "sub/m.gguf")),
        ("hf:a/b", HubSource("a/b")),
        ("hf.co/a/b:Q8_0", HubSource("a/b", quantisation="Q8_0")),
        ("https://huggingface.co/a/b", HubSource("a/b")),
        ("https://huggingface.co/a/b/blob/main/x%20y.gguf?download=true", HubSource("a/b", "main", "x y.gguf")),
        (f"{HUB}/a/b/resolve/abc/m.gguf", HubSource("a/b", "abc", "m.gguf")),
        (f"{HUB}/a/b/tree/main", HubSource("a/b")),
        ("https://far.example/x/m.gguf?token=1", UrlSource("https://far.example/x/m.gguf?token=1")),
        ("/disk/m.gguf", PathSource(Path("/disk/m.gguf"))),
    ],
)
def test_names(text: str, source: Source | None) -> None:
    assert source_of(text, HUB) == source


@pytest.mark.parametrize(
    "text",
    ["a/b/../c.gguf", "a/b/.hidden/c.gguf", "https://far.example/", "https://far.example/.x", "ftp://far.example/m.gguf",
     "https://[far.example/m.gguf", "https://\u2100/m.gguf",
     "../a/b", "a/b@../x", "https://huggingface.co/a", f"{HUB}/a/b/resolve/main/..%2f..%2fx.gguf"],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(Hal0Error) as caught:
        source_of(text, HUB)
    assert caught.value.code == "request.invalid"


@pytest.mark.parametrize("path", ["", "/a", "a//b", "a/./b", "a/../b", ".a", "a\\b", "a\nb", "x" * 201, "a/"])
def test_paths_that_lead_elsewhere_or_hide(path: str) -> None:
    assert not is_plain(path)


def chosen(*paths: str, path: str | None = None, quant: str | None = None) -> Choice:
    return choose("Acme/Tiny", [RemoteFile(name, 1) for name in paths], path, quant)


def names(choice: Choice) -> list[str]:
    return [file.path for file in choice.files]


def test_a_quantisation_is_chosen_by_its_whole_word() -> None:
    there = ("Tiny-Q4_K_M.gguf", "Tiny-Q8_0.gguf", "Tiny-IQ4_K_M.gguf", "Tiny-F16.gguf")
    assert names(chosen(*there)) == ["Tiny-Q4_K_M.gguf"]
    assert names(chosen(*there, quant="q8_0")) == ["Tiny-Q8_0.gguf"]
    assert chosen(*there, quant="F16").model == "tiny-f16"
    with pytest.raises(Hal0Error, match="there are: Tiny-F16"):
        chosen(*there, quant="Q2_K")


def test_all_parts_and_the_projector_come_along() -> None:
    parts = [f"q4/Tiny-Q4_K_M-{n:05d}-of-00002.gguf" for n in (1, 2)]
    there = (*parts, "mmproj-Tiny-BF16.gguf", "mmproj-Tiny-F16.gguf", "Tiny-Q8_0.gguf")
    choice = chosen(*there)
    assert choice.model == "tiny-q4_k_m"
    assert names(choice) == [*parts, "mmproj-Tiny-F16.gguf"]
    assert names(chosen(*there, path=parts[1])) == parts


def test_a_file_that_is_named_is_that_file() -> None:
    there = ("Tiny-Q4_K_M.gguf", "Tiny-Q8_0.gguf", "mmproj-F16.gguf")
    assert names(chosen(*there, path="Tiny-Q8_0.gguf")) == ["Tiny-Q8_0.gguf"]


def test_a_folder_of_graphs_is_a_model_and_several_have_to_be_told_apart() -> None:
    graphs = ("encoder_model.onnx", "decoder_model_merged.onnx")
    there = [f"onnx/merged/{size}/float/{graph}" for size in ("tiny", "base") for graph in graphs]
    with pytest.raises(Hal0Error, match="onnx/merged/base/float, onnx/merged/tiny/float"):
        chosen(*there)
    choice = chosen(*there, "README.md", path="onnx/merged/base/float")
    assert (choice.model, choice.folder) == ("tiny-base-float", "onnx/merged/base/float")
    assert sorted(names(choice)) == sorted(there[2:])


def test_one_file_of_tensors_and_nothing_but_pickles() -> None:
    assert chosen("sd.safetensors", "vae/model.safetensors").model == "sd"
    with pytest.raises(Hal0Error) as caught:
        chosen("pytorch_model.bin", "README.md")
    assert caught.value.code == "model.unsafe_format"
    with pytest.raises(Hal0Error) as caught:
        chosen("README.md")
    assert caught.value.code == "model.not_found"


def test_names_that_lead_elsewhere_are_not_seen() -> None:
    with pytest.raises(Hal0Error) as caught:
        chosen("../m.gguf", "/m.gguf", "a/.x/m.gguf")
    assert caught.value.code == "model.not_found"


@pytest.mark.parametrize("size", [0, 1, 16 << 20, 33 << 20, 10**12])
def test_ranges_cover_a_file_once(size: int) -> None:
    spans = cut(size)
    assert sound(spans, size)
    assert len(spans) <= 4
    assert not sound(spans, size + 1)


def test_a_note_that_makes_no_sense_is_told() -> None:
    assert not sound([Span(0, 5, 4)], 4)
    assert not sound([Span(0, 0, 2), Span(3, 3, 4)], 4)
    assert not sound([Span(0, 0, 3), Span(2, 2, 4)], 4)


def test_a_content_range_is_exactly_what_was_asked_for() -> None:
    span = Span(0, 10, 20)
    assert covers("bytes 10-19/100", span, 100)
    for said in ("bytes 10-19/101", "bytes 0-19/100", "bytes 10-18/100", "bytes */100", ""):
        assert not covers(said, span, 100)


def test_an_address_may_end_in_its_digest_and_knows_its_neighbours() -> None:
    source = source_of("https://far.example/x/m-1.gguf?token=1#sha256=ab", HUB)
    assert source == UrlSource("https://far.example/x/m-1.gguf?token=1", "ab")
    assert source.beside("m 2.gguf") == "https://far.example/x/m%202.gguf?token=1"


def test_an_address_with_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(Hal0Error, match="a user or a password") as caught:
        source_of("https://me:secret@example.org/m.gguf", "https://hub")
    assert (caught.value.code, "secret" in str(caught.value.body())) == ("request.invalid", False)


def test_every_quantisation_of_a_repository_is_told_with_all_of_its_files() -> None:
    sizes = {
        "M-Q8_0.gguf": 80, "M-UD-IQ2_M.gguf": 20, "big/M-BF16-00002-of-00002.gguf": 100,
        "big/M-BF16-00001-of-00002.gguf": 100, "odd.gguf": 1, "mmproj-M-f16.gguf": 5, "mmproj-M-f32.gguf": 9,
        "README.md": 1, "../M-Q2_K.gguf": 1,
    }  # fmt: skip
    files = [RemoteFile(path, size) for path, size in sizes.items()]
    found = variants("Acme/Tiny", [*files, RemoteFile("M-Q4_K_M.gguf", None)])
    assert [(it.model, it.quantisation, it.size_bytes) for it in found] == [
        ("m-q4_k_m", "Q4_K_M", None), ("odd", "", 6), ("m-ud-iq2_m", "UD-IQ2_M", 25), ("m-q8_0", "Q8_0", 85),
        ("m-bf16", "BF16", 205),
    ]  # fmt: skip
    assert [file.path for file in found[-1].files] == [
        "big/M-BF16-00001-of-00002.gguf", "big/M-BF16-00002-of-00002.gguf", "mmproj-M-f16.gguf",
    ]  # fmt: skip
    assert variants("Acme/Tiny", [RemoteFile("config.json", 1)]) == []
    assert [it.model for it in variants("Acme/Tiny", [RemoteFile("model.gguf", 1)])] == ["tiny"]
