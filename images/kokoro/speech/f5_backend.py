"""F5-TTS: speech in a voice that is cloned from a clip and the words that are said in it."""

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from serving.app import UnusableError
from serving.errors import Refusal, not_allowed
from speech.backend import RATE, Reference, Speaker, Spoken
from speech.clips import as_wav, decoded

log = logging.getLogger("speech")

# Its published weights are not free for every use, and whoever runs them must know.
LICENCE: Final = "F5-TTS: the published weights are CC-BY-NC-4.0: not for commercial use"
_SPEEDS: Final = (0.5, 2.0)
_FRAME: Final = 256  # samples of one frame of its spectrograms
_CLIPS: Final = (".wav", ".flac", ".mp3", ".ogg", ".m4a")


@dataclass(frozen=True, slots=True)
class F5Files:
    """`vocoder`: the directory of the vocos vocoder. `voices`: clips that have their words beside them, by name."""

    model: Path
    vocabulary: Path
    vocoder: Path
    voices: Mapping[str, Path]


def is_f5(directory: Path) -> bool:
    return any(directory.glob("model_*.safetensors")) and (directory / "vocab.txt").is_file()


def files(directory: Path) -> F5Files:
    """Raises UnusableError that says which file is missing."""
    models = sorted(directory.glob("model_*.safetensors"))
    if len(models) != 1:
        raise UnusableError(f"cannot load the model: one model_*.safetensors is needed, {len(models)} are there")
    vocoder = directory / "vocos"
    for needed in (directory / "vocab.txt", vocoder / "config.yaml"):
        if not needed.is_file():
            raise UnusableError(f"cannot load the model: {needed.relative_to(directory)} is missing")
    return F5Files(models[0], directory / "vocab.txt", vocoder, clips(directory / "voices"))


def clips(folder: Path) -> dict[str, Path]:
    """Clips by name; one whose words nobody wrote down (NAME.txt beside it) is no voice."""
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in _CLIPS)
    return {clip.stem: clip for clip in found if clip.with_suffix(".txt").is_file()}


class F5Backend:
    """One model; its voices are the clips of the model's folder, or what a request brings along."""

    speeds = _SPEEDS

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._voices: Mapping[str, Path] = {}
        self._model: Any = None

    def load(self) -> None:
        found = files(self._directory)
        log.warning(LICENCE)
        self._voices = found.voices
        self._model = _open(found)

    def voices(self) -> Mapping[str, str]:
        return {name: name for name in self._voices}

    def speaker(self, voice: str | None, reference: Reference | None, text: str) -> Speaker:
        if reference is not None:
            return self._cloning(reference)
        if not self._voices:
            said = "this model has no voice of its own: send ref_audio (base64) and ref_text (its words)"
            raise Refusal(400, said, param="ref_audio")
        clip = self._voices.get(voice or next(iter(self._voices)))
        if clip is None:
            raise not_allowed("voice", voice, (*self._voices, "or none, with ref_audio and ref_text"))
        return self._cloning(Reference(clip.read_bytes(), clip.with_suffix(".txt").read_text().strip()))

    def _cloning(self, reference: Reference) -> Speaker:
        return _Speaker(self._model, as_wav(decoded(reference.audio)), reference.text)


@dataclass(frozen=True, slots=True)
class _Speaker:
    model: Any
    clip: bytes  # WAV, the one format that its loader needs no program for
    words: str

    def say(self, piece: str, speed: float) -> Spoken | None:
        if not any(letter.isalnum() for letter in piece):
            return None
        with tempfile.NamedTemporaryFile(suffix=".wav") as file:  # it takes a path
            file.write(self.clip)
            file.flush()
            samples, rate, _ = self.model.infer(
                file.name, self.words, piece, speed=speed, show_info=log.debug, progress=None
            )
        if rate != RATE:
            raise RuntimeError(f"{rate} samples a second came, {RATE} were expected")
        sound = np.asarray(samples, dtype=np.float32)
        return Spoken(sound, len(piece.encode()), max(1, len(sound) // _FRAME))


def _open(found: F5Files) -> Any:
    from f5_tts.api import F5TTS

    return F5TTS(
        ckpt_file=str(found.model),
        vocab_file=str(found.vocabulary),
        vocoder_local_path=str(found.vocoder),
    )
