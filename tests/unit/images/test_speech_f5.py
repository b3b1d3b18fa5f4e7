"""F5-TTS behind the speech server: which files it needs, whose voice it clones, and what it is asked."""

import io
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.app import UnusableError
from serving.errors import Refusal
from speech import f5_backend
from speech.backend import RATE, Reference
from speech.f5_backend import F5Backend


class Model:
    """Notes how it is asked; the clip must be there while it is."""

    def __init__(self, rate: int = RATE) -> None:
        self.asked: list[tuple[bytes, str, str, float]] = []
        self._rate = rate

    def infer(self, clip: str, words: str, text: str, *, speed: float, **_more: Any) -> tuple[Any, int, None]:
        self.asked.append((Path(clip).read_bytes(), words, text, speed))
        return np.zeros(2560), self._rate, None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("model_1250000.safetensors", "vocab.txt", "vocos/config.yaml", "voices/anna.wav", "voices/mute.wav"):
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
    monkeypatch.setattr(f5_backend, "_open", lambda _found: model)
    monkeypatch.setattr(f5_backend, "decoded", lambda audio: np.full(len(audio), 0.5, dtype=np.float32))
    made = F5Backend(folder)
    made.load()
    assert "CC-BY-NC" in caplog.text
    return made


def frames(clip: bytes) -> int:
    with wave.open(io.BytesIO(clip)) as file:
        return int(file.getnframes())


def test_a_clip_without_its_words_is_no_voice(backend: F5Backend) -> None:
    assert backend.voices() == {"anna": "anna"}


@pytest.mark.parametrize("voice", ["anna", None])
def test_a_voice_of_the_folder_is_cloned_with_its_words(backend: F5Backend, model: Model, voice: str | None) -> None:
    spoken = backend.speaker(voice, None, "Hi.").say("Hi.", 1.5)
    assert spoken is not None
    assert (len(spoken.samples), spoken.input_tokens, spoken.output_tokens) == (2560, 3, 10)
    ((clip, *rest),) = model.asked
    assert rest == ["these are my words", "Hi.", 1.5]
    assert frames(clip) == len(b"RIFF anna")


def test_a_clip_that_a_request_brings_is_cloned_instead(backend: F5Backend, model: Model) -> None:
    backend.speaker("anna", Reference(b"mine", "mine"), "Hi.").say("Hi.", 1.0)
    clip, words, *_ = model.asked[0]
    assert (frames(clip), words) == (4, "mine")


def test_marks_alone_are_not_spoken(backend: F5Backend) -> None:
    assert backend.speaker(None, None, "...").say("...", 1.0) is None


def test_an_unknown_voice_is_answered_with_those_there_are(backend: F5Backend, folder: Path) -> None:
    with pytest.raises(Refusal, match="allowed: anna"):
        backend.speaker("bob", None, "Hi.")
    (folder / "voices" / "anna.txt").unlink()
    backend.load()
    with pytest.raises(Refusal, match="send ref_audio"):
        backend.speaker(None, None, "Hi.")


@pytest.mark.parametrize("missing", ["model_1250000.safetensors", "vocab.txt", "vocos/config.yaml"])
def test_a_file_that_is_missing_is_named(folder: Path, missing: str) -> None:
    assert f5_backend.is_f5(folder)
    (folder / missing).unlink()
    with pytest.raises(UnusableError, match=r"model_|" + missing):
        f5_backend.files(folder)
    assert f5_backend.is_f5(folder) == missing.startswith("vocos")


def test_another_rate_than_the_streams_is_a_fault_not_a_high_voice(folder: Path) -> None:
    speaker = f5_backend._Speaker(Model(rate=44_100), b"", "x")
    with pytest.raises(RuntimeError, match="44100"):
        speaker.say("Hi.", 1.0)
