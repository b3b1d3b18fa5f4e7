"""F5-TTS behind the speech server: which files it needs, whose voice it clones, and what it is asked."""

import errno
import importlib
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from serving.app import UnusableError
from serving.errors import Refusal
from speech import f5_backend, f5_shape
from speech.backend import RATE, Reference, Samples
from speech.clips import decoded, voiced
from speech.f5_backend import F5Backend


class Model:
    """Notes how it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, str, str, float]] = []

    def speak(self, clip: Samples, words: str, text: str, speed: float) -> Samples:
        self.asked.append((len(clip), words, text, speed))
        return np.zeros(2560, dtype=np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("model_1250000.safetensors", "vocab.txt", "vocos/model.safetensors", "voices/anna.wav",
                 "voices/mute.wav"):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"RIFF anna" if name.endswith("anna.wav") else b"")
    (tmp_path / "voices" / "anna.txt").write_text("these are my words\n")
    return tmp_path


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def backend(folder: Path, model: Model, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> F5Backend:
    """A clip is as many seconds long as its file has bytes."""
    monkeypatch.setattr(f5_backend, "_open", lambda _found: model)
    monkeypatch.setattr(f5_backend, "decoded", lambda audio: np.full(len(audio) * RATE, 0.5, dtype=np.float32))
    made = F5Backend(folder)
    made.load()
    assert "CC-BY-NC" in caplog.text
    return made


class Player:
    """As much of PyAV as a clip needs: it notes which formats it may open, and plays one frame of this rate."""

    FFmpegError = OSError

    def __init__(self, rate: int, sample: float = 0.5) -> None:
        self.formats: list[str] = []
        self.frame = SimpleNamespace(sample_rate=rate, layout=SimpleNamespace(nb_channels=1), pts=0)
        self.played = SimpleNamespace(to_ndarray=lambda: np.full((1, RATE), sample, dtype=np.float32))

    def open(self, _file: Any, options: dict[str, str]) -> Any:
        self.formats = options["format_whitelist"].split(",")
        return nullcontext(SimpleNamespace(decode=lambda audio: [self.frame]))

    def AudioResampler(self, *_: Any) -> Any:
        return SimpleNamespace(resample=lambda frame: [self.played] if frame else [])


def test_a_clip_that_names_other_files_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", player := Player(48_000))
    assert len(decoded(b"#EXTM3U")) == RATE
    assert {"wav", "flac", "mp3", "ogg", "mov"} <= set(player.formats)
    assert not {"hls", "concat", "dash", "sdp"} & set(player.formats)


def test_a_clip_of_a_sample_a_second_is_not_blown_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", Player(1))
    with pytest.raises(Refusal, match="1 samples a second"):
        decoded(b"RIFF")


def test_a_clip_of_what_is_no_number_is_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", Player(48_000, float("nan")))
    assert not decoded(b"RIFF").any()


def test_a_clip_without_its_words_is_no_voice(backend: F5Backend) -> None:
    assert backend.voices() == {"anna": "anna"}


@pytest.mark.parametrize("voice", ["anna", None])
def test_a_voice_of_the_folder_is_cloned_with_its_words(backend: F5Backend, model: Model, voice: str | None) -> None:
    spoken = backend.speaker(voice, None, "Hi.").say("Hi.", 1.5)
    assert spoken is not None
    assert (len(spoken.samples), spoken.input_tokens, spoken.output_tokens) == (2560, 3, 10)
    assert model.asked == [(9 * RATE + RATE // 20, "these are my words. ", "Hi.", 1.5)]


@pytest.mark.parametrize(
    ("text", "words"), [("mine", "mine. "), ("Mine?", "Mine? "), ("Mine.", "Mine. "), ("我的。", "我的。")]
)
def test_a_clip_that_a_request_brings_is_cloned_instead(
    backend: F5Backend, model: Model, text: str, words: str
) -> None:
    backend.speaker("anna", Reference(b"mine", text), "Hi.").say("Hi.", 1.0)
    assert model.asked[0][:2] == (4 * RATE + RATE // 20, words)


@pytest.mark.parametrize(("words", "longest"), [("a" * 30, 67), ("a" * 300, 250), ("a", 40)])
def test_a_piece_is_no_longer_than_clip_and_speech_may_be_together(
    backend: F5Backend, words: str, longest: int
) -> None:
    assert backend.speaker(None, Reference(b"7 bytes", words), "Hi.").longest == longest


def test_a_clip_whose_words_are_not_written_down_yet_is_said_to_be_that(backend: F5Backend, folder: Path) -> None:
    (folder / "voices" / "anna.txt").write_text("\n")
    with pytest.raises(Refusal, match=r"voices/anna\.txt is empty"):
        backend.speaker("anna", None, "Hi.")


def test_marks_alone_are_not_spoken(backend: F5Backend) -> None:
    assert backend.speaker(None, None, "...").say("...", 1.0) is None


def test_an_unknown_voice_is_answered_with_those_there_are(backend: F5Backend, folder: Path) -> None:
    with pytest.raises(Refusal, match="allowed: anna"):
        backend.speaker("bob", None, "Hi.")
    (folder / "voices" / "anna.txt").unlink()
    backend.load()
    with pytest.raises(Refusal, match="send ref_audio"):
        backend.speaker(None, None, "Hi.")


@pytest.mark.parametrize("missing", ["model_1250000.safetensors", "vocab.txt", "vocos/model.safetensors"])
def test_a_file_that_is_missing_is_named(folder: Path, missing: str) -> None:
    assert f5_backend.is_f5(folder)
    (folder / missing).unlink()
    with pytest.raises(UnusableError, match=r"model_|" + missing):
        f5_backend.files(folder)
    assert f5_backend.is_f5(folder) == missing.startswith("vocos")


def test_a_vocoder_that_is_missing_is_said_with_the_line_that_makes_it(folder: Path) -> None:
    (folder / "vocos" / "model.safetensors").unlink()
    with pytest.raises(UnusableError, match=r"as a pickle, pytorch_model\.bin; .*-m speech\.unpickled /vocos$"):
        f5_backend.files(folder)


def unpickled(monkeypatch: pytest.MonkeyPatch, save_file: Callable[[object, Path], object]) -> ModuleType:
    """The module beside what only its image has."""
    torch = SimpleNamespace(tensors_of=lambda _file: {}, shapes_of=dict)
    monkeypatch.setitem(sys.modules, "speech.f5_model", torch)
    monkeypatch.setitem(sys.modules, "safetensors.torch", SimpleNamespace(save_file=save_file))
    monkeypatch.setattr(f5_shape, "vocoder", lambda _shapes, _file: {})
    monkeypatch.delitem(sys.modules, "speech.unpickled", raising=False)
    return importlib.import_module("speech.unpickled")


def test_a_vocoder_that_is_written_anew_is_there_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fills_the_disk(_tensors: object, file: Path) -> None:
        file.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(OSError, match="No space"):
        unpickled(monkeypatch, fills_the_disk).rewrite(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["pytorch_model.bin"]
    written = unpickled(monkeypatch, lambda _tensors, file: file.write_bytes(b"all")).rewrite(tmp_path)
    assert (written.name, written.read_bytes()) == ("model.safetensors", b"all")


def test_a_folder_without_the_published_vocoder_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnusableError, match=r"cannot find pytorch_model\.bin: run this in the folder that has it"):
        unpickled(monkeypatch, lambda _tensors, _file: None).rewrite(tmp_path)


def test_a_vocoder_as_it_is_published_is_taken_where_it_is_handed_over(folder: Path) -> None:
    (folder / "vocos" / "model.safetensors").rename(folder / "vocos" / "pytorch_model.bin")
    assert f5_backend.files(folder).vocoder.name == "pytorch_model.bin"


def loud(*seconds: float) -> Samples:
    """Silence and voice by turns."""
    parts = [np.full(round(s * RATE), 0.5 * (n % 2), dtype=np.float32) for n, s in enumerate(seconds)]
    return np.concatenate(parts)


def test_silence_around_the_words_is_no_part_of_the_voice() -> None:
    assert len(voiced(loud(20.0, 1.0, 3.0, 1.0, 30.0))) == 5 * RATE + RATE // 20


@pytest.mark.parametrize(
    ("sound", "said"),
    [(loud(3.0), "0.0 s"), (loud(3.0, 0.2), "0.2 s"), (loud(0.0, 12.5), "more than 12 s"), (loud(0.0), "0.0 s")],
)
def test_a_clip_that_is_no_use_is_refused_with_what_would_be(sound: Samples, said: str) -> None:
    with pytest.raises(Refusal, match=rf"{said} of sound; allowed: 0\.5 to 12 s") as refused:
        voiced(sound)
    assert refused.value.param == "ref_audio"


# Of the published networks, as far as their shapes are looked at.
BASE: f5_shape.Shapes = {
    "text_embed.text_embed.weight": (2546, 512),
    **{f"text_embed.text_blocks.{n}.dwconv.weight": (512, 1, 7) for n in range(4)},
    "input_embed.proj.weight": (1024, 712),
    **{f"transformer_blocks.{n}.attn.to_q.weight": (1024, 1024) for n in range(22)},
    "transformer_blocks.0.ff.ff.0.0.weight": (2048, 1024),
}
VOCOS: f5_shape.Shapes = {
    "backbone.embed.weight": (512, 100, 7),
    **{f"backbone.convnext.{n}.pwconv1.weight": (1536, 512) for n in range(8)},
    "head.out.weight": (1026, 512),
}


def test_a_networks_arguments_are_read_off_its_tensors() -> None:
    assert f5_shape.network(BASE, "model_1250000.safetensors") == {
        "dim": 1024, "depth": 22, "heads": 16, "ff_mult": 2, "text_dim": 512, "conv_layers": 4, "qk_norm": None,
        "text_mask_padding": True, "pe_attn_head": None, "mel_dim": 100,
    }  # fmt: skip
    before = f5_shape.network(BASE, "model_1200000.safetensors")
    assert (before["text_mask_padding"], before["pe_attn_head"]) == (False, 1)
    normed = {**BASE, "transformer_blocks.0.attn.q_norm.weight": (64,)}
    assert f5_shape.network(normed, "model_1.safetensors")["qk_norm"] == "rms_norm"


def test_a_vocoders_too() -> None:
    shape = {"input_channels": 100, "dim": 512, "intermediate_dim": 1536, "num_layers": 8}
    assert f5_shape.vocoder(VOCOS, "model.safetensors") == shape


@pytest.mark.parametrize(
    "changes",
    [
        {"input_embed.proj.weight": (1024, 700)},
        {"transformer_blocks.0.attn.to_q.weight": (1000, 1024)},
        {"transformer_blocks.0.ff.ff.0.0.weight": (2000, 1024)},
        {"transformer_blocks.999999999.attn.to_q.weight": (1024, 1024)},
        {"text_embed.text_embed.weight": (2546,)},
        {"input_embed.proj.weight": ()},
    ],
)
def test_tensors_of_something_else_make_no_network(changes: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(UnusableError, match=r"x\.safetensors holds"):
        f5_shape.network({**BASE, **changes}, "x.safetensors")


@pytest.mark.parametrize("changes", [{"head.out.weight": (642, 512)}, {"backbone.embed.weight": (512, 7, 100)}])
def test_tensors_of_something_else_make_no_vocoder(changes: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(UnusableError, match="is no vocoder for 100 bands at 24 kHz"):
        f5_shape.vocoder({**VOCOS, **changes}, "x.safetensors")
    with pytest.raises(UnusableError, match="holds no Vocos"):
        f5_shape.vocoder({}, "x.safetensors")
